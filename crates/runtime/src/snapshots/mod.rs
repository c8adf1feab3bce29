//! The snapshots of a home: taken, found, removed, sent elsewhere and received.
//!
//! `<home>/snapshots/` has a directory for each ([`msb_image::snapshot`] says what is in one), by its
//! name. The directories are the truth: what is asked is answered from them, whoever put them there. For
//! those that are elsewhere there are signposts, which are believed only as far as they lead to what
//! they say.
//!
//! A snapshot is taken under the sandbox's lock, so that nobody starts or removes it meanwhile; whoever wants
//! to waits, or is told. What cannot be said of a sandbox that is being launched or ended is not said:
//! that is [`TakeError::Busy`], and goes by.
//!
//! All of it blocks, and is meant for threads that may.

mod error;
mod outgoing;
mod signposts;
mod take;
mod transfer;

#[cfg(test)]
mod tests;

pub use error::{RemoveSnapshotError, TakeError};
pub use msb_image::snapshot::{GoOn, SnapshotDir, SnapshotError};
pub use take::{Take, Target};
pub use transfer::Export;

use std::collections::BTreeSet;
use std::fs::{self, DirBuilder};
use std::io;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

use msb_image::Digest;
use msb_image::snapshot::sweep;

use self::signposts::Signposts;

/// What a digest begins with, and no name does.
const ALGORITHM: &str = "sha256:";

/// A home's snapshots.
#[derive(Clone, Debug)]
pub struct Snapshots {
    home: PathBuf,
    dir: PathBuf,
}

/// A snapshot that was found.
#[derive(Debug)]
pub struct Found {
    /// Its name, if it is one of the home's.
    pub name: Option<String>,
    /// Its directory.
    pub dir: SnapshotDir,
}

impl Snapshots {
    /// Those of this home.
    pub fn of(home: &Path) -> Self {
        Self {
            home: home.to_path_buf(),
            dir: home.join("snapshots"),
        }
    }

    /// Where they are.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// The snapshot that `which` means: the digest of one (`sha256:...`), the path of its directory if there is
    /// a slash in it, else its name.
    ///
    /// # Errors
    ///
    /// [`Missing`](SnapshotError::Missing) when there is none. What has become of its disk is not looked at.
    pub fn find(&self, which: &str) -> Result<Found, SnapshotError> {
        let missing = || SnapshotError::Missing {
            path: PathBuf::from(which),
        };
        if which.starts_with(ALGORITHM) {
            let digest = which.parse().map_err(|_| missing())?;
            return self.by_digest(&digest)?.ok_or_else(missing);
        }
        if which.contains('/') {
            let path = std::path::absolute(which).map_err(|source| io_error(which, source))?;
            return self.at(&path);
        }
        msb_types::validate_sandbox_name(which).map_err(|_| missing())?;
        self.at(&self.dir.join(which))
    }

    /// The snapshot with this identity.
    pub fn by_digest(&self, digest: &Digest) -> Result<Option<Found>, SnapshotError> {
        let is = |found: &Found| found.dir.sealed().digest() == *digest;
        if let Some(found) = self.list()?.into_iter().find(is) {
            return Ok(Some(found));
        }
        Ok(None)
    }

    /// The snapshot in this directory.
    fn at(&self, path: &Path) -> Result<Found, SnapshotError> {
        Ok(Found {
            name: self.name_of(path),
            dir: SnapshotDir::look(path)?,
        })
    }

    /// The name of a directory that is one of the home's own.
    fn name_of(&self, path: &Path) -> Option<String> {
        let name = path.file_name()?.to_str()?;
        let ours =
            path.parent() == Some(&self.dir) && msb_types::validate_sandbox_name(name).is_ok();
        ours.then(|| name.to_owned())
    }

    /// All that are here, and those elsewhere that signposts lead to, the oldest first. One that cannot be read
    /// hides no other.
    pub fn list(&self) -> Result<Vec<Found>, SnapshotError> {
        let mut found: Vec<_> = list_dir(&self.dir)?
            .into_iter()
            .map(|dir| Found {
                name: self.name_of(dir.path()),
                dir,
            })
            .collect();
        let here: BTreeSet<_> = found
            .iter()
            .map(|found| found.dir.path().to_path_buf())
            .collect();
        for dir in self.signposts().follow() {
            if !here.contains(dir.path()) {
                found.push(Found { name: None, dir });
            }
        }
        found.sort_by_key(|found| found.dir.sealed().created_at());
        Ok(found)
    }

    /// Removes a snapshot. If others come from it, only by `force`: they stay whole, and their line has a gap.
    pub fn remove(&self, which: &str, force: bool) -> Result<(), RemoveSnapshotError> {
        let found = self.find(which)?;
        let digest = found.dir.sealed().digest();
        if !force {
            let child = |other: &&Found| other.dir.sealed().parent() == Some(digest);
            if let Some(child) = self.list()?.iter().find(child) {
                return Err(RemoveSnapshotError::HasChildren {
                    child: child.dir.path().to_path_buf(),
                });
            }
        }
        let path = found.dir.path().to_path_buf();
        found.dir.remove()?;
        self.signposts().forget(&path);
        Ok(())
    }

    /// Sees to it that all snapshots in this directory can be found by their digests, and returns how many
    /// there are. Signposts to what is not there any more are taken away.
    pub fn reindex(&self, dir: &Path) -> Result<usize, SnapshotError> {
        let shown = dir.display().to_string();
        let dir = std::path::absolute(dir).map_err(|source| io_error(&shown, source))?;
        let found = list_dir(&dir)?;
        let signposts = self.signposts();
        signposts.tidy();
        if dir != self.dir {
            for snapshot in &found {
                signposts.add(snapshot)?;
            }
        }
        Ok(found.len())
    }

    /// The images that snapshots need: what must not be removed.
    ///
    /// # Errors
    ///
    /// When that cannot be told of some snapshot: what is not known to be free is in use.
    pub fn images_in_use(&self) -> Result<BTreeSet<Digest>, SnapshotError> {
        let mut images = BTreeSet::new();
        for path in entries(&self.dir)? {
            if self.name_of(&path).is_none() {
                continue;
            }
            match SnapshotDir::look(&path) {
                Ok(snapshot) => images.extend(snapshot.sealed().image()),
                // Something else that lies there, or that has just gone.
                Err(SnapshotError::Foreign { .. } | SnapshotError::Missing { .. }) => {}
                Err(error) => return Err(error),
            }
        }
        images.extend(self.signposts().images());
        Ok(images)
    }

    /// Deletes what was cut short.
    pub fn sweep(&self) {
        sweep(&self.dir);
    }

    /// Makes the directory that snapshots of the home are in.
    fn make_dir(&self) -> Result<(), SnapshotError> {
        DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(&self.dir)
            .map_err(|source| SnapshotError::Io {
                path: self.dir.clone(),
                source,
            })
    }

    fn signposts(&self) -> Signposts {
        Signposts::of(&self.dir)
    }
}

/// The snapshots in a directory. What is none is passed over; one that cannot be read is so with a word in
/// the log.
pub fn list_dir(dir: &Path) -> Result<Vec<SnapshotDir>, SnapshotError> {
    let mut found = Vec::new();
    for path in entries(dir)? {
        match SnapshotDir::look(&path) {
            Ok(snapshot) => found.push(snapshot),
            Err(SnapshotError::Foreign { .. } | SnapshotError::Missing { .. }) => {}
            Err(error) => {
                tracing::warn!(path = %path.display(), error = %crate::chain::chain(&error), "a snapshot cannot be read");
            }
        }
    }
    Ok(found)
}

/// What is in a directory and not hidden, in the order of the names; nothing if it is not there.
fn entries(dir: &Path) -> Result<Vec<PathBuf>, SnapshotError> {
    let io = |source| SnapshotError::Io {
        path: dir.to_path_buf(),
        source,
    };
    let mut paths = Vec::new();
    match fs::read_dir(dir) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(error) => return Err(io(error)),
        Ok(entries) => {
            for entry in entries {
                let entry = entry.map_err(io)?;
                let hidden = entry.file_name().to_string_lossy().starts_with('.');
                if !hidden {
                    paths.push(entry.path());
                }
            }
        }
    }
    paths.sort();
    Ok(paths)
}

fn io_error(path: impl Into<PathBuf>, source: io::Error) -> SnapshotError {
    SnapshotError::Io {
        path: path.into(),
        source,
    }
}
