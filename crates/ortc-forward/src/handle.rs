use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Wake, Waker};

use crossbeam_channel::{Sender, TrySendError};

use crate::ForwarderCommand;

/// Wakes the thread of a forwarder, once per turn however often it is asked to.
#[derive(Debug)]
pub(crate) struct Wakeup {
    /// Set while a wake-up is on its way that no turn has answered yet.
    pending: AtomicBool,
    /// Set once the forwarder is to stop. A flag, not a command: a full queue cannot hold
    /// it up.
    stopping: AtomicBool,
    waker: Waker,
}

impl Wakeup {
    pub(crate) fn new(waker: Waker) -> Arc<Self> {
        Arc::new(Self { pending: AtomicBool::new(false), stopping: AtomicBool::new(false), waker })
    }

    /// Called by the thread before it looks at what may have come: whatever was pushed
    /// before a [`notify`](Self::notify) that this swap overwrites is seen afterwards.
    pub(crate) fn answer(&self) {
        self.pending.swap(false, Ordering::AcqRel);
    }

    pub(crate) fn is_stopping(&self) -> bool {
        self.stopping.load(Ordering::Acquire)
    }

    pub(crate) fn notify(&self) {
        if !self.pending.swap(true, Ordering::AcqRel) {
            self.waker.wake_by_ref();
        }
    }
}

impl Wake for Wakeup {
    fn wake(self: Arc<Self>) {
        self.notify();
    }
    fn wake_by_ref(self: &Arc<Self>) {
        self.notify();
    }
}

/// Why a command was not taken; it is handed back.
#[derive(Debug, thiserror::Error)]
pub enum SendCommandError {
    /// The forwarder has not kept up: try again later.
    #[error("the forwarder's command queue is full")]
    Full(Box<ForwarderCommand>),
    /// The forwarder has stopped, or its thread has died.
    #[error("the forwarder has stopped")]
    Stopped(Box<ForwarderCommand>),
}

/// Sends commands to a forwarder; clones may be used on any thread. When the last is
/// dropped, the forwarder stops as if it had been told to.
#[derive(Debug, Clone)]
pub struct ForwarderHandle {
    /// `None` only while being dropped, so that the forwarder is woken after the hang-up.
    commands: Option<Sender<ForwarderCommand>>,
    wakeup: Arc<Wakeup>,
}

impl ForwarderHandle {
    pub(crate) fn new(commands: Sender<ForwarderCommand>, wakeup: Arc<Wakeup>) -> Self {
        Self { commands: Some(commands), wakeup }
    }

    /// Commands that wait for the forwarder.
    pub fn waiting(&self) -> usize {
        self.commands.as_ref().map_or(0, Sender::len)
    }

    /// Queues a command and wakes the forwarder. Never blocks.
    ///
    /// # Errors
    /// [`SendCommandError`] hands the command back.
    pub fn send(&self, command: ForwarderCommand) -> Result<(), SendCommandError> {
        let Some(commands) = &self.commands else {
            return Err(SendCommandError::Stopped(Box::new(command)));
        };
        match commands.try_send(command) {
            Ok(()) => {
                self.wakeup.notify();
                Ok(())
            }
            Err(TrySendError::Full(back)) => Err(SendCommandError::Full(Box::new(back))),
            Err(TrySendError::Disconnected(back)) => Err(SendCommandError::Stopped(Box::new(back))),
        }
    }

    /// Makes the forwarder say BYE everywhere, close all sockets and stop, whatever still
    /// waits in its queue.
    pub fn stop(&self) {
        self.wakeup.stopping.store(true, Ordering::Release);
        self.wakeup.notify();
    }
}

impl Drop for ForwarderHandle {
    fn drop(&mut self) {
        self.commands = None;
        self.wakeup.notify();
    }
}
