//! An allocator that counts what its thread, and what all of the process, has taken and not given
//! back.
//!
//! Under the simulated network everything lives on one thread, so that is what connections hold;
//! over sockets of the system they are on many.
#![allow(dead_code, unreachable_pub, reason = "each test file uses its own part of this")]
#![allow(unsafe_code, reason = "a global allocator that counts cannot be written otherwise")]

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::sync::atomic::{AtomicIsize, Ordering};

thread_local! {
    static LIVE: Cell<isize> = const { Cell::new(0) };
    static MOST: Cell<isize> = const { Cell::new(0) };
}

/// Of all threads.
static EVERYWHERE: AtomicIsize = AtomicIsize::new(0);

/// Bytes that the process has allocated and not freed.
pub fn live_everywhere() -> u64 {
    EVERYWHERE.load(Ordering::Relaxed).try_into().unwrap_or(0)
}

/// Bytes that this thread has allocated and not freed.
pub fn live() -> isize {
    LIVE.get()
}

/// Bytes that are held from now on, at any moment and at the end.
pub struct Held(isize);

impl Held {
    pub fn from_now() -> Self {
        let live = live();
        MOST.set(live);
        Self(live)
    }

    pub fn most(&self) -> isize {
        MOST.get() - self.0
    }

    pub fn now(&self) -> isize {
        live() - self.0
    }
}

struct Counter;

fn count(bytes: isize) {
    EVERYWHERE.fetch_add(bytes, Ordering::Relaxed);
    // A thread that is ending has nothing left to count by.
    let _ = LIVE.try_with(|live| {
        let now = live.get() + bytes;
        live.set(now);
        let _ = MOST.try_with(|most| most.set(most.get().max(now)));
    });
}

// SAFETY: every call is passed on to the system's allocator unchanged.
unsafe impl GlobalAlloc for Counter {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        count(layout.size() as isize);
        // SAFETY: the caller keeps the contract of `alloc`, which is the same.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        count(-(layout.size() as isize));
        // SAFETY: the caller keeps the contract of `dealloc`, which is the same.
        unsafe { System.dealloc(pointer, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counter = Counter;
