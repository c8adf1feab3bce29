//! The whole of a pull.

use std::ops::ControlFlow;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use futures::stream::{self, StreamExt, TryStreamExt};

use super::blob::{Told, gone};
use super::client::{RegistryOptions, Repository};
use super::error::RegistryError;
use super::resolve::{LayerBlob, Resolved};
use crate::layer::Progress as Unpacking;
use crate::limits::Limits;
use crate::manifest::{ImageConfig, Platform};
use crate::store::{Claim, ImageRecord, Store, StoreError};
use crate::{Digest, Reference};

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

/// An image that is to be in the store.
#[derive(Clone)]
pub struct Pull {
    store: Store,
    reference: Reference,
    progress: Progress,
    limits: Limits,
}

/// An image that is in the store.
#[derive(Debug)]
pub struct Pulled {
    /// It stays as long as this is held.
    pub claim: Arc<Claim>,
    /// What it consists of.
    pub record: ImageRecord,
    /// How it wants to be run.
    pub config: ImageConfig,
}

impl std::fmt::Debug for Pull {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Pull")
            .field("reference", &self.reference)
            .finish_non_exhaustive()
    }
}

impl Pull {
    /// The image that the reference means, into this store.
    pub fn new(store: Store, reference: Reference, progress: Progress) -> Self {
        Self {
            store,
            reference,
            progress,
            limits: Limits::default(),
        }
    }

    /// What it means.
    pub fn reference(&self) -> &Reference {
        &self.reference
    }

    /// The image, if it is in the store and can be booted. No registry is asked.
    ///
    /// # Errors
    ///
    /// [`Store`](PullError::Store), for an image that was damaged
    /// ([`is_damaged_image`](StoreError::is_damaged_image)) too.
    pub async fn find(&self) -> Result<Option<Pulled>, PullError> {
        let (store, reference) = (self.store.clone(), self.reference.clone());
        let found = blocking(move || {
            let claim = store.claim()?;
            match claim.find(&reference)? {
                Some(record) => checked(claim, record).map(Some),
                None => Ok(None),
            }
        });
        Ok(self.found(found.await?))
    }

    /// The image, made whole from what of it is in the store, if that suffices. No registry is asked. `None` when
    /// the image has to be pulled again.
    ///
    /// # Errors
    ///
    /// [`Store`](PullError::Store).
    pub async fn mend(&self) -> Result<Option<Pulled>, PullError> {
        let (store, reference, limits) = (self.store.clone(), self.reference.clone(), self.limits);
        let dropped = Dropped::default();
        let over = Arc::clone(&dropped.0);
        let mended = blocking(move || {
            let claim = store.claim()?;
            let mended = claim.mend(&reference, &limits, &mut until(&over));
            let checked = mended.and_then(|mended| match mended {
                Some(record) => checked(claim, record).map(Some),
                None => Ok(None),
            });
            match checked {
                Err(error) if error.is_damaged_image() => {
                    tracing::warn!(%error, %reference, "a damaged image has to be pulled again");
                    Ok(None)
                }
                checked => checked,
            }
        });
        Ok(self.found(mended.await?))
    }

    /// Tells of an image that nothing of had to come.
    fn found(&self, found: Option<Pulled>) -> Option<Pulled> {
        if let Some(Pulled { record, .. }) = &found {
            let layers = record.layers.len();
            (self.progress)(PullEvent::Resolved {
                manifest: record.manifest_digest,
                layers,
                total: record.download_size(),
            });
            (self.progress)(PullEvent::Complete { layers });
        }
        found
    }

    /// Asks the registry what the reference means now, and brings what of it is missing.
    ///
    /// It can be dropped at any time: what has come of a layer stays, and whoever pulls next goes on from there.
    ///
    /// # Errors
    ///
    /// [`PullError`].
    pub async fn pull(&self, options: RegistryOptions) -> Result<Pulled, PullError> {
        (self.progress)(PullEvent::Resolving);
        let reference = self.reference.clone();
        // The host's authorities are many files.
        let opened = tokio::task::spawn_blocking(move || Repository::new(&reference, options));
        let repository = opened.await.map_err(|_| gone())??;
        let platform = Platform::host();
        let resolved = repository
            .resolve(&self.reference, &platform, &self.limits)
            .await?;
        let layers = wanted(&resolved.layers);
        (self.progress)(PullEvent::Resolved {
            manifest: resolved.manifest.digest,
            layers: resolved.layers.len(),
            total: layers
                .iter()
                .fold(0, |sum, wanted| sum.saturating_add(wanted.blob.size)),
        });
        let store = self.store.clone();
        let claim = Arc::new(blocking(move || store.claim()).await?);
        self.room(&layers).await?;
        let bring = |wanted| self.bring(&repository, &claim, wanted);
        let bringing = stream::iter(layers).map(|wanted| Ok(bring(wanted)));
        bringing
            .try_buffer_unordered(AT_ONCE)
            .try_collect::<()>()
            .await?;
        self.commit(claim, resolved).await
    }

    /// Whether the disk has room for what is missing, before any of it comes.
    async fn room(&self, layers: &[Wanted]) -> Result<(), PullError> {
        let store = self.store.clone();
        let blobs: Vec<_> = layers.iter().map(|wanted| wanted.blob).collect();
        let check = move || {
            let mut missing = 0_u64;
            for blob in blobs {
                // What comes is unpacked besides, and seldom becomes smaller by that.
                for here in [
                    store.blob(&blob.digest)?.is_some(),
                    store.layer(&blob.diff_id)?.is_some(),
                ] {
                    missing = missing.saturating_add(if here { 0 } else { blob.size });
                }
            }
            store.check_room(missing)
        };
        blocking(check).await
    }

    /// Downloads a layer and unpacks it.
    async fn bring(
        &self,
        repository: &Repository,
        claim: &Arc<Claim>,
        wanted: Wanted,
    ) -> Result<(), PullError> {
        let blob = wanted.blob;
        let mut again = true;
        loop {
            let (progress, places) = (Arc::clone(&self.progress), wanted.places.clone());
            let told: Told = Arc::new(move |bytes| {
                for layer in places.iter().copied() {
                    progress(PullEvent::Downloading {
                        layer,
                        digest: blob.digest,
                        bytes,
                        total: blob.size,
                    });
                }
            });
            repository.blob(claim, blob, &told).await?;
            for layer in wanted.places.iter().copied() {
                (self.progress)(PullEvent::Downloaded {
                    layer,
                    digest: blob.digest,
                    total: blob.size,
                });
            }
            match self.unpack(claim, blob).await {
                // Somebody changed what was here already; it is gone now.
                Err(PullError::Store(StoreError::Integrity { .. })) if again => again = false,
                unpacked => {
                    unpacked?;
                    break;
                }
            }
        }
        for layer in wanted.places.iter().copied() {
            let diff_id = blob.diff_id;
            (self.progress)(PullEvent::Unpacked { layer, diff_id });
        }
        Ok(())
    }

    async fn unpack(&self, claim: &Arc<Claim>, blob: LayerBlob) -> Result<(), PullError> {
        let (claim, limits) = (Arc::clone(claim), self.limits);
        let dropped = Dropped::default();
        let over = Arc::clone(&dropped.0);
        let unpack = move || {
            let mut progress = until(&over);
            claim.unpack_layer(&blob.digest, &blob.diff_id, &limits, &mut progress)
        };
        blocking(unpack).await.map(drop)
    }

    async fn commit(&self, claim: Arc<Claim>, resolved: Resolved) -> Result<Pulled, PullError> {
        let (reference, limits) = (self.reference.clone(), self.limits);
        let commit = move || {
            let (manifest, config) = (&resolved.manifest.bytes, &resolved.config.bytes);
            let record = claim.commit_image(Some(&reference), manifest, config, &limits)?;
            let config = claim.store().image_config(&record)?;
            Ok(Pulled {
                claim,
                record,
                config,
            })
        };
        let pulled = blocking(commit).await?;
        let layers = pulled.record.layers.len();
        (self.progress)(PullEvent::Complete { layers });
        Ok(pulled)
    }
}

/// An image of the store, if it can be booted.
fn checked(claim: Claim, record: ImageRecord) -> Result<Pulled, StoreError> {
    Ok(Pulled {
        config: claim.check_image(&record)?,
        claim: Arc::new(claim),
        record,
    })
}

/// Goes on with an unpacking until it is over.
fn until(over: &AtomicBool) -> impl FnMut(Unpacking) -> ControlFlow<()> {
    |_| match over.load(Ordering::Relaxed) {
        true => ControlFlow::Break(()),
        false => ControlFlow::Continue(()),
    }
}

/// A layer that is wanted, once.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Wanted {
    blob: LayerBlob,
    /// Where in the image it is: some have a layer several times.
    places: Vec<usize>,
}

fn wanted(layers: &[LayerBlob]) -> Vec<Wanted> {
    let mut wanted: Vec<Wanted> = Vec::new();
    for (place, blob) in layers.iter().enumerate() {
        match wanted.iter_mut().find(|known| known.blob == *blob) {
            Some(known) => known.places.push(place),
            None => wanted.push(Wanted {
                blob: *blob,
                places: vec![place],
            }),
        }
    }
    wanted
}

/// Says that whoever waited has gone.
#[derive(Debug, Default)]
struct Dropped(Arc<AtomicBool>);

impl Drop for Dropped {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// Does what may block, elsewhere.
pub(super) async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, StoreError> + Send + 'static,
) -> Result<T, PullError> {
    match tokio::task::spawn_blocking(work).await {
        Ok(done) => done.map_err(PullError::Store),
        Err(_) => Err(PullError::Store(super::blob::lost())),
    }
}
