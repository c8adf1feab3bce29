//! Waiting while somebody else does what we were about to do.

use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::time::{Duration, Instant};

use super::error::{AtPath, StoreError};
use super::lock;

/// How often the growth of somebody's file is told.
const GROWTH: Duration = Duration::from_millis(200);

/// Somebody else, in this process or another, is at it. Whoever it is holds a lock, which the kernel frees
/// should the process be killed.
#[derive(Debug)]
pub struct Elsewhere {
    freed: Receiver<io::Result<File>>,
    growing: PathBuf,
    over: bool,
}

impl Elsewhere {
    /// Somebody has locked `file`, and what grows meanwhile is at `growing`.
    pub(super) fn behind(file: File, growing: PathBuf) -> Result<Self, StoreError> {
        // Shared, so that any number can be told at once.
        let freed = lock::in_thread(file, true).at(&growing)?;
        Ok(Self {
            freed,
            growing,
            over: false,
        })
    }

    /// Waits until the other is done or gone, at most for `limit`: `true` then, and time to look again. `false`
    /// if the other is still at it; more can be waited. `progress` is told now and then how many bytes there are.
    ///
    /// # Errors
    ///
    /// [`Io`](StoreError::Io) when the host does not let us wait.
    pub fn wait(
        &mut self,
        limit: Duration,
        progress: &mut dyn FnMut(u64),
    ) -> Result<bool, StoreError> {
        let deadline = Instant::now() + limit;
        while !self.over {
            let left = deadline.saturating_duration_since(Instant::now());
            match self.freed.recv_timeout(left.min(GROWTH)) {
                Ok(freed) => {
                    self.over = true;
                    freed.map(drop).at(&self.growing)?;
                }
                // The thread told and we heard it before.
                Err(RecvTimeoutError::Disconnected) => self.over = true,
                Err(RecvTimeoutError::Timeout) if left.is_zero() => return Ok(false),
                Err(RecvTimeoutError::Timeout) => {
                    if let Some(bytes) = size(&self.growing) {
                        progress(bytes);
                    }
                }
            }
        }
        Ok(true)
    }
}

fn size(path: &Path) -> Option<u64> {
    std::fs::symlink_metadata(path)
        .ok()
        .map(|found| found.len())
}
