//! Manifests: the JSON documents that say what an image consists of.
//!
//! ```text
//! index ──by platform──> index ──> manifest ──> configuration
//!                                     └───────> layers, the lowest first
//! ```
//!
//! Two families of them are in use, the OCI's and Docker's "v2 schema 2", which differ in their media types
//! only. A document is identified by the digest of its bytes, so it is never written anew: what is parsed here
//! is a view of bytes that are kept as they came.
//!
//! A document that is an index to one reader and an image to another could be approved as the one and run as
//! the other; one that has the parts of both is refused, and so is one that is not what its descriptor said.

mod config;
mod descriptor;
mod error;
mod index;
pub mod media;
mod platform;
mod signal;

pub use config::ImageConfig;
pub use descriptor::{Descriptor, DescriptorPlatform};
pub use error::ManifestError;
pub use index::{Index, MAX_DEPTH};
pub use media::{Compression, Kind};
pub use platform::Platform;

use serde::Deserialize;
use serde::de::IgnoredAny;

use crate::limits::{MAX_DOCUMENT, MAX_LAYERS};

/// A document of either kind.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Document {
    /// One image.
    Image(ImageManifest),
    /// A choice of images.
    Index(Index),
}

/// What one image consists of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ImageManifest {
    /// Its configuration.
    pub config: Descriptor,
    /// Its layers, the lowest first: at most [`MAX_LAYERS`], each of a media type that is known.
    pub layers: Vec<Descriptor>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Wire {
    schema_version: Option<u32>,
    media_type: Option<String>,
    config: Option<Descriptor>,
    layers: Option<Vec<Descriptor>>,
    manifests: Option<Vec<Descriptor>>,
    fs_layers: Option<IgnoredAny>,
}

impl Document {
    /// Parses a document. `media_type` is what its descriptor or the registry's answer calls it, if anything does.
    ///
    /// # Errors
    ///
    /// [`ManifestError`] when it is too long, does not parse, is of a kind that cannot be run, or is not what it
    /// was called.
    pub fn parse(bytes: &[u8], media_type: Option<&str>) -> Result<Self, ManifestError> {
        check_length(bytes)?;
        let wire: Wire = serde_json::from_slice(bytes).map_err(ManifestError::Json)?;
        if wire.fs_layers.is_some() || wire.schema_version == Some(1) {
            return Err(ManifestError::SchemaOne);
        }
        let kind = match (&wire.manifests, &wire.config, &wire.layers) {
            (Some(_), None, None) => Kind::Index,
            (None, Some(_), Some(_)) => Kind::Image,
            (Some(_), _, _) => return Err(ManifestError::Ambiguous),
            _ => return Err(ManifestError::Neither),
        };
        for called in [media_type, wire.media_type.as_deref()] {
            if let Some(called) = called.and_then(Kind::of)
                && called != kind
            {
                return Err(ManifestError::NotAsCalled { called, is: kind });
            }
        }
        match wire {
            Wire {
                manifests: Some(manifests),
                ..
            } => Ok(Self::Index(Index { manifests })),
            Wire {
                config: Some(config),
                layers: Some(layers),
                ..
            } => ImageManifest::new(config, layers).map(Self::Image),
            _ => Err(ManifestError::Neither),
        }
    }
}

impl ImageManifest {
    fn new(config: Descriptor, layers: Vec<Descriptor>) -> Result<Self, ManifestError> {
        if !media::is_config(&config.media_type) {
            return Err(ManifestError::NoImage {
                media_type: config.media_type,
            });
        }
        if layers.len() > MAX_LAYERS {
            return Err(ManifestError::TooManyLayers(layers.len()));
        }
        for layer in &layers {
            if Compression::of(&layer.media_type).is_none() {
                return Err(ManifestError::UnknownLayer {
                    media_type: layer.media_type.clone(),
                });
            }
        }
        Ok(Self { config, layers })
    }

    /// Parses the manifest of one image.
    ///
    /// # Errors
    ///
    /// As [`Document::parse`], and [`NotAsCalled`](ManifestError::NotAsCalled) for an index.
    pub fn parse(bytes: &[u8]) -> Result<Self, ManifestError> {
        match Document::parse(bytes, None)? {
            Document::Image(manifest) => Ok(manifest),
            Document::Index(_) => Err(ManifestError::NotAsCalled {
                called: Kind::Image,
                is: Kind::Index,
            }),
        }
    }

    /// Checks that the configuration is of this image: that it tells of as many layers.
    ///
    /// # Errors
    ///
    /// [`LayerCount`](ManifestError::LayerCount).
    pub fn check_config(&self, config: &ImageConfig) -> Result<(), ManifestError> {
        match (self.layers.len(), config.diff_ids.len()) {
            (manifest, config) if manifest == config => Ok(()),
            (manifest, config) => Err(ManifestError::LayerCount { manifest, config }),
        }
    }
}

fn check_length(bytes: &[u8]) -> Result<(), ManifestError> {
    match bytes.len() as u64 {
        length if length > MAX_DOCUMENT => Err(ManifestError::TooLong(length)),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests;
