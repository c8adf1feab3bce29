//! Work on one thing by one at a time: a directory named by what is being made.
//!
//! The directory is its own lock, so it cannot be there without being locked for longer than it takes to see that
//! nobody is at it. What was in it when its maker was killed is of no use, since it cannot be gone on with.

use std::fs::{self, DirBuilder, File};
use std::io;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use super::error::{AtPath, StoreError};
use super::layout::UNPACK;
use super::turn::Elsewhere;
use super::{Store, claim, durable, lock};
use crate::Digest;

/// The file whose growth shows that the work goes on.
pub(super) const GROWING: &str = "data";

/// How long somebody's work may stand still: a slow disk takes its time to sync what was written.
const STALL: Duration = Duration::from_secs(300);

/// A directory in which we alone work. Dropping it deletes it, unless it was renamed.
#[derive(Debug)]
pub(super) struct WorkDir {
    path: PathBuf,
    _lock: File,
}

impl WorkDir {
    /// A name in it.
    pub(super) fn join(&self, name: &str) -> PathBuf {
        self.path.join(name)
    }

    /// Where it is.
    pub(super) fn path(&self) -> &Path {
        &self.path
    }
}

impl Drop for WorkDir {
    fn drop(&mut self) {
        // Should it not go, whoever comes next finds its lock free.
        let _ = durable::remove_dir(&self.path);
    }
}

impl Store {
    /// Begins to work on what is called by this digest, or waits until somebody else who is at it has ended:
    /// `None` then, and time to look again.
    pub(super) fn begin_work(&self, digest: &Digest) -> Result<Option<WorkDir>, StoreError> {
        let path = self.layout.tmp().join(digest.hex() + UNPACK);
        loop {
            match DirBuilder::new().mode(0o700).create(&path) {
                Err(error) if error.kind() != io::ErrorKind::AlreadyExists => {
                    return Err(StoreError::io(&path, error));
                }
                _ => {}
            }
            if let Some(lock) = claim::own_dir(&path)? {
                let work = WorkDir { path, _lock: lock };
                work.clear()?;
                return Ok(Some(work));
            }
            let Some(dir) = durable::found(File::open(&path)).at(&path)? else {
                continue;
            };
            if lock::is_current(&dir, &path) {
                let mut elsewhere = Elsewhere::behind(dir, path.join(GROWING))?;
                wait_while_it_grows(&mut elsewhere, &path)?;
                return Ok(None);
            }
        }
    }
}

impl WorkDir {
    /// Deletes what was left in it.
    fn clear(&self) -> Result<(), StoreError> {
        for entry in fs::read_dir(&self.path).at(&self.path)? {
            let path = entry.at(&self.path)?.path();
            durable::remove_file(&path)?;
        }
        Ok(())
    }
}

fn wait_while_it_grows(elsewhere: &mut Elsewhere, path: &Path) -> Result<(), StoreError> {
    let mut grown = 0;
    let mut since = Instant::now();
    loop {
        let mut now = grown;
        if elsewhere.wait(Duration::from_secs(1), &mut |bytes| now = bytes)? {
            return Ok(());
        }
        if now != grown {
            grown = now;
            since = Instant::now();
        } else if since.elapsed() > STALL {
            return Err(StoreError::Busy {
                path: path.to_path_buf(),
                waited: since.elapsed(),
            });
        }
    }
}
