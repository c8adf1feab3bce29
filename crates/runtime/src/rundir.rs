//! The run directory: what exists on disk while one sandbox runs.
//!
//! `<home>/run/<id>/` holds `lock`, `control.sock`, `vsock.sock` and `metrics`. The id is short
//! and made from the name, since a Unix socket's path may have 107 bytes only.
//!
//! A run is alive for as long as `lock` is locked. The supervisor takes the lock
//! before anything else and hands a duplicate to the VMM, so the kernel drops it when
//! both are gone, however they went. A directory whose lock is free is
//! nobody's, and whoever finds it may remove it, under the lock.
//!
//! Looking whether a lock is free, or waiting for that, means taking it for a moment, and
//! somebody who wants it in that moment must not mistake the look for an owner. So owners lock
//! exclusively, lookers share, and taking and removing happen one at a time: behind the *gate*,
//! `<home>/run.lock`, which nobody holds for longer than a few system calls.

use std::fs::{self, DirBuilder, File, OpenOptions, TryLockError};
use std::io;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::Duration;

use sha2::{Digest, Sha256};

/// The longest path a Unix socket may have, without its closing zero byte.
pub const MAX_SOCKET_PATH: usize = 107;

const ID_BYTES: usize = 6;

/// How long the gate may be held by others. Nobody needs it for longer than a few system calls; only a
/// process that was stopped in between them does.
const GATE: Duration = Duration::from_secs(20);

/// The files of one run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RunDir {
    path: PathBuf,
}

/// A run directory whose lock is held.
#[derive(Debug)]
pub struct LockedRunDir {
    dir: RunDir,
    lock: File,
}

/// A run directory that could not be taken.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RunDirError {
    /// Its lock is held: the sandbox runs.
    #[error("a sandbox of this name is running; stop it first, or choose another name")]
    Held,
    /// Its sockets would not fit.
    #[error(
        "the socket path {} is {length} bytes long and may have {MAX_SOCKET_PATH}; use a shorter \
         MSB_HOME", path.display()
    )]
    PathTooLong {
        /// The path.
        path: PathBuf,
        /// Its length.
        length: usize,
    },
    /// The host refused.
    #[error("cannot use {}", path.display())]
    Io {
        /// What was to be used.
        path: PathBuf,
        /// Why not.
        #[source]
        source: io::Error,
    },
}

impl RunDir {
    /// The run directory of the sandbox `name` under `home`.
    pub fn of(home: &Path, name: &str) -> Self {
        let digest = Sha256::digest(name.as_bytes());
        let id = hex::encode(digest.get(..ID_BYTES).unwrap_or(&digest));
        Self {
            path: home.join("run").join(id),
        }
    }

    /// A run directory by its path.
    pub fn at(path: PathBuf) -> Self {
        Self { path }
    }

    /// The directory.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The file whose lock says "alive".
    pub fn lock_path(&self) -> PathBuf {
        self.path.join("lock")
    }

    /// The supervisor's socket.
    pub fn control_socket(&self) -> PathBuf {
        self.path.join("control.sock")
    }

    /// The socket through which the guest's vsock ports are reached.
    pub fn vsock_socket(&self) -> PathBuf {
        self.path.join("vsock.sock")
    }

    /// The page of counters that readers map.
    pub fn metrics(&self) -> PathBuf {
        self.path.join("metrics")
    }

    /// Checks that the sockets' paths fit.
    pub fn check_paths(&self) -> Result<(), RunDirError> {
        let path = self.control_socket();
        match path.as_os_str().len() {
            length if length > MAX_SOCKET_PATH => Err(RunDirError::PathTooLong { path, length }),
            _ => Ok(()),
        }
    }

    /// Creates the directory where it is missing and takes its lock.
    pub fn lock(&self) -> Result<LockedRunDir, RunDirError> {
        self.check_paths()?;
        let _gate = self.gate().map_err(|source| self.error(source))?;
        self.lock_behind_gate()
    }

    fn lock_behind_gate(&self) -> Result<LockedRunDir, RunDirError> {
        loop {
            create_private(&self.path).map_err(|source| self.error(source))?;
            let lock = match self.open_lock(true) {
                // Removed by its last owner between the two calls.
                Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
                opened => opened.map_err(|source| self.error(source))?,
            };
            match lock.try_lock() {
                Ok(()) if self.is_current(&lock) => {
                    return Ok(LockedRunDir {
                        dir: self.clone(),
                        lock,
                    });
                }
                // What we locked is not what is there now: the owner removed it.
                Ok(()) => {}
                Err(TryLockError::WouldBlock) => match lock.try_lock_shared() {
                    // Only lookers hold it, who let it go at once, and no owner can come between:
                    // the gate is ours.
                    Ok(()) => {
                        lock.unlock().map_err(|source| self.error(source))?;
                        lock.lock().map_err(|source| self.error(source))?;
                        if self.is_current(&lock) {
                            return Ok(LockedRunDir {
                                dir: self.clone(),
                                lock,
                            });
                        }
                    }
                    Err(TryLockError::WouldBlock) => return Err(RunDirError::Held),
                    Err(TryLockError::Error(source)) => return Err(self.error(source)),
                },
                Err(TryLockError::Error(source)) => return Err(self.error(source)),
            }
        }
    }

    /// Whether somebody owns the lock. An error is no answer: what cannot be looked at may run.
    pub fn is_held(&self) -> io::Result<bool> {
        let lock = match self.open_lock(false) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(false),
            opened => opened?,
        };
        match lock.try_lock_shared() {
            Ok(()) => Ok(false),
            Err(TryLockError::WouldBlock) => Ok(true),
            Err(TryLockError::Error(error)) => Err(error),
        }
    }

    /// Waits until nobody owns the lock. Blocks: call it from a thread that may.
    pub fn wait_until_free(&self) -> io::Result<()> {
        match self.open_lock(false) {
            Ok(lock) => lock.lock_shared(),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            Err(error) => Err(error),
        }
    }

    /// Removes the directory if nobody holds it. `true` when it is gone.
    pub fn remove_if_free(&self) -> bool {
        if !self.path.exists() {
            return true;
        }
        let Ok(_gate) = self.gate() else { return false };
        // It may have gone while we waited; it must not be made anew.
        if !self.path.exists() {
            return true;
        }
        match self.lock_behind_gate() {
            Ok(locked) => locked.remove_behind_gate().is_ok(),
            Err(_) => false,
        }
    }

    /// Waits for the gate, not for ever, and holds it until the file is dropped.
    fn gate(&self) -> io::Result<File> {
        let runs = self.path.parent().unwrap_or(Path::new("/"));
        create_private(runs)?;
        let gate = open_lock_file(&runs.with_extension("lock"), true)?;
        lock_within(gate, GATE)
    }

    fn open_lock(&self, create: bool) -> io::Result<File> {
        open_lock_file(&self.lock_path(), create)
    }

    fn is_current(&self, lock: &File) -> bool {
        match (lock.metadata(), fs::metadata(self.lock_path())) {
            (Ok(ours), Ok(there)) => ours.ino() == there.ino() && ours.dev() == there.dev(),
            _ => false,
        }
    }

    fn error(&self, source: io::Error) -> RunDirError {
        RunDirError::Io {
            path: self.path.clone(),
            source,
        }
    }
}

impl LockedRunDir {
    /// Where it is.
    pub fn dir(&self) -> &RunDir {
        &self.dir
    }

    /// The lock, to be handed on to a child: it then outlives this process with it.
    pub fn share_lock(&self) -> io::Result<File> {
        self.lock.try_clone()
    }

    /// Removes all that a run before this one left behind, whatever it is: a supervisor can be killed
    /// between making a file under a passing name and giving it its own.
    pub fn clear(&self) -> io::Result<()> {
        let lock = self.dir.lock_path();
        let entries = match fs::read_dir(&self.dir.path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
            entries => entries?,
        };
        for entry in entries {
            let path = entry?.path();
            if path != lock {
                remove_if_there(&path)?;
            }
        }
        Ok(())
    }

    /// Removes the directory and lets the lock go.
    pub fn remove(self) -> io::Result<()> {
        let _gate = self.dir.gate()?;
        self.remove_behind_gate()
    }

    fn remove_behind_gate(self) -> io::Result<()> {
        self.clear()?;
        remove_if_there(&self.dir.lock_path())?;
        match fs::remove_dir(&self.dir.path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
            _ => Ok(()),
        }
    }
}

/// Removes every run directory under `home` that nobody holds.
pub fn sweep(home: &Path) {
    let Ok(entries) = fs::read_dir(home.join("run")) else {
        return;
    };
    for entry in entries.flatten() {
        RunDir::at(entry.path()).remove_if_free();
    }
}

/// Locks a file, waiting at most `limit`.
fn lock_within(file: File, limit: Duration) -> io::Result<File> {
    match file.try_lock() {
        Ok(()) => return Ok(file),
        Err(TryLockError::WouldBlock) => {}
        Err(TryLockError::Error(error)) => return Err(error),
    }
    // The kernel's lock knows no deadline. Should it come too late, nobody takes it, and the file
    // with it is dropped.
    let (done, locked) = std::sync::mpsc::channel();
    std::thread::Builder::new().spawn(move || {
        let result = file.lock().map(|()| file);
        let _ = done.send(result);
    })?;
    locked.recv_timeout(limit).unwrap_or_else(|_| {
        Err(io::Error::new(
            io::ErrorKind::TimedOut,
            "another process holds run.lock; look for one that is stopped",
        ))
    })
}

fn open_lock_file(path: &Path, create: bool) -> io::Result<File> {
    OpenOptions::new()
        .read(true)
        .write(true)
        .create(create)
        .mode(0o600)
        .open(path)
}

fn create_private(path: &Path) -> io::Result<()> {
    DirBuilder::new().recursive(true).mode(0o700).create(path)
}

fn remove_if_there(path: &Path) -> io::Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicBool, Ordering};

    use super::*;

    #[test]
    fn one_owner_at_a_time_and_nothing_left() {
        let home = tempfile::tempdir().unwrap();
        let dir = RunDir::of(home.path(), "web");
        let locked = dir.lock().unwrap();
        assert!(dir.is_held().unwrap());
        assert!(matches!(dir.lock(), Err(RunDirError::Held)));
        assert!(!dir.remove_if_free());
        locked.remove().unwrap();
        assert!(!dir.is_held().unwrap());
        assert!(!dir.path().exists());
        dir.lock().unwrap();
    }

    #[test]
    fn a_shared_lock_keeps_the_run_alive() {
        let home = tempfile::tempdir().unwrap();
        let dir = RunDir::of(home.path(), "web");
        let locked = dir.lock().unwrap();
        let child = locked.share_lock().unwrap();
        drop(locked);
        assert!(dir.is_held().unwrap(), "the child is still there");
        drop(child);
        assert!(!dir.is_held().unwrap());
    }

    #[test]
    fn sweeping_takes_only_what_nobody_holds() {
        let home = tempfile::tempdir().unwrap();
        let (dead, alive) = (
            RunDir::of(home.path(), "dead"),
            RunDir::of(home.path(), "alive"),
        );
        drop(dead.lock().unwrap());
        fs::write(dead.vsock_socket(), "").unwrap();
        let held = alive.lock().unwrap();
        sweep(home.path());
        assert!(!dead.path().exists());
        assert!(alive.path().exists());
        drop(held);
    }

    #[test]
    fn what_a_killed_owner_had_only_begun_goes_too() {
        let home = tempfile::tempdir().unwrap();
        let dir = RunDir::of(home.path(), "web");
        drop(dir.lock().unwrap());
        fs::write(dir.path().join("metrics.new"), "half").unwrap();
        let locked = dir.lock().unwrap();
        locked.clear().unwrap();
        let left = fs::read_dir(dir.path()).unwrap();
        let left: Vec<_> = left.map(|entry| entry.unwrap().file_name()).collect();
        assert_eq!(left, ["lock"]);
        fs::write(dir.path().join("metrics.new"), "half").unwrap();
        drop(locked);
        assert!(dir.remove_if_free());
        assert!(!dir.path().exists());
    }

    #[test]
    fn looking_and_sweeping_never_hinder_an_owner() {
        let home = tempfile::tempdir().unwrap();
        let done = AtomicBool::new(false);
        let dir = RunDir::of(home.path(), "busy");
        std::thread::scope(|scope| {
            // Ended by a drop, so that a failed assertion ends the others too.
            let owner = scope.spawn(|| {
                let _done = SetOnDrop(&done);
                for _ in 0..300 {
                    let locked = dir.lock().expect("nobody else owns it");
                    assert!(dir.is_held().unwrap());
                    locked.remove().expect("nobody else is in it");
                    assert!(!dir.path().exists());
                }
            });
            while !done.load(Ordering::Relaxed) {
                sweep(home.path());
                let _ = dir.is_held();
            }
            owner.join().unwrap();
        });
    }

    struct SetOnDrop<'a>(&'a AtomicBool);

    impl Drop for SetOnDrop<'_> {
        fn drop(&mut self) {
            self.0.store(true, Ordering::Relaxed);
        }
    }

    #[test]
    fn a_home_too_deep_for_sockets_is_refused() {
        let home = PathBuf::from("/tmp").join("x".repeat(100));
        assert!(matches!(
            RunDir::of(&home, "web").lock(),
            Err(RunDirError::PathTooLong { .. })
        ));
        assert!(!home.exists(), "nothing was made");
    }
}
