//! A snapshot in the making, and what is left of one that was not finished.
//!
//! It is filled in a directory of a passing name beside its place, and renamed when all of it is on disk. The
//! directory is locked (`flock`) for as long as its maker lives; one that is not is nobody's, and
//! whoever comes next deletes it.

use std::fs::{self, DirBuilder, File, OpenOptions, Permissions};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use rustix::fs::{CWD, OFlags, RenameFlags, renameat_with};
use rustix::io::Errno;

use super::dir::{PatchFiles, SnapshotDir, foreign};
use super::error::{Result, SnapshotError};
use super::files::{
    PATCH, STAGING, delete, directory, file_in, is_there, parent, rename_new, sync,
};
use super::manifest::{DEFAULT_UPPER_FILE, MANIFEST_FILENAME, Sealed};

/// How often a directory is made anew that a sweep took for abandoned.
const TRIES: usize = 16;

/// A snapshot in the making: a directory of a passing name, beside its place. Dropping it deletes it.
#[derive(Debug)]
pub struct Staging {
    path: PathBuf,
    /// Locked: a sweep leaves it alone.
    dir: File,
    kept: bool,
}

impl Staging {
    /// Begins one in this directory, which is there.
    pub fn begin(parent: &Path) -> Result<Self> {
        let io = || SnapshotError::io(parent);
        for _ in 0..TRIES {
            let path = tempfile::Builder::new()
                .prefix(STAGING)
                .permissions(Permissions::from_mode(0o700))
                .tempdir_in(parent)
                .map(tempfile::TempDir::keep)
                .map_err(io())?;
            // A sweep may come between the two; then what is locked is not there any more.
            let Ok(dir) = directory(&path, OFlags::NOFOLLOW) else {
                continue;
            };
            if dir.try_lock().is_ok() && is_there(&dir, &path) {
                return Ok(Self {
                    path,
                    dir,
                    kept: false,
                });
            }
        }
        Err(io()(io::Error::other(
            "other programs delete what is made here",
        )))
    }

    /// Where it is for now.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Makes the writable layer: empty, for reading and writing.
    pub fn upper(&self) -> Result<File> {
        self.create(DEFAULT_UPPER_FILE)
    }

    /// Makes the patch layer's two files.
    pub fn patch(&self) -> Result<PatchFiles> {
        let path = self.path.join(PATCH);
        DirBuilder::new()
            .mode(0o700)
            .create(&path)
            .map_err(SnapshotError::io(&path))?;
        Ok(PatchFiles {
            index: self.create("patch/index")?,
            data: self.create("patch/data")?,
        })
    }

    fn create(&self, name: &str) -> Result<File> {
        let path = self.path.join(name);
        OpenOptions::new()
            .read(true)
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(&path)
            .map_err(SnapshotError::io(&path))
    }

    /// Writes the manifest and puts the snapshot in its place, on disk: from here on it is there. What is there
    /// already stays, unless it is to be replaced and is a snapshot.
    pub fn complete(
        mut self,
        sealed: &Sealed,
        target: &Path,
        replace: bool,
    ) -> Result<SnapshotDir> {
        self.settle(sealed).map_err(SnapshotError::io(&self.path))?;
        match rename_new(&self.path, target) {
            Ok(()) => self.kept = true,
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
                if !replace {
                    return Err(SnapshotError::Exists {
                        path: target.to_path_buf(),
                    });
                }
                self.replace(target)?;
            }
            Err(error) => return Err(SnapshotError::io(target)(error)),
        }
        sync(parent(target)).map_err(SnapshotError::io(target))?;
        SnapshotDir::open(target)
    }

    /// All of it on disk, and not to be written any more.
    fn settle(&self, sealed: &Sealed) -> io::Result<()> {
        let mut file = OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(self.path.join(MANIFEST_FILENAME))?;
        file.write_all(sealed.bytes())?;
        let mut names = vec![MANIFEST_FILENAME, DEFAULT_UPPER_FILE];
        if sealed.manifest().patch.is_some() {
            names.extend(["patch/index", "patch/data"]);
        }
        for name in names {
            let file = file_in(&self.dir, name)?;
            file.set_permissions(Permissions::from_mode(0o400))?;
            file.sync_all()?;
        }
        if sealed.manifest().patch.is_some() {
            sync(&self.path.join(PATCH))?;
        }
        self.dir.sync_all()
    }

    /// Changes places with the snapshot at `target`, and deletes that one.
    fn replace(&mut self, target: &Path) -> Result<()> {
        let io = SnapshotError::io(target);
        let old = SnapshotDir::look(target)?;
        old.only_ours()?;
        match renameat_with(CWD, &self.path, CWD, target, RenameFlags::EXCHANGE) {
            Ok(()) => {}
            Err(Errno::INVAL | Errno::NOSYS) => {
                // This file system cannot do both at once: for a moment there is none.
                old.remove()?;
                rename_new(&self.path, target).map_err(io)?;
                self.kept = true;
                return Ok(());
            }
            Err(error) => return Err(io(error.into())),
        }
        // What we hold now may not be what we looked at.
        if old.is_at(&self.path) {
            // It is deleted, or, if that is cut short, swept: it has our passing name.
            return Ok(());
        }
        self.kept = true;
        renameat_with(CWD, &self.path, CWD, target, RenameFlags::EXCHANGE)
            .map_err(|error| SnapshotError::io(target)(error.into()))?;
        self.kept = false;
        Err(foreign(target, "somebody has just put it there"))
    }
}

impl Drop for Staging {
    fn drop(&mut self) {
        if !self.kept {
            // The next sweep tries again.
            let _ = delete(&self.path);
        }
    }
}

/// Deletes what was cut short in this directory.
pub fn sweep(parent: &Path) {
    let Ok(entries) = fs::read_dir(parent) else {
        return;
    };
    for entry in entries.flatten() {
        if !entry.file_name().to_string_lossy().starts_with(STAGING) {
            continue;
        }
        let path = entry.path();
        // Whoever works on it holds the lock, and lets it go by ending, however that comes.
        if let Ok(dir) = directory(&path, OFlags::NOFOLLOW)
            && dir.try_lock().is_ok()
            && is_there(&dir, &path)
        {
            let _ = delete(&path);
        }
    }
}
