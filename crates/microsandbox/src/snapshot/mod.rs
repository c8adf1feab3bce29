//! Snapshots: what a stopped sandbox has written, kept to make others from.
//!
//! ```no_run
//! use microsandbox::{Sandbox, Snapshot};
//!
//! # async fn example() -> microsandbox::MicrosandboxResult<()> {
//! let sandbox = Sandbox::builder("prepare").image("python:3.12").create().await?;
//! sandbox.shell("python3 -m venv /work").await?;
//! sandbox.stop().await?;
//! Snapshot::builder("prepare").name("ready").create().await?;
//!
//! // As many as are wanted: each has its own disk, and begins with what was written.
//! let one = Sandbox::builder("one").from_snapshot("ready").create().await?;
//! let two = Sandbox::builder("two").from_snapshot("ready").create().await?;
//! # Ok(())
//! # }
//! ```
//!
//! A snapshot is a directory with a manifest and the sandbox's writable layer; its identity is the digest of
//! the manifest. The image below is not in it: the manifest pins it by *its* digest, so a tag that
//! moves on changes nothing. A sandbox that crashed can be taken as well as one that was stopped: its file system
//! is put right from its journal by the next boot, as after any power cut.
//!
//! Where the home's file system can share blocks between files (btrfs, XFS with reflinks), a snapshot and a sandbox
//! that begins from one take no room and no time. Elsewhere (ext4) what was written is copied, once for each,
//! and holes are not.
//!
//! Snapshots are of this machine: with a backend that is not, every call is
//! [`Unsupported`](MicrosandboxError::Unsupported).

mod archive;
mod builder;
mod handle;
mod verify;

pub use archive::ExportOpts;
pub use builder::{SnapshotBuilder, SnapshotConfig, SnapshotDestination};
pub use handle::SnapshotHandle;
pub use msb_image::snapshot::manifest::{DEFAULT_UPPER_FILE, MANIFEST_FILENAME, SCHEMA_VERSION};
pub use msb_image::snapshot::{
    ImageRef, Manifest, PatchFile, PatchLayer, SnapshotFormat, UpperIntegrity, UpperLayer,
};
pub use verify::{SnapshotVerifyReport, UpperVerifyStatus};

use std::path::{Path, PathBuf};
use std::sync::Arc;

use msb_image::snapshot::SnapshotDir;

use crate::backend::{Backend, LocalBackend, default_backend};
use crate::error::{MicrosandboxError, MicrosandboxResult};

/// A snapshot of a sandbox, as its directory said when it was looked at.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Snapshot {
    path: PathBuf,
    digest: String,
    manifest: Manifest,
}

impl Snapshot {
    /// Describes a snapshot of this sandbox.
    pub fn builder(source_sandbox: impl Into<String>) -> SnapshotBuilder {
        SnapshotBuilder::new(source_sandbox.into())
    }

    /// Makes a snapshot. The sandbox is locked meanwhile: whoever starts or removes it waits.
    ///
    /// # Errors
    ///
    /// [`SandboxNotFound`](MicrosandboxError::SandboxNotFound);
    /// [`SnapshotSandboxRunning`](MicrosandboxError::SnapshotSandboxRunning) unless it is stopped or crashed;
    /// [`SnapshotAlreadyExists`](MicrosandboxError::SnapshotAlreadyExists) when there is one and it is not to be
    /// replaced; [`InvalidConfig`](MicrosandboxError::InvalidConfig) for a sandbox that is made of no
    /// image, and for a place where something else is than a snapshot, which stays whatever is asked for.
    pub async fn create(config: SnapshotConfig) -> MicrosandboxResult<Self> {
        let backend = default_backend();
        local(&backend)?.snapshot_create(config).await
    }

    /// Opens a snapshot: by the path of its directory if there is a slash in it, by its digest, or by its name.
    /// Its manifest is read, and its files are there with the sizes that it says; what is in them is
    /// [`verify`](Self::verify)'s matter.
    ///
    /// # Errors
    ///
    /// [`SnapshotNotFound`](MicrosandboxError::SnapshotNotFound) and
    /// [`SnapshotIntegrity`](MicrosandboxError::SnapshotIntegrity).
    pub async fn open(path_or_name: impl AsRef<str>) -> MicrosandboxResult<Self> {
        let backend = default_backend();
        local(&backend)?.snapshot_open(path_or_name.as_ref()).await
    }

    /// Reads all of it and sees that it is what it was. Its manifest has to be the same still, and so has the layer
    /// of its patches; of its disk that can be told if it was [recorded](SnapshotBuilder::record_integrity).
    ///
    /// # Errors
    ///
    /// [`SnapshotIntegrity`](MicrosandboxError::SnapshotIntegrity) when something was changed, and
    /// [`SnapshotNotFound`](MicrosandboxError::SnapshotNotFound) when it is gone.
    pub async fn verify(&self) -> MicrosandboxResult<SnapshotVerifyReport> {
        verify::verify(self).await
    }

    /// A handle on the snapshot that this digest, name or path means.
    ///
    /// # Errors
    ///
    /// [`SnapshotNotFound`](MicrosandboxError::SnapshotNotFound).
    pub async fn get(name_or_digest: &str) -> MicrosandboxResult<SnapshotHandle> {
        let backend = default_backend();
        let found = local(&backend)?.snapshot_get(name_or_digest).await?;
        Ok(SnapshotHandle::new(backend, found))
    }

    /// Handles on the home's snapshots and on those elsewhere that it knows of, the oldest first. One that
    /// cannot be read is left out.
    pub async fn list() -> MicrosandboxResult<Vec<SnapshotHandle>> {
        let backend = default_backend();
        let found = local(&backend)?.snapshot_list().await?;
        let handle = |found| SnapshotHandle::new(Arc::clone(&backend), found);
        Ok(found.into_iter().map(handle).collect())
    }

    /// The snapshots in a directory, in the order of their names. What is none is passed over.
    pub async fn list_dir(dir: impl AsRef<Path>) -> MicrosandboxResult<Vec<Snapshot>> {
        let backend = default_backend();
        local(&backend)?.snapshot_list_dir(dir.as_ref()).await
    }

    /// Removes a snapshot. Sandboxes that were made from it have their own disks and stay.
    ///
    /// # Errors
    ///
    /// [`SnapshotInUse`](MicrosandboxError::SnapshotInUse) when another comes from it, unless `force` is set;
    /// [`InvalidConfig`](MicrosandboxError::InvalidConfig) when there is something in its directory that no
    /// snapshot has: then nothing is removed, whatever is asked for.
    pub async fn remove(path_or_name: &str, force: bool) -> MicrosandboxResult<()> {
        let backend = default_backend();
        local(&backend)?.snapshot_remove(path_or_name, force).await
    }

    /// Makes the snapshots in a directory known to the home: from then on they are listed, found by their digests,
    /// and keep their images in use. Those that it knew of and that are gone are forgotten. Returns how many
    /// there are in the directory.
    ///
    /// The home's own need no such thing: their directories are asked each time.
    pub async fn reindex(dir: impl AsRef<Path>) -> MicrosandboxResult<usize> {
        let backend = default_backend();
        local(&backend)?.snapshot_reindex(dir.as_ref()).await
    }

    /// Writes a snapshot into one file, a `.tar.zst` or a plain tar, in which holes take no room. It appears whole,
    /// in the place of any file of its name.
    ///
    /// # Errors
    ///
    /// [`SnapshotNotFound`](MicrosandboxError::SnapshotNotFound),
    /// [`SnapshotIntegrity`](MicrosandboxError::SnapshotIntegrity) when it is not what it was recorded to be, and
    /// [`SnapshotImageMissing`](MicrosandboxError::SnapshotImageMissing) when its image is asked for and is not here.
    pub async fn export(
        name_or_path: &str,
        out: &Path,
        opts: ExportOpts,
    ) -> MicrosandboxResult<()> {
        let backend = default_backend();
        local(&backend)?
            .snapshot_export(name_or_path, out, opts)
            .await
    }

    /// Unpacks such a file among the home's snapshots, or in the directory `dest`, and returns a handle on the
    /// snapshot that it was written for. Each appears whole; one that is there already is not made again.
    /// An image that comes along is taken in too; one that does not is needed when a sandbox is made
    /// from the snapshot.
    ///
    /// # Errors
    ///
    /// [`SnapshotIntegrity`](MicrosandboxError::SnapshotIntegrity) for a file that this library did not write
    /// or that was changed since, and [`SnapshotAlreadyExists`](MicrosandboxError::SnapshotAlreadyExists) when another
    /// has the name. Nothing of it is there then.
    pub async fn import(
        archive_path: &Path,
        dest: Option<&Path>,
    ) -> MicrosandboxResult<SnapshotHandle> {
        let backend = default_backend();
        let found = local(&backend)?.snapshot_import(archive_path, dest).await?;
        Ok(SnapshotHandle::new(backend, found))
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// What it is: the digest of its manifest, `sha256:...`.
    pub fn digest(&self) -> &str {
        &self.digest
    }

    /// Its manifest.
    pub fn manifest(&self) -> &Manifest {
        &self.manifest
    }

    /// The size of its disk in bytes, holes included.
    pub fn size_bytes(&self) -> u64 {
        self.manifest.upper.size_bytes
    }
}

impl From<&SnapshotDir> for Snapshot {
    fn from(dir: &SnapshotDir) -> Self {
        Self {
            path: dir.path().to_path_buf(),
            digest: dir.sealed().digest().to_string(),
            manifest: dir.sealed().manifest().clone(),
        }
    }
}

/// The machine that snapshots are of.
pub(crate) fn local(backend: &Arc<dyn Backend>) -> MicrosandboxResult<&LocalBackend> {
    backend
        .as_local()
        .ok_or_else(|| MicrosandboxError::Unsupported {
            feature: "a snapshot on a server".to_owned(),
            available_when: "use the local backend".to_owned(),
        })
}
