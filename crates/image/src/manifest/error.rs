//! What can be wrong with a document.

use super::{Kind, Platform};
use crate::limits::{MAX_DOCUMENT, MAX_LAYERS};

/// A manifest, index or configuration that cannot be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ManifestError {
    /// It is longer than [`MAX_DOCUMENT`].
    #[error("a manifest has at most {MAX_DOCUMENT} bytes, and this one {0}")]
    TooLong(u64),
    /// It does not parse.
    #[error("it is not as a manifest or a configuration must be")]
    Json(#[source] serde_json::Error),
    /// It is of the first schema.
    #[error("it is a manifest of schema 1, which registries gave up; push the image anew")]
    SchemaOne,
    /// It could be either kind.
    #[error(
        "it has the parts of an index and those of an image; such a manifest is not to be trusted"
    )]
    Ambiguous,
    /// It is neither kind.
    #[error("it is neither the manifest of an image nor an index of images")]
    Neither,
    /// It is not the kind that it was called.
    #[error("it is called {called}, and is {is}; such a manifest is not to be trusted")]
    NotAsCalled {
        /// What it is called.
        called: Kind,
        /// What it is.
        is: Kind,
    },
    /// It is of something else than a container image.
    #[error("it is no container image: its configuration is {media_type:?}")]
    NoImage {
        /// What its configuration is.
        media_type: String,
    },
    /// A layer is of a kind that is not known.
    #[error("it has a layer of a kind that is not known: {media_type:?}")]
    UnknownLayer {
        /// What the layer is.
        media_type: String,
    },
    /// It has more than [`MAX_LAYERS`] layers.
    #[error("an image has at most {MAX_LAYERS} layers, and this one {0}; squash some")]
    TooManyLayers(usize),
    /// Manifest and configuration do not agree.
    #[error("its manifest has {manifest} layers, and its configuration tells of {config}")]
    LayerCount {
        /// In the manifest.
        manifest: usize,
        /// In the configuration.
        config: usize,
    },
    /// It is made of something other than layers.
    #[error("its file system is made of {0:?}; only layers are known")]
    Rootfs(String),
    /// The index has nothing for the platform.
    #[error("there is no image for {wanted}; there is {there}")]
    NoPlatform {
        /// What was looked for.
        wanted: Platform,
        /// What there is.
        there: String,
    },
    /// The image is for another platform.
    #[error("the image is for {os}/{architecture}; sandboxes here run {wanted}")]
    WrongPlatform {
        /// Its operating system.
        os: String,
        /// Its architecture.
        architecture: String,
        /// What can run.
        wanted: Platform,
    },
    /// Indexes lead to indexes without an end.
    #[error(
        "its indexes lead to one another more than {} times",
        super::index::MAX_DEPTH
    )]
    TooDeep,
}
