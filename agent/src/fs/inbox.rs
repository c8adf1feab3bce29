//! From the host to the worker: what is to be written.
//!
//! It is the window of a command's standard input once more: the host may be ahead by so
//! many bytes, and is told as the worker takes them. A part costs something even if it
//! has no bytes, so the window bounds how many there are, and the queue never fills up before.

use std::cell::Cell;

use msb_protocol::{FS_PART_COST, FsCall, FsRequest, INITIAL_FS_WINDOW};
use tokio::sync::mpsc;

use crate::channel::ChannelError;

/// As many as the window holds, and the end.
const QUEUE: usize = (INITIAL_FS_WINDOW / FS_PART_COST) as usize + 1;

/// The event loop's end of it.
#[derive(Debug)]
pub(super) struct Inbox {
    queue: mpsc::Sender<FsCall>,
    /// What the host may still send.
    window: Cell<u32>,
    /// Whether more is to come.
    open: Cell<bool>,
}

impl Inbox {
    /// One for what `request` takes, and the worker's end of it.
    pub(super) fn new(request: &FsRequest) -> (Self, mpsc::Receiver<FsCall>) {
        let takes = matches!(request, FsRequest::Write { .. } | FsRequest::Import { .. });
        let (queue, worker) = mpsc::channel(QUEUE);
        let inbox = Self {
            queue,
            window: Cell::new(INITIAL_FS_WINDOW),
            open: Cell::new(takes),
        };
        (inbox, worker)
    }

    /// Takes what came.
    pub(super) fn push(&self, call: FsCall) -> Result<(), ChannelError> {
        if !self.open.get() {
            return Err(ChannelError::Unexpected(
                "there is nothing, or no more, to be written",
            ));
        }
        match &call {
            FsCall::Part(part) => {
                let Some(left) = self.window.get().checked_sub(part.cost()) else {
                    return Err(ChannelError::Unexpected(
                        "more was sent than the window allows",
                    ));
                };
                self.window.set(left);
            }
            _ => self.open.set(false),
        }
        match self.queue.try_send(call) {
            // The worker failed, and what it had to say is on its way.
            Ok(()) | Err(mpsc::error::TrySendError::Closed(_)) => Ok(()),
            Err(mpsc::error::TrySendError::Full(_)) => Err(ChannelError::Unexpected(
                "more was sent than the window allows",
            )),
        }
    }

    /// The worker has taken so much.
    pub(super) fn widen(&self, cost: u32) {
        self.window.update(|window| window.saturating_add(cost));
    }
}
