//! What of the store is referred to.

use std::collections::HashSet;

use super::error::StoreError;
use super::{Store, claim};
use crate::Digest;

/// Who knows which images are in use: the store does not know sandboxes and snapshots.
///
/// It is asked while nobody can begin to use another image. Closures that return a list are one.
pub trait InUse {
    /// The digests of the manifests of all images that a sandbox, running or not, or a snapshot refers to.
    ///
    /// # Errors
    ///
    /// It cannot be told. Then nothing is removed.
    fn in_use(&self) -> Result<Vec<Digest>, InUseError>;
}

/// Why it could not be told what is in use.
pub type InUseError = Box<dyn std::error::Error + Send + Sync>;

impl<F: Fn() -> Result<Vec<Digest>, InUseError>> InUse for F {
    fn in_use(&self) -> Result<Vec<Digest>, InUseError> {
        self()
    }
}

/// Images that must not go, and more that must not.
#[derive(Debug, Default)]
pub(super) struct Used {
    /// Manifests of images in use by sandboxes and snapshots.
    pub(super) images: HashSet<Digest>,
    /// Whatever claims name: manifests, layers, blobs.
    pub(super) claimed: HashSet<Digest>,
}

impl Used {
    /// Asks who knows. The store is locked exclusively.
    pub(super) fn look(store: &Store, in_use: &dyn InUse) -> Result<Self, StoreError> {
        let mut used = Self {
            images: in_use
                .in_use()
                .map_err(StoreError::InUseUnknown)?
                .into_iter()
                .collect(),
            claimed: HashSet::new(),
        };
        for work in store.held_work()? {
            used.claimed.extend(claim::kept(&work)?);
        }
        Ok(used)
    }

    /// Whether an image must stay.
    pub(super) fn has_image(&self, manifest: &Digest) -> bool {
        self.images.contains(manifest) || self.claimed.contains(manifest)
    }
}

/// All that is referred to, directly and by images that are.
#[derive(Debug, Default)]
pub(super) struct Live {
    pub(super) images: HashSet<Digest>,
    pub(super) layers: HashSet<Digest>,
    pub(super) blobs: HashSet<Digest>,
}

impl Live {
    /// What is referred to by these images, and by claims.
    pub(super) fn of(
        store: &Store,
        used: &Used,
        referenced: impl IntoIterator<Item = Digest>,
    ) -> Result<Self, StoreError> {
        let mut live = Self {
            images: used.images.union(&used.claimed).copied().collect(),
            layers: used.claimed.clone(),
            blobs: used.claimed.clone(),
        };
        live.images.extend(referenced);
        for manifest in &live.images {
            live.blobs.insert(*manifest);
            // One whose record cannot be read stops this: who knows what it needs.
            if let Some(image) = store.image(manifest)? {
                live.blobs.insert(image.config_digest);
                for layer in &image.layers {
                    live.layers.insert(layer.diff_id);
                    live.blobs.insert(layer.blob_digest);
                }
            }
        }
        Ok(live)
    }
}
