//! A light handle on a snapshot.

use std::fmt;
use std::path::Path;
use std::sync::Arc;

use chrono::NaiveDateTime;
use msb_runtime::snapshots::Found;

use super::{Snapshot, SnapshotFormat, local};
use crate::backend::Backend;
use crate::error::MicrosandboxResult;

/// A handle on a snapshot: what its manifest said when it was looked at.
#[derive(Clone)]
pub struct SnapshotHandle {
    backend: Arc<dyn Backend>,
    name: Option<String>,
    created_at: NaiveDateTime,
    snapshot: Snapshot,
}

impl fmt::Debug for SnapshotHandle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SnapshotHandle")
            .field("name", &self.name)
            .field("digest", &self.digest())
            .field("path", &self.path())
            .finish()
    }
}

impl SnapshotHandle {
    pub(super) fn new(backend: Arc<dyn Backend>, found: Found) -> Self {
        Self {
            backend,
            name: found.name,
            created_at: found.dir.sealed().created_at(),
            snapshot: Snapshot::from(&found.dir),
        }
    }

    /// What it is: the digest of its manifest, `sha256:...`.
    pub fn digest(&self) -> &str {
        self.snapshot.digest()
    }

    /// Its name; `None` if it is not one of the home's own.
    pub fn name(&self) -> Option<&str> {
        self.name.as_deref()
    }

    /// The digest of the snapshot that its sandbox had begun from, if it had begun from one.
    pub fn parent_digest(&self) -> Option<&str> {
        self.snapshot.manifest().parent.as_deref()
    }

    /// What its image was called when it was pulled.
    pub fn image_ref(&self) -> &str {
        &self.snapshot.manifest().image.reference
    }

    /// How its disk is stored.
    pub fn format(&self) -> SnapshotFormat {
        self.snapshot.manifest().format
    }

    /// The size of its disk in bytes, holes included.
    pub fn size_bytes(&self) -> Option<u64> {
        Some(self.snapshot.size_bytes())
    }

    /// When it was made, in UTC.
    pub fn created_at(&self) -> NaiveDateTime {
        self.created_at
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        self.snapshot.path()
    }

    /// Opens it: what is true of it now.
    ///
    /// # Errors
    ///
    /// Those of [`Snapshot::open`].
    pub async fn open(&self) -> MicrosandboxResult<Snapshot> {
        let path = self.path().to_path_buf();
        local(&self.backend)?.snapshot_open_at(path).await
    }

    /// Removes it.
    ///
    /// # Errors
    ///
    /// Those of [`Snapshot::remove`]; if another has taken its place, it is not found.
    pub async fn remove(&self, force: bool) -> MicrosandboxResult<()> {
        local(&self.backend)?
            .snapshot_remove(self.digest(), force)
            .await
    }
}
