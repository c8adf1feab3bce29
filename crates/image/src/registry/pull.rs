//! The whole of a pull.

use std::sync::Arc;
use std::time::Duration;

use super::error::RegistryError;
use crate::Digest;
use crate::manifest::ManifestError;
use crate::store::StoreError;

/// Layers that are brought at once.
const AT_ONCE: usize = 4;

/// Why an image could not be pulled.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum PullError {
    /// The registry did not give it.
    #[error(transparent)]
    Registry(#[from] RegistryError),
    /// The store did not take it.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// What the store has of it makes no sense.
    #[error(
        "the image's documents on this host cannot be understood; remove the image, and pull it again"
    )]
    Manifest(#[from] ManifestError),
    /// Another program of this user downloads a part of it, and does not get on.
    #[error(
        "another program downloads {digest}, of which nothing came for {} s; end that program, or try \
         again", waited.as_secs()
    )]
    Elsewhere {
        /// The part.
        digest: Digest,
        /// How long was waited.
        waited: Duration,
    },
}

/// How far a pull has come. Layers are counted from 0, the lowest.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum PullEvent {
    /// The registry is asked what the reference stands for.
    Resolving,
    /// It is known.
    Resolved {
        /// The image.
        manifest: Digest,
        /// The number of its layers.
        layers: usize,
        /// Bytes of all its layers, as they are downloaded.
        total: u64,
    },
    /// So many bytes of a layer are here.
    Downloading {
        /// Which.
        layer: usize,
        /// What it is called.
        digest: Digest,
        /// Bytes that are here.
        bytes: u64,
        /// Bytes that there are.
        total: u64,
    },
    /// A layer is here.
    Downloaded {
        /// Which.
        layer: usize,
        /// What it is called.
        digest: Digest,
        /// Its bytes.
        total: u64,
    },
    /// A layer can be used.
    Unpacked {
        /// Which.
        layer: usize,
        /// What is in it.
        diff_id: Digest,
    },
    /// The image can be used.
    Complete {
        /// The number of its layers.
        layers: usize,
    },
}

/// Hears how far a pull has come. It is called from several threads, and must not block.
pub type Progress = Arc<dyn Fn(PullEvent) + Send + Sync>;

/// Does what may block, elsewhere.
pub(super) async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, StoreError> + Send + 'static,
) -> Result<T, PullError> {
    match tokio::task::spawn_blocking(work).await {
        Ok(done) => done.map_err(PullError::Store),
        Err(_) => Err(PullError::Store(super::blob::lost())),
    }
}
