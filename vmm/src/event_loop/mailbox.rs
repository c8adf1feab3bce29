//! Messages from other threads to a loop: a bounded queue, and an eventfd that the loop watches.

use std::collections::VecDeque;
use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use rustix::event::{EventfdFlags, eventfd};

/// A message was not taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PostError {
    /// The loop has ended.
    #[error("the loop has ended")]
    Closed,
    /// As many messages wait as there may be.
    #[error("the loop has too many messages waiting")]
    Full,
}

#[derive(Debug)]
struct State<M> {
    messages: VecDeque<M>,
    closed: bool,
}

#[derive(Debug)]
struct Shared<M> {
    state: Mutex<State<M>>,
    event: std::os::fd::OwnedFd,
    bound: usize,
}

/// A loop's mailbox; clones share it.
#[derive(Debug)]
pub struct Mailbox<M>(Arc<Shared<M>>);

impl<M> Clone for Mailbox<M> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

impl<M> Mailbox<M> {
    /// A mailbox that holds at most `bound` messages that were offered.
    pub fn new(bound: usize) -> io::Result<Self> {
        let event = eventfd(0, EventfdFlags::NONBLOCK | EventfdFlags::CLOEXEC)?;
        Ok(Self(Arc::new(Shared {
            state: Mutex::new(State {
                messages: VecDeque::new(),
                closed: false,
            }),
            event,
            bound,
        })))
    }

    /// Leaves a message of a kind of which there are only ever a few, and wakes the loop.
    pub fn post(&self, message: M) -> Result<(), PostError> {
        self.push(message, usize::MAX)
    }

    /// Leaves a message of a kind that the guest can cause without end, if there is room.
    pub fn offer(&self, message: M) -> Result<(), PostError> {
        self.push(message, self.0.bound)
    }

    fn push(&self, message: M, bound: usize) -> Result<(), PostError> {
        let mut state = self.lock();
        if state.closed {
            return Err(PostError::Closed);
        }
        if state.messages.len() >= bound {
            return Err(PostError::Full);
        }
        state.messages.push_back(message);
        // One wake-up is enough for any number of messages that wait.
        if state.messages.len() == 1 {
            drop(state);
            // It fails only when the counter is full, and then the loop is awake.
            let _ = rustix::io::write(&self.0.event, &1u64.to_ne_bytes());
        }
        Ok(())
    }

    /// Takes all messages, and the wake-up with them.
    pub fn take(&self) -> VecDeque<M> {
        let _ = rustix::io::read(&self.0.event, &mut [0u8; 8]);
        std::mem::take(&mut self.lock().messages)
    }

    /// Refuses messages from now on, and drops those that wait: who waits for an answer to one sees
    /// its channel close.
    pub fn close(&self) {
        let dropped = {
            let mut state = self.lock();
            state.closed = true;
            std::mem::take(&mut state.messages)
        };
        drop(dropped);
    }

    fn lock(&self) -> MutexGuard<'_, State<M>> {
        // No code runs under the lock that could leave it half changed.
        self.0.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<M> AsFd for Mailbox<M> {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.event.as_fd()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::mpsc;

    #[test]
    fn bounded_and_in_order() {
        let mailbox = Mailbox::new(2).unwrap();
        assert_eq!(mailbox.offer(1), Ok(()));
        assert_eq!(mailbox.offer(2), Ok(()));
        assert_eq!(mailbox.offer(3), Err(PostError::Full));
        assert_eq!(mailbox.post(4), Ok(()));
        assert_eq!(mailbox.take(), [1, 2, 4]);
        assert_eq!(mailbox.offer(5), Ok(()));
        assert_eq!(mailbox.take(), [5]);
    }

    #[test]
    fn closing_lets_nobody_wait() {
        let mailbox = Mailbox::new(2).unwrap();
        let (answer, wait) = mpsc::sync_channel::<()>(1);
        mailbox.post(answer).unwrap();
        mailbox.close();
        assert!(wait.recv().is_err());
        let (answer, _wait) = mpsc::sync_channel::<()>(1);
        assert_eq!(mailbox.post(answer), Err(PostError::Closed));
    }
}
