//! Signposts to snapshots that are not in the home.
//!
//! `<home>/snapshots/.elsewhere/` has a symbolic link to each, called `<digest>.<digest of its image>`, both in
//! hexadecimal. A signpost is a hint: it is followed, and what is found there is asked who it is. One
//! that leads nowhere counts as long as its snapshot may be on a disk that is not there just now; if the
//! directory around it is there and it is not, it is gone, and so is the signpost.

use std::fs::{self, DirBuilder};
use std::io;
use std::os::unix::fs::{DirBuilderExt, symlink};
use std::path::{Path, PathBuf};

use msb_image::Digest;
use msb_image::snapshot::{SnapshotDir, SnapshotError};

use super::io_error;

const DIR: &str = ".elsewhere";

/// The signposts of a home.
#[derive(Debug)]
pub(super) struct Signposts {
    dir: PathBuf,
}

/// One of them.
struct Signpost {
    path: PathBuf,
    target: PathBuf,
    snapshot: Digest,
    image: Digest,
}

impl Signposts {
    pub(super) fn of(snapshots: &Path) -> Self {
        Self {
            dir: snapshots.join(DIR),
        }
    }

    /// Puts one up, in the place of any that there is to a snapshot of the same identity.
    pub(super) fn add(&self, snapshot: &SnapshotDir) -> Result<(), SnapshotError> {
        let Some(image) = snapshot.sealed().image() else {
            return Ok(());
        };
        let io = |source| io_error(&self.dir, source);
        DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(&self.dir)
            .map_err(io)?;
        let digest = snapshot.sealed().digest();
        let path = self.dir.join(format!("{}.{}", digest.hex(), image.hex()));
        // Another name first, so that there is always one.
        let new = self.dir.join(format!(".new-{}", std::process::id()));
        for _ in 0..2 {
            match symlink(snapshot.path(), &new) {
                Ok(()) => return fs::rename(&new, &path).map_err(io),
                // Left by a process that was killed and had our number.
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
                    fs::remove_file(&new).map_err(io)?;
                }
                Err(error) => return Err(io(error)),
            }
        }
        Err(io(io::ErrorKind::AlreadyExists.into()))
    }

    /// Takes down those that lead here.
    pub(super) fn forget(&self, target: &Path) {
        for signpost in self.all() {
            if signpost.target == target {
                let _ = fs::remove_file(signpost.path);
            }
        }
    }

    /// The snapshots that they lead to.
    pub(super) fn follow(&self) -> impl Iterator<Item = SnapshotDir> {
        self.all().into_iter().filter_map(|signpost| {
            let found = SnapshotDir::look(&signpost.target).ok()?;
            (found.sealed().digest() == signpost.snapshot).then_some(found)
        })
    }

    /// Takes down those whose snapshots are gone.
    pub(super) fn tidy(&self) {
        for signpost in self.all() {
            if signpost.is_gone() {
                let _ = fs::remove_file(signpost.path);
            }
        }
    }

    /// The images of the snapshots that they lead to, as far as those are not known to be gone.
    pub(super) fn images(&self) -> impl Iterator<Item = Digest> {
        self.all()
            .into_iter()
            .filter(|signpost| !signpost.is_gone())
            .map(|signpost| signpost.image)
    }

    fn all(&self) -> Vec<Signpost> {
        let entries = fs::read_dir(&self.dir).into_iter().flatten().flatten();
        let read = |entry: fs::DirEntry| {
            let name = entry.file_name();
            let (snapshot, image) = name.to_str()?.split_once('.')?;
            Some(Signpost {
                snapshot: format!("sha256:{snapshot}").parse().ok()?,
                image: format!("sha256:{image}").parse().ok()?,
                target: fs::read_link(entry.path()).ok()?,
                path: entry.path(),
            })
        };
        let mut all: Vec<_> = entries.filter_map(read).collect();
        all.sort_by(|one, other| one.path.cmp(&other.path));
        all
    }
}

impl Signpost {
    /// Whether there is another snapshot there, or none although the directory around it is there.
    fn is_gone(&self) -> bool {
        match SnapshotDir::look(&self.target) {
            Ok(found) => found.sealed().digest() != self.snapshot,
            Err(SnapshotError::Foreign { .. }) => true,
            Err(SnapshotError::Missing { .. }) => {
                self.target.parent().is_some_and(|parent| parent.is_dir())
            }
            Err(_) => false,
        }
    }
}
