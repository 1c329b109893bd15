/// What the caches of all processors of this kind hold together, in bytes.
const CACHE_LINE: usize = 64;

/// Has the processor fetch a value from memory ahead of its use, without waiting for it.
///
/// It changes nothing, and costs about an instruction per 64 bytes. Whoever goes through many
/// connections, each of which has left the caches since it was seen last, waits for the memory of
/// one while the others could be on their way: several hundred nanoseconds each time. Does nothing
/// where the processor has no such instruction that stable Rust knows.
#[inline]
pub fn prefetch<T: ?Sized>(value: &T) {
    prefetch_front(value, size_of_val(value));
}

/// As [`prefetch`], but of the first `len` bytes of the value alone: there are only so many lines on
/// their way at once.
#[inline]
pub fn prefetch_front<T: ?Sized>(value: &T, len: usize) {
    let first = std::ptr::from_ref(value).cast::<u8>();
    let len = len.min(size_of_val(value));
    for offset in (0..len).step_by(CACHE_LINE) {
        line(first.wrapping_add(offset));
    }
    // A value does not begin where a line does.
    line(first.wrapping_add(len.saturating_sub(1)));
}

#[cfg(target_arch = "x86_64")]
#[allow(unsafe_code, reason = "the instruction has no safe form")]
#[inline]
fn line(at: *const u8) {
    use std::arch::x86_64::{_MM_HINT_T0, _mm_prefetch};
    // SAFETY: SSE is part of x86-64, and prefetching reads nothing that the program could see; an
    // address that is not mapped would be ignored.
    unsafe { _mm_prefetch::<_MM_HINT_T0>(at.cast()) }
}

#[cfg(not(target_arch = "x86_64"))]
#[inline]
fn line(_: *const u8) {}
