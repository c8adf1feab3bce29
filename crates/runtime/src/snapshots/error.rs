//! What can stand in the way of taking or removing a snapshot.

use std::path::PathBuf;

use msb_image::snapshot::SnapshotError;
use msb_types::SandboxStatus;

use crate::registry::RegistryError;

/// A snapshot that was not taken.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TakeError {
    /// There is no such sandbox.
    #[error("there is no sandbox of this name")]
    NoSandbox,
    /// It runs.
    #[error("the sandbox is {0}")]
    Active(SandboxStatus),
    /// Somebody launches, ends, removes or copies it right now.
    #[error("the sandbox is being launched, ended, removed or copied")]
    Busy,
    /// It is none that a snapshot can be taken of.
    #[error("{0}")]
    Unfit(String),
    /// A name, a label or a place that none can have.
    #[error("{0}")]
    Invalid(String),
    /// Its configuration, or the home's catalog, cannot be read.
    #[error(transparent)]
    Registry(#[from] RegistryError),
    /// The snapshot cannot be made.
    #[error(transparent)]
    Snapshot(#[from] SnapshotError),
}

/// A snapshot that was not removed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RemoveSnapshotError {
    /// Another was taken of a sandbox that had begun from it.
    #[error("the snapshot at {} comes from it", child.display())]
    HasChildren {
        /// That one.
        child: PathBuf,
    },
    /// It cannot be.
    #[error(transparent)]
    Snapshot(#[from] SnapshotError),
}
