//! What can go wrong with the store.

use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::Digest;
use crate::erofs::WriteError;
use crate::layer::{IndexError, LayerError};
use crate::manifest::ManifestError;
use crate::tree::TreeError;

/// An operation on the store that did not succeed. What was stored before still is.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StoreError {
    /// The host refused.
    #[error("cannot use {}", path.display())]
    Io {
        /// What was to be used.
        path: PathBuf,
        /// Why not.
        #[source]
        source: io::Error,
    },
    /// The disk has too little room, seen before anything was written.
    #[error(
        "{missing} more bytes are needed on the disk of {}; remove images that are not needed, or \
         make room", path.display()
    )]
    SpaceMissing {
        /// Where.
        path: PathBuf,
        /// Bytes that are missing.
        missing: u64,
    },
    /// The disk became full, or the user's quota was used up.
    #[error(
        "the disk of {} is full; remove images that are not needed, or make room", path.display()
    )]
    DiskFull {
        /// What was being written.
        path: PathBuf,
    },
    /// Somebody else held a lock until the deadline.
    #[error(
        "{} was busy for {waited:?}; try again, or look for a process of this library that is \
         stopped", path.display()
    )]
    Busy {
        /// What was waited for.
        path: PathBuf,
        /// How long.
        waited: Duration,
    },
    /// What came is not what it was called.
    #[error("what came as {expected} is {found}; the source is damaged, or not to be trusted")]
    WrongDigest {
        /// What it was called.
        expected: Digest,
        /// What it is.
        found: Digest,
    },
    /// What came is not as long as it was said to be.
    #[error("{digest} was said to have {expected} bytes and has {found}")]
    WrongSize {
        /// What it was called.
        digest: Digest,
        /// How long it was to be.
        expected: u64,
        /// How long it is; of what goes on past its end, what had come until then.
        found: u64,
    },
    /// A record of the store cannot be read.
    #[error("{} is damaged; remove the image, and pull or load it again", path.display())]
    Damaged {
        /// The record.
        path: PathBuf,
        /// What is wrong with it.
        #[source]
        source: serde_json::Error,
    },
    /// A newer release of this library wrote it.
    #[error(
        "{} has version {version}, which this release does not know; use a newer one", path.display()
    )]
    Newer {
        /// The record.
        path: PathBuf,
        /// Its version.
        version: u32,
    },
    /// A file of the store is not what it was when it was verified.
    #[error(
        "{} was {expected} and is {found}; pull or load the image again", path.display()
    )]
    Integrity {
        /// The file.
        path: PathBuf,
        /// What it was.
        expected: Digest,
        /// What it is.
        found: Digest,
    },
    /// A layer cannot be unpacked.
    #[error("the layer {diff_id} cannot be used")]
    Layer {
        /// Which.
        diff_id: Digest,
        /// Why.
        #[source]
        source: LayerError,
    },
    /// What was kept of a layer cannot be written or read.
    #[error("the unpacked layer {diff_id} cannot be used")]
    Index {
        /// Which.
        diff_id: Digest,
        /// Why.
        #[source]
        source: IndexError,
    },
    /// The layers do not make an image.
    #[error("the layers of image {manifest} cannot be put together")]
    Tree {
        /// Which.
        manifest: Digest,
        /// Why.
        #[source]
        source: TreeError,
    },
    /// There is no disk of the image.
    #[error("no disk can be made of image {manifest}")]
    Disk {
        /// Which.
        manifest: Digest,
        /// Why.
        #[source]
        source: WriteError,
    },
    /// Its manifest or configuration cannot be used.
    #[error("the image {manifest} cannot be used")]
    Manifest {
        /// Which.
        manifest: Digest,
        /// Why.
        #[source]
        source: ManifestError,
    },
    /// A part of an image was not stored.
    #[error("{0} is not in the store; pull or load the image again")]
    BlobMissing(Digest),
    /// A layer of an image was not unpacked.
    #[error("the layer {0} is not in the store; pull or load the image again")]
    LayerMissing(Digest),
    /// There is no such image here.
    #[error("there is no image {0} on this host")]
    ImageMissing(Digest),
    /// The reference means nothing here.
    #[error("there is no image {0:?} on this host")]
    ReferenceMissing(String),
    /// A sandbox or a snapshot refers to the image, or is about to.
    #[error("the image {0:?} is in use; remove the sandboxes and snapshots that are made from it")]
    InUse(String),
    /// It could not be told which images are in use, so nothing was removed.
    #[error("it cannot be told which images are in use")]
    InUseUnknown(#[source] super::InUseError),
}

impl StoreError {
    /// What was wrong with a layer. A full disk is what it is, wherever it shows.
    pub(super) fn layer(diff_id: Digest, path: &Path, source: LayerError) -> Self {
        match source {
            LayerError::Write(source) => Self::io(path, source),
            source => Self::Layer { diff_id, source },
        }
    }

    pub(super) fn index(diff_id: Digest, source: IndexError) -> Self {
        Self::Index { diff_id, source }
    }

    /// Whether something of the store is not what it should be, and can be made anew.
    pub(super) fn is_damage(&self) -> bool {
        match self {
            Self::Integrity { .. }
            | Self::Damaged { .. }
            | Self::Layer { .. }
            | Self::Index { .. } => true,
            Self::Io { source, .. } => matches!(
                source.kind(),
                io::ErrorKind::NotFound | io::ErrorKind::InvalidData | io::ErrorKind::NotADirectory
            ),
            _ => false,
        }
    }

    /// Whether an image of the store is not what it was, so that it cannot be booted and has to be mended.
    pub fn is_damaged_image(&self) -> bool {
        self.is_damage()
            || matches!(
                self,
                Self::WrongSize { .. }
                    | Self::WrongDigest { .. }
                    | Self::Manifest { .. }
                    | Self::Tree { .. }
                    | Self::BlobMissing(_)
                    | Self::LayerMissing(_)
            )
    }

    /// What the host refused, about this path.
    pub(crate) fn io(path: &Path, source: io::Error) -> Self {
        let path = path.to_path_buf();
        match source.kind() {
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => Self::DiskFull { path },
            _ => Self::Io { path, source },
        }
    }
}

/// Says which path a failure is about.
pub(super) trait AtPath<T> {
    fn at(self, path: &Path) -> Result<T, StoreError>;
}

impl<T, E: Into<io::Error>> AtPath<T> for Result<T, E> {
    fn at(self, path: &Path) -> Result<T, StoreError> {
        self.map_err(|error| StoreError::io(path, error.into()))
    }
}
