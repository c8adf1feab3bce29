//! Creating a sandbox while hearing how far its image has come.

use std::sync::Arc;

use msb_image::registry::{Progress, PullEvent};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;

use super::{Sandbox, SandboxConfig};
use crate::backend::default_backend;
use crate::error::MicrosandboxResult;

/// Events that may wait to be heard.
const EVENTS: usize = 1024;

/// Places that are kept for events of which each is told: three, and two for each layer. When only so many are
/// free, it is left out how much of a layer is here.
const KEPT: usize = 512;

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
        /// Bytes of its layers as they are downloaded, each counted once, with those that are here already.
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
        /// How much it is, also if it was here already.
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

/// Tells how far a pull has come, if anybody listens.
#[derive(Clone, Debug, Default)]
pub struct PullReporter {
    events: Option<mpsc::Sender<PullProgress>>,
}

impl PullReporter {
    /// What the pull of this image is told to.
    pub(crate) fn of(&self, reference: &str) -> Progress {
        let reference: Arc<str> = reference.into();
        let Some(events) = self.events.clone() else {
            return Arc::new(|_| ());
        };
        Arc::new(move |event| {
            let Some(event) = translated(event, &reference) else {
                return;
            };
            let may_miss = matches!(event, PullProgress::LayerDownloadProgress { .. });
            if !may_miss || events.capacity() > KEPT {
                // Nobody may be listening any more, which is no reason to stop.
                let _ = events.try_send(event);
            }
        })
    }
}

fn translated(event: PullEvent, reference: &Arc<str>) -> Option<PullProgress> {
    let reference = Arc::clone(reference);
    let text = |digest: msb_image::Digest| -> Arc<str> { digest.to_string().into() };
    Some(match event {
        PullEvent::Resolving => PullProgress::Resolving { reference },
        PullEvent::Resolved {
            manifest,
            layers,
            total,
        } => PullProgress::Resolved {
            reference,
            manifest_digest: text(manifest),
            layer_count: layers,
            total_download_bytes: Some(total),
        },
        PullEvent::Downloading {
            layer,
            digest,
            bytes,
            total,
        } => PullProgress::LayerDownloadProgress {
            layer_index: layer,
            digest: text(digest),
            downloaded_bytes: bytes,
            total_bytes: Some(total),
        },
        PullEvent::Downloaded {
            layer,
            digest,
            total,
        } => PullProgress::LayerDownloadComplete {
            layer_index: layer,
            digest: text(digest),
            downloaded_bytes: total,
        },
        PullEvent::Unpacked { layer, diff_id } => PullProgress::LayerMaterializeComplete {
            layer_index: layer,
            diff_id: text(diff_id),
        },
        PullEvent::Complete { layers } => PullProgress::Complete {
            reference,
            layer_count: layers,
        },
        _ => return None,
    })
}

/// Creating with an ear on the pull. Both must be called in a tokio runtime.
impl Sandbox {
    /// Creates and boots a sandbox that belongs to this program, in a task, and says how far its
    /// image has come. Dropping the task's handle does not end the task; the sandbox that it makes
    /// then ends at once, as nobody has it. Aborting the task stops the pull; what has come stays, and the
    /// next pull goes on from there.
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
        let (sender, events) = mpsc::channel(EVENTS);
        let reporter = PullReporter {
            events: Some(sender),
        };
        // The task does not inherit the backend that holds here.
        let backend = default_backend();
        let created =
            async move { Self::create_on(backend, built.await?, detached, reporter).await };
        (PullProgressHandle { events }, tokio::spawn(created))
    }
}

#[cfg(test)]
#[path = "pull_tests.rs"]
mod tests;
