//! The directory of one snapshot.
//!
//! It is made whole by one rename ([`Staging`](super::Staging)); removing it renames it away first, which is
//! the instant at which it is gone.
//!
//! A directory that a caller names may be anything. So nothing is ever deleted but the files that a
//! snapshot has, by their names: what has others in it is left alone, whoever says that it may go.

use std::ffi::OsString;
use std::fs::{self, File};
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use rustix::fs::OFlags;
use sha2::{Digest as _, Sha256};

use super::GoOn;
use super::error::{Result, SnapshotError};
use super::files::{
    PATCH, PATCH_FILES, STAGING, delete, directory, file_in, is_there, parent, sync,
};
use super::integrity;
use super::manifest::{DEFAULT_UPPER_FILE, MANIFEST_FILENAME, MAX_MANIFEST, PatchFile, Sealed};
use crate::Digest;

/// A snapshot's directory, and the manifest in it.
#[derive(Debug)]
pub struct SnapshotDir {
    path: PathBuf,
    dir: File,
    sealed: Sealed,
}

/// What is known of a writable layer's contents.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum UpperState {
    /// Nobody wrote down what they were.
    NotRecorded,
    /// They are what they were.
    Verified {
        /// How that was told.
        algorithm: String,
        /// What both came to.
        digest: Digest,
    },
}

/// The files of a patch layer, open for reading or for writing.
#[derive(Debug)]
pub struct PatchFiles {
    /// What it changes.
    pub index: File,
    /// The bytes of its files.
    pub data: File,
}

impl SnapshotDir {
    /// Opens one, and sees that its files are there and have the sizes that its manifest says.
    pub fn open(path: &Path) -> Result<Self> {
        let snapshot = Self::look(path)?;
        snapshot.upper()?;
        snapshot.patch()?;
        Ok(snapshot)
    }

    /// Reads the manifest of one, whatever has become of its other files.
    pub fn look(path: &Path) -> Result<Self> {
        let dir = match directory(path, OFlags::empty()) {
            Ok(dir) => dir,
            Err(error) => {
                return Err(match error.kind() {
                    io::ErrorKind::NotFound => SnapshotError::Missing {
                        path: path.to_path_buf(),
                    },
                    io::ErrorKind::NotADirectory => foreign(path, "it is no directory"),
                    _ => SnapshotError::io(path)(error),
                });
            }
        };
        let mut file = match file_in(&dir, MANIFEST_FILENAME) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                return Err(foreign(path, "it has no manifest.json"));
            }
            Err(error) => return Err(SnapshotError::io(path)(error)),
        };
        let mut bytes = Vec::new();
        (&mut file)
            .take(MAX_MANIFEST + 1)
            .read_to_end(&mut bytes)
            .map_err(SnapshotError::io(path))?;
        let sealed = Sealed::parse(&bytes).map_err(|source| SnapshotError::Manifest {
            path: path.to_path_buf(),
            source,
        })?;
        Ok(Self {
            path: path.to_path_buf(),
            dir,
            sealed,
        })
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Whether it is what is at this path.
    pub(super) fn is_at(&self, path: &Path) -> bool {
        is_there(&self.dir, path)
    }

    /// Its manifest.
    pub fn sealed(&self) -> &Sealed {
        &self.sealed
    }

    /// Its writable layer, open for reading.
    pub fn upper(&self) -> Result<File> {
        let size = self.sealed.manifest().upper.size_bytes;
        self.file(DEFAULT_UPPER_FILE, size)
    }

    /// Its patch layer, if it has one.
    pub fn patch(&self) -> Result<Option<PatchFiles>> {
        let Some(patch) = &self.sealed.manifest().patch else {
            return Ok(None);
        };
        Ok(Some(PatchFiles {
            index: self.file("patch/index", patch.index.size_bytes)?,
            data: self.file("patch/data", patch.data.size_bytes)?,
        }))
    }

    /// Reads all of it, and sees that it is what its manifest says.
    pub fn verify(&self, go_on: GoOn<'_>) -> Result<UpperState> {
        let now = Self::look(&self.path)?;
        if now.sealed.digest() != self.sealed.digest() {
            return Err(self.damaged("another snapshot has taken its place"));
        }
        if let (Some(files), Some(patch)) = (self.patch()?, &self.sealed.manifest().patch) {
            for (file, said) in [(files.index, &patch.index), (files.data, &patch.data)] {
                let found = digest_of(file, go_on).map_err(SnapshotError::io(&self.path))?;
                if found.to_string() != said.digest {
                    return Err(self.damaged("the layer of its patches was changed"));
                }
            }
        }
        let Some(recorded) = &self.sealed.manifest().upper.integrity else {
            return Ok(UpperState::NotRecorded);
        };
        if recorded.algorithm != integrity::ALGORITHM {
            return Err(self.damaged(format!(
                "its integrity was recorded by {}, which this release does not know",
                recorded.algorithm
            )));
        }
        let digest =
            integrity::digest(&self.upper()?, go_on).map_err(SnapshotError::io(&self.path))?;
        match digest.to_string() == recorded.digest {
            true => Ok(UpperState::Verified {
                algorithm: recorded.algorithm.clone(),
                digest,
            }),
            false => Err(self.damaged("its disk was changed after it was made")),
        }
    }

    /// Removes it: gone at once, and then deleted.
    ///
    /// # Errors
    ///
    /// [`Foreign`](SnapshotError::Foreign) when there is something in it that no snapshot has.
    pub fn remove(self) -> Result<()> {
        self.only_ours()?;
        let io = SnapshotError::io(&self.path);
        let parent = parent(&self.path);
        // An empty directory of a free name, which the rename replaces.
        let aside = tempfile::Builder::new()
            .prefix(STAGING)
            .tempdir_in(parent)
            .map(tempfile::TempDir::keep);
        let aside = match aside {
            Ok(aside) => aside,
            Err(error) => return Err(io(error)),
        };
        match fs::rename(&self.path, &aside) {
            Ok(()) => {
                sync(parent).map_err(io)?;
                delete(&aside).map_err(SnapshotError::io(&aside))
            }
            Err(error) => {
                let _ = fs::remove_dir(&aside);
                Err(match error.kind() {
                    io::ErrorKind::NotFound => SnapshotError::Missing {
                        path: self.path.clone(),
                    },
                    _ => io(error),
                })
            }
        }
    }

    /// Sees that there is nothing in it that no snapshot has.
    pub(super) fn only_ours(&self) -> Result<()> {
        let io = SnapshotError::io(&self.path);
        let look = || {
            let mut stray = stray(
                &self.path,
                &[MANIFEST_FILENAME, DEFAULT_UPPER_FILE],
                &[PATCH],
            )?;
            let patch = self.path.join(PATCH);
            if stray.is_none() && fs::symlink_metadata(&patch).is_ok() {
                stray = self::stray(&patch, &PATCH_FILES, &[])?;
            }
            Ok(stray)
        };
        match look().map_err(io)? {
            None => Ok(()),
            Some(name) => Err(foreign(
                &self.path,
                format!("{name:?} in it is no part of one"),
            )),
        }
    }

    fn file(&self, name: &str, size: u64) -> Result<File> {
        let file = match file_in(&self.dir, name) {
            Ok(file) => file,
            Err(error) => {
                return Err(match error.kind() {
                    io::ErrorKind::NotFound => self.damaged(format!("{name} is missing")),
                    _ => SnapshotError::io(&self.path.join(name))(error),
                });
            }
        };
        let found = file.metadata().map_err(SnapshotError::io(&self.path))?;
        match found.len() == size {
            true => Ok(file),
            false => Err(self.damaged(format!(
                "{name} has {} bytes, and {size} when it was made",
                found.len()
            ))),
        }
    }

    fn damaged(&self, what: impl Into<String>) -> SnapshotError {
        SnapshotError::damaged(&self.path, what)
    }
}

/// What a patch layer's file is, for the manifest.
pub(super) fn patch_file(file: File, go_on: GoOn<'_>) -> io::Result<PatchFile> {
    Ok(PatchFile {
        size_bytes: file.metadata()?.len(),
        digest: digest_of(file, go_on)?.to_string(),
    })
}

fn digest_of(mut file: File, go_on: GoOn<'_>) -> io::Result<Digest> {
    let mut hasher = Sha256::new();
    let mut chunk = vec![0; integrity::CHUNK];
    io::Seek::rewind(&mut file)?;
    loop {
        go_on()?;
        let read = match file.read(&mut chunk) {
            Ok(0) => return Ok(Digest::from_hasher(hasher)),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            read => read?,
        };
        hasher.update(chunk.get(..read).unwrap_or_default());
    }
}

/// The name of something in a directory that is neither one of these files nor one of these directories.
fn stray(dir: &Path, files: &[&str], dirs: &[&str]) -> io::Result<Option<OsString>> {
    for entry in fs::read_dir(dir)? {
        let entry = entry?;
        let (name, kind) = (entry.file_name(), entry.file_type()?);
        let is = |known: &[&str]| known.iter().any(|known| name == *known);
        if !(kind.is_file() && is(files) || kind.is_dir() && is(dirs)) {
            return Ok(Some(name));
        }
    }
    Ok(None)
}

/// What is there and is no snapshot.
pub(super) fn foreign(path: &Path, why: impl Into<String>) -> SnapshotError {
    SnapshotError::Foreign {
        path: path.to_path_buf(),
        why: why.into(),
    }
}

#[cfg(test)]
#[path = "dir_tests.rs"]
mod tests;
