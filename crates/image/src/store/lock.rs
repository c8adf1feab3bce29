//! Locks: the kernel's `flock`, which ends with whoever holds it, with a deadline that it does not know itself.

use std::fs::{File, OpenOptions, TryLockError};
use std::io;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::Path;
use std::sync::mpsc;
use std::time::Duration;

use super::Store;
use super::error::{AtPath, StoreError};

/// How long the store's lock may be held by others. Those who name something need it for a few system
/// calls; who removes, for a few for each thing; who hashes an image again, for some seconds.
const LIMIT: Duration = Duration::from_secs(60);

/// The right to say what must stay: nothing is removed while it is held.
#[derive(Debug)]
pub(super) struct Shared {
    _file: File,
}

/// The right to remove: nobody says what must stay while it is held.
#[derive(Debug)]
pub(super) struct Exclusive {
    _file: File,
}

impl Store {
    pub(super) fn shared(&self) -> Result<Shared, StoreError> {
        self.locked(true).map(|file| Shared { _file: file })
    }

    pub(super) fn exclusive(&self) -> Result<Exclusive, StoreError> {
        self.locked(false).map(|file| Exclusive { _file: file })
    }

    fn locked(&self, shared: bool) -> Result<File, StoreError> {
        let path = self.layout.lock();
        let file = open(&path).at(&path)?;
        let tried = match shared {
            true => file.try_lock_shared(),
            false => file.try_lock(),
        };
        match tried {
            Ok(()) => return Ok(file),
            Err(TryLockError::WouldBlock) => {}
            Err(TryLockError::Error(error)) => return Err(StoreError::io(&path, error)),
        }
        let waiting = in_thread(file, shared).at(&path)?;
        match waiting.recv_timeout(LIMIT) {
            Ok(locked) => locked.at(&path),
            Err(_) => Err(StoreError::Busy {
                path,
                waited: LIMIT,
            }),
        }
    }
}

/// Opens a lock's file, and makes it where it is missing.
pub(super) fn open(path: &Path) -> io::Result<File> {
    OpenOptions::new()
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .mode(0o600)
        .open(path)
}

/// Locks a file in a thread of its own. Should nobody be there to receive it any more, it is let go at once.
pub(super) fn in_thread(file: File, shared: bool) -> io::Result<mpsc::Receiver<io::Result<File>>> {
    let (done, locked) = mpsc::channel();
    std::thread::Builder::new().spawn(move || {
        let result = match shared {
            true => file.lock_shared(),
            false => file.lock(),
        };
        let _ = done.send(result.map(|()| file));
    })?;
    Ok(locked)
}

/// Whether the open file is what is at the path: whoever had its lock before may have removed it.
pub(super) fn is_current(file: &File, path: &Path) -> bool {
    match (file.metadata(), std::fs::symlink_metadata(path)) {
        (Ok(ours), Ok(there)) => ours.ino() == there.ino() && ours.dev() == there.dev(),
        _ => false,
    }
}

/// Locks what is at the path, if it is free now and still there afterwards.
pub(super) fn try_own(file: File, path: &Path) -> io::Result<Option<File>> {
    match file.try_lock() {
        Ok(()) if is_current(&file, path) => Ok(Some(file)),
        Ok(()) | Err(TryLockError::WouldBlock) => Ok(None),
        Err(TryLockError::Error(error)) => Err(error),
    }
}
