//! Where each thing is. Every name below the store is made here, of digests and random letters only.

use std::fs::DirBuilder;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::error::{AtPath, StoreError};
use crate::Digest;

/// The ending of directories of work, each locked by whoever works in it.
pub(super) const WORK: &str = ".work";
/// The ending of directories in which a layer is unpacked, locked like those.
pub(super) const UNPACK: &str = ".unpack";
/// The ending of what is here of a download.
pub(super) const PARTIAL: &str = ".partial";
/// The ending of a download's lock.
pub(super) const LOCK: &str = ".lock";

/// The paths of one store.
#[derive(Clone, Debug)]
pub(super) struct Layout {
    root: Arc<Path>,
}

impl Layout {
    pub(super) fn of(root: &Path) -> Self {
        Self { root: root.into() }
    }

    pub(super) fn root(&self) -> &Path {
        &self.root
    }

    /// Makes the directories that are missing.
    pub(super) fn make(&self) -> Result<(), StoreError> {
        for dir in [
            self.blobs(),
            self.layers(),
            self.meta(),
            self.refs(),
            self.tmp(),
        ] {
            make_dir(&dir)?;
        }
        Ok(())
    }

    pub(super) fn lock(&self) -> PathBuf {
        self.root.join("lock")
    }

    pub(super) fn blobs(&self) -> PathBuf {
        self.root.join("blobs").join("sha256")
    }

    pub(super) fn blob(&self, digest: &Digest) -> PathBuf {
        self.blobs().join(digest.hex())
    }

    pub(super) fn layers(&self) -> PathBuf {
        self.root.join("layers")
    }

    pub(super) fn layer(&self, diff_id: &Digest) -> PathBuf {
        self.layers().join(diff_id.hex())
    }

    pub(super) fn meta(&self) -> PathBuf {
        self.root.join("meta")
    }

    pub(super) fn image_record(&self, manifest: &Digest) -> PathBuf {
        self.meta().join(manifest.hex() + ".json")
    }

    pub(super) fn image_erofs(&self, manifest: &Digest) -> PathBuf {
        self.meta().join(manifest.hex() + ".erofs")
    }

    pub(super) fn refs(&self) -> PathBuf {
        self.root.join("refs")
    }

    pub(super) fn tmp(&self) -> PathBuf {
        self.root.join("tmp")
    }

    pub(super) fn partial(&self, digest: &Digest) -> PathBuf {
        self.tmp().join(digest.hex() + PARTIAL)
    }

    pub(super) fn partial_lock(&self, digest: &Digest) -> PathBuf {
        self.tmp().join(digest.hex() + LOCK)
    }
}

/// Makes a directory that only this user can enter, and those above it.
pub(super) fn make_dir(path: &Path) -> Result<(), StoreError> {
    DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(path)
        .at(path)
}
