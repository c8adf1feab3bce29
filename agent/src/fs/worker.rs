//! The thread that an operation has to itself.
//!
//! It may wait: for the disk, for a pipe, for the host. The first two only as long as the host
//! is there, which it finds out between two steps and, where it waits for a descriptor, by a second
//! one (an eventfd) that the event loop writes to.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use msb_files::{Result, cancelled};
use msb_protocol::{
    FsAnswer, FsCall, FsFailure, FsFailureKind, FsPart, FsRequest, INITIAL_FS_WINDOW,
};
use rustix::event::{EventfdFlags, PollFd, PollFlags, eventfd, poll};
use rustix::io::{Errno, retry_on_intr};
use tokio::sync::mpsc;

/// The host is told of this much at the latest, as of a command's input.
const CREDIT_STEP: u32 = INITIAL_FS_WINDOW / 4;

/// Tells the worker, when it is dropped, that nobody waits for it.
#[derive(Debug)]
pub(super) struct Cancel {
    event: Arc<OwnedFd>,
}

impl Cancel {
    pub(super) fn new() -> io::Result<Self> {
        let event = eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?;
        Ok(Self {
            event: Arc::new(event),
        })
    }

    /// What becomes readable then.
    pub(super) fn listener(&self) -> Arc<OwnedFd> {
        Arc::clone(&self.event)
    }
}

impl Drop for Cancel {
    fn drop(&mut self) {
        // It cannot fail: the counter is at 0, and nobody else writes.
        let _ = rustix::io::write(&self.event, &1u64.to_ne_bytes());
    }
}

/// An operation's means: what it is told and what it tells.
#[derive(Debug)]
pub(super) struct Worker {
    parts: mpsc::Receiver<FsCall>,
    answers: mpsc::Sender<FsAnswer>,
    progress: Arc<AtomicU64>,
    cancelled: Arc<OwnedFd>,
    /// What the parts cost that were taken and not told of.
    owed: u32,
    /// What the part cost that is being worked on.
    current: u32,
}

impl Worker {
    pub(super) fn new(
        parts: mpsc::Receiver<FsCall>,
        answers: mpsc::Sender<FsAnswer>,
        progress: Arc<AtomicU64>,
        cancelled: Arc<OwnedFd>,
    ) -> Self {
        Self {
            parts,
            answers,
            progress,
            cancelled,
            owed: 0,
            current: 0,
        }
    }

    /// Does it, and says how that went.
    pub(super) fn run(mut self, request: FsRequest) {
        let last = self.perform(request).unwrap_or_else(FsAnswer::Failed);
        // Fails if nobody waits for it.
        let _ = self.answer(last);
    }

    /// Says something, once what was said before is on its way.
    pub(super) fn answer(&self, answer: FsAnswer) -> Result<()> {
        self.answers.blocking_send(answer).map_err(|_| cancelled())
    }

    /// Something was done. Fails if nobody waits for the rest.
    pub(super) fn step(&self) -> Result<()> {
        self.progress.fetch_add(1, Ordering::Relaxed);
        match self.answers.is_closed() {
            true => Err(cancelled()),
            false => Ok(()),
        }
    }

    /// The next part that the host sent; `None` when that was all. The part before it is done with.
    pub(super) fn next(&mut self) -> Result<Option<FsPart>> {
        self.owed = self.owed.saturating_add(self.current);
        self.current = 0;
        if self.owed >= CREDIT_STEP || (self.owed > 0 && self.parts.is_empty()) {
            self.answer(FsAnswer::Consumed(self.owed))?;
            self.owed = 0;
        }
        match self.parts.blocking_recv() {
            Some(FsCall::Part(part)) => {
                self.current = part.cost();
                Ok(Some(part))
            }
            Some(FsCall::Finish) => Ok(None),
            Some(_) => Err(FsFailure::new(
                FsFailureKind::InvalidArgument,
                "something else was asked in the middle of it",
            )),
            None => Err(cancelled()),
        }
    }

    /// Waits until `file` is ready for `what`, or nobody waits for that.
    pub(super) fn wait(&self, file: BorrowedFd<'_>, what: PollFlags) -> Result<()> {
        let mut both = [
            PollFd::from_borrowed_fd(file, what),
            PollFd::from_borrowed_fd(self.cancelled.as_fd(), PollFlags::IN),
        ];
        let waited = retry_on_intr(|| poll(&mut both, None));
        let [_, cancel] = &both;
        match waited {
            Ok(_) if cancel.revents().is_empty() => Ok(()),
            Ok(_) => Err(cancelled()),
            Err(errno) => Err(out_of(errno)),
        }
    }
}

fn out_of(errno: Errno) -> FsFailure {
    FsFailure {
        kind: msb_files::kind_of(errno),
        message: format!("waiting for the file failed: {errno}"),
        errno: Some(errno.raw_os_error()),
    }
}
