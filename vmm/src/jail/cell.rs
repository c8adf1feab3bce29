//! A thread's cell: its own filter, and the word that it is in.
//!
//! ```text
//! main                                  thread
//! cell(role) ─────────────────────────▶ enter: applies its filter to itself
//! seal: waits for all of them ◀──────── says so, or why not
//!       applies its own filter
//! ```

use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::time::{Duration, Instant};

use super::JailError;
use super::seccomp::{Filter, FilterError};

/// How long threads may take to begin. It is for a host that does not run them at all.
const PATIENCE: Duration = Duration::from_secs(60);

type Entered = Result<(), FilterError>;

/// Goes with a thread, which enters it first of all.
#[derive(Debug)]
pub struct Cell {
    filter: Arc<Filter>,
    entered: Sender<Entered>,
}

impl Cell {
    /// Locks the calling thread in, for good. `false`: it could not be, and must end.
    #[must_use]
    pub fn enter(self) -> bool {
        let entered = self.filter.apply();
        let inside = entered.is_ok();
        // If nobody listens, the machine is over.
        let _ = self.entered.send(entered);
        inside
    }
}

/// All cells of a machine.
#[derive(Debug)]
pub(super) struct Cells {
    entered: Receiver<Entered>,
    enter: Sender<Entered>,
    given: usize,
}

impl Cells {
    pub(super) fn new() -> Self {
        let (enter, entered) = channel();
        Self {
            entered,
            enter,
            given: 0,
        }
    }

    pub(super) fn give(&mut self, filter: &Arc<Filter>) -> Cell {
        self.given += 1;
        Cell {
            filter: Arc::clone(filter),
            entered: self.enter.clone(),
        }
    }

    /// Waits until all that were given were entered.
    pub(super) fn wait(self) -> Result<(), JailError> {
        let Self {
            entered,
            enter,
            given,
        } = self;
        drop(enter);
        let deadline = Instant::now() + PATIENCE;
        for _ in 0..given {
            let left = deadline.saturating_duration_since(Instant::now());
            match entered.recv_timeout(left) {
                Ok(entered) => entered?,
                Err(RecvTimeoutError::Timeout | RecvTimeoutError::Disconnected) => {
                    return Err(JailError::Thread);
                }
            }
        }
        Ok(())
    }
}
