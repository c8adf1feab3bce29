//! A snapshot made of a disk, and a disk made of a snapshot.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::Path;

use super::GoOn;
use super::copy::{Copied, copy};
use super::dir::{self, PatchFiles, SnapshotDir};
use super::error::{Result, SnapshotError};
use super::integrity;
use super::manifest::{DEFAULT_UPPER_FILE, Manifest, PatchLayer, UpperIntegrity};
use super::staging::{Staging, sweep};

/// What a snapshot is made of.
#[derive(Debug)]
pub struct Capture<'a> {
    /// The writable layer, which nobody writes now.
    pub upper: &'a File,
    /// The layer of patches below it.
    pub patch: Option<PatchFiles>,
    /// What is said of it. What is said of the files is filled in.
    pub manifest: Manifest,
    /// Whether the disk's contents are to be part of its identity; that reads all of its data.
    pub record_integrity: bool,
}

impl Capture<'_> {
    /// Makes it at `target`, whose directory is there. A snapshot that is there already stays unless
    /// it is to be replaced; anything else stays.
    pub fn make(mut self, target: &Path, replace: bool, go_on: GoOn<'_>) -> Result<SnapshotDir> {
        may_take(target, replace)?;
        let parent = target.parent().unwrap_or(Path::new("/"));
        sweep(parent);
        let staging = Staging::begin(parent)?;
        let io = || SnapshotError::io(staging.path());

        let upper = staging.upper()?;
        copy(self.upper, &upper, go_on).map_err(io())?;
        self.manifest.upper.size_bytes = upper.metadata().map_err(io())?.len();
        self.manifest.upper.integrity = match self.record_integrity {
            true => Some(UpperIntegrity {
                algorithm: integrity::ALGORITHM.to_owned(),
                digest: integrity::digest(&upper, go_on).map_err(io())?.to_string(),
            }),
            false => None,
        };
        self.manifest.patch = match &self.patch {
            Some(from) => {
                let to = staging.patch()?;
                for (from, to) in [(&from.index, &to.index), (&from.data, &to.data)] {
                    copy(from, to, go_on).map_err(io())?;
                }
                Some(PatchLayer {
                    data: dir::patch_file(to.data, go_on).map_err(io())?,
                    index: dir::patch_file(to.index, go_on).map_err(io())?,
                })
            }
            None => None,
        };
        let sealed = self
            .manifest
            .seal()
            .map_err(|source| SnapshotError::Manifest {
                path: target.to_path_buf(),
                source,
            })?;
        staging.complete(&sealed, target, replace)
    }
}

/// Whether a snapshot may be put there, as it looks now: so that nothing is copied in vain.
pub fn may_take(target: &Path, replace: bool) -> Result<()> {
    match fs::symlink_metadata(target) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(error) => Err(SnapshotError::io(target)(error)),
        Ok(_) if replace => SnapshotDir::look(target)?.only_ours(),
        Ok(_) => Err(SnapshotError::Exists {
            path: target.to_path_buf(),
        }),
    }
}

/// The snapshot whose writable layer this is, by its path; `None` of a disk that lies in no snapshot's directory.
pub fn origin(upper: &Path) -> Result<Option<SnapshotDir>> {
    let Some(dir) = upper.parent() else {
        return Ok(None);
    };
    if upper
        .file_name()
        .is_none_or(|name| name != DEFAULT_UPPER_FILE)
    {
        return Ok(None);
    }
    match SnapshotDir::open(dir) {
        Err(SnapshotError::Foreign { .. }) => Ok(None),
        opened => opened.map(Some),
    }
}

/// Makes the files of a sandbox that begins from a snapshot, in its own directory `into`: `upper.ext4`, and
/// `patch/` if the snapshot has one. `upper` is the snapshot's writable layer, by its path; a disk that lies in
/// no snapshot's directory is taken for what it is.
///
/// The files are on disk when this returns.
pub fn restore(upper: &Path, into: &Path, go_on: GoOn<'_>) -> Result<Copied> {
    let snapshot = match upper.parent() {
        Some(dir)
            if upper
                .file_name()
                .is_some_and(|name| name == DEFAULT_UPPER_FILE) =>
        {
            match SnapshotDir::open(dir) {
                Err(SnapshotError::Foreign { .. }) => None,
                opened => Some(opened?),
            }
        }
        _ => None,
    };
    let (from, patch) = match &snapshot {
        Some(snapshot) => (snapshot.upper()?, snapshot.patch()?),
        None => {
            let opened = OpenOptions::new().read(true).open(upper);
            (opened.map_err(SnapshotError::io(upper))?, None)
        }
    };
    let io = || SnapshotError::io(into);
    if let Some(from) = patch {
        let dir = into.join("patch");
        DirBuilder::new().mode(0o700).create(&dir).map_err(io())?;
        for (name, from) in [("index", from.index), ("data", from.data)] {
            let to = create(&dir.join(name)).map_err(io())?;
            copy(&from, &to, go_on).map_err(io())?;
            to.sync_all().map_err(io())?;
        }
        let synced = File::open(&dir).and_then(|dir| dir.sync_all());
        synced.map_err(io())?;
    }
    let to = create(&into.join(DEFAULT_UPPER_FILE)).map_err(io())?;
    let copied = copy(&from, &to, go_on).map_err(io())?;
    to.sync_all().map_err(io())?;
    Ok(copied)
}

fn create(path: &Path) -> io::Result<File> {
    OpenOptions::new()
        .read(true)
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(path)
}

#[cfg(test)]
#[path = "capture_tests.rs"]
mod tests;
