//! Creating a sandbox while hearing how far its image has come.
//!
//! What a sandbox can be made from today is on this host already, so there is nothing to hear: the
//! progress ends at once.

use std::sync::Arc;

use tokio::sync::mpsc;
use tokio::task::JoinHandle;

use super::{Sandbox, SandboxConfig};
use crate::backend::default_backend;
use crate::error::MicrosandboxResult;

/// Events that wait to be heard. When so many do, further ones are left out.
const EVENTS: usize = 256;

/// How far the pull of an image has come.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum PullProgress {
    /// Its registry is asked for it.
    Resolving {
        /// What it was called.
        reference: Arc<str>,
    },
    /// Its registry knows it.
    Resolved {
        /// What it was called.
        reference: Arc<str>,
        /// What it is.
        manifest_digest: Arc<str>,
        /// The number of its layers.
        layer_count: usize,
        /// How much there is to download, if that is known.
        total_download_bytes: Option<u64>,
    },
    /// More of a layer is here.
    LayerDownloadProgress {
        /// The layer, from 0.
        layer_index: usize,
        /// What it is.
        digest: Arc<str>,
        /// How much is here.
        downloaded_bytes: u64,
        /// How much there is, if that is known.
        total_bytes: Option<u64>,
    },
    /// A layer is here.
    LayerDownloadComplete {
        /// The layer, from 0.
        layer_index: usize,
        /// What it is.
        digest: Arc<str>,
        /// How much it was.
        downloaded_bytes: u64,
    },
    /// A layer can be used.
    LayerMaterializeComplete {
        /// The layer, from 0.
        layer_index: usize,
        /// What is in it.
        diff_id: Arc<str>,
    },
    /// The image can be used.
    Complete {
        /// What it was called.
        reference: Arc<str>,
        /// The number of its layers.
        layer_count: usize,
    },
}

/// Hears how far a pull has come.
#[derive(Debug)]
pub struct PullProgressHandle {
    events: mpsc::Receiver<PullProgress>,
}

impl PullProgressHandle {
    /// The next event; `None` when the pull is over. Cancel-safe.
    pub async fn recv(&mut self) -> Option<PullProgress> {
        self.events.recv().await
    }

    /// The channel itself.
    pub fn into_receiver(self) -> mpsc::Receiver<PullProgress> {
        self.events
    }
}

/// Creating with an ear on the pull. Both must be called in a tokio runtime.
impl Sandbox {
    /// Creates and boots a sandbox that belongs to this program, in a task, and says how far its
    /// image has come. Dropping the task's handle does not end the task; the sandbox that it makes
    /// then ends at once, as nobody has it.
    pub fn create_with_pull_progress(
        config: SandboxConfig,
    ) -> (PullProgressHandle, JoinHandle<MicrosandboxResult<Self>>) {
        Self::pulling(config, false)
    }

    /// The same, for a sandbox that outlives this program.
    pub fn create_detached_with_pull_progress(
        config: SandboxConfig,
    ) -> (PullProgressHandle, JoinHandle<MicrosandboxResult<Self>>) {
        Self::pulling(config, true)
    }

    pub(super) fn pulling(
        config: SandboxConfig,
        detached: bool,
    ) -> (PullProgressHandle, JoinHandle<MicrosandboxResult<Self>>) {
        Self::pulling_built(std::future::ready(Ok(config)), detached)
    }

    /// The same for a configuration that is yet to be found.
    pub(super) fn pulling_built(
        built: impl Future<Output = MicrosandboxResult<SandboxConfig>> + Send + 'static,
        detached: bool,
    ) -> (PullProgressHandle, JoinHandle<MicrosandboxResult<Self>>) {
        let (_, events) = mpsc::channel(EVENTS);
        // The task does not inherit the backend that holds here.
        let backend = default_backend();
        let task =
            tokio::spawn(async move { Self::create_on(backend, built.await?, detached).await });
        (PullProgressHandle { events }, task)
    }
}
