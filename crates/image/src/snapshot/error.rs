//! What can be wrong with a snapshot.

use std::io;
use std::path::{Path, PathBuf};

use super::manifest::ManifestError;
use crate::Digest;
use crate::store::StoreError;

/// The result of everything here.
pub type Result<T> = std::result::Result<T, SnapshotError>;

/// A snapshot, or an archive of some, that cannot be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SnapshotError {
    /// There is nothing.
    #[error("there is no snapshot at {}", path.display())]
    Missing {
        /// Where nothing is.
        path: PathBuf,
    },
    /// There is one, or something else, where one was to be made.
    #[error("there is something at {} already", path.display())]
    Exists {
        /// Where.
        path: PathBuf,
    },
    /// What is there is no snapshot, so it is left alone.
    #[error("{} is no snapshot: {why}; it is left as it is", path.display())]
    Foreign {
        /// Where.
        path: PathBuf,
        /// What tells.
        why: String,
    },
    /// A manifest that is none.
    #[error("the manifest of the snapshot at {} cannot be used", path.display())]
    Manifest {
        /// The snapshot's directory.
        path: PathBuf,
        /// Why not.
        #[source]
        source: ManifestError,
    },
    /// It is not what its manifest says.
    #[error("the snapshot at {} is damaged: {what}", path.display())]
    Damaged {
        /// The snapshot's directory.
        path: PathBuf,
        /// What is not as it should be.
        what: String,
    },
    /// An archive that no release of this library wrote, or that was changed since.
    #[error("{what}")]
    Archive {
        /// What is wrong with it.
        what: String,
    },
    /// The image that is wanted with it is not here.
    #[error("the image {image} is not on this host")]
    ImageMissing {
        /// The digest of its manifest.
        image: Digest,
    },
    /// The image that is wanted with it cannot be used.
    #[error("the image of the snapshot cannot be used")]
    Image {
        /// Why not.
        #[source]
        source: Box<StoreError>,
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

impl SnapshotError {
    pub(super) fn io(path: &Path) -> impl FnOnce(io::Error) -> Self {
        let path = path.to_path_buf();
        move |source| Self::Io { path, source }
    }

    pub(super) fn damaged(path: &Path, what: impl Into<String>) -> Self {
        Self::Damaged {
            path: path.to_path_buf(),
            what: what.into(),
        }
    }

    pub(super) fn archive(what: impl Into<String>) -> Self {
        Self::Archive { what: what.into() }
    }
}
