//! Naming an image by what is known of it.

use msb_image::manifest::ImageConfig;
use msb_image::store::{ImageRecord, StoreError};
use msb_image::{Digest, Reference};

use super::{Image, parse, with_store};
use crate::backend::LocalBackend;
use crate::error::{ImageError, MicrosandboxResult};

/// What is known of an image that was pulled.
#[derive(Clone, Debug, Default)]
pub struct CachedImageMetadata {
    /// What it is: the digest of its manifest.
    pub manifest_digest: String,
    /// The digest of its configuration.
    pub config_digest: String,
    /// How it wants to be run.
    pub config: ImageConfig,
    /// Its layers, the lowest first.
    pub layers: Vec<CachedLayerMetadata>,
}

/// A layer of it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CachedLayerMetadata {
    /// The digest of what came.
    pub digest: String,
    /// How it is compressed.
    pub media_type: Option<String>,
    /// How much came, in bytes.
    pub size_bytes: Option<u64>,
    /// The digest of its uncompressed archive.
    pub diff_id: String,
}

impl Image {
    /// Has a reference mean the image that `metadata` tells of, which must be in this home and be like that. Returns
    /// a number for the reference, always the same one; nothing takes it.
    ///
    /// # Errors
    ///
    /// [`ImageNotFound`](crate::MicrosandboxError::ImageNotFound) when there is no such image here,
    /// [`Image`](crate::MicrosandboxError::Image) when it is not as `metadata` has it.
    pub async fn persist(
        local: &LocalBackend,
        reference: &str,
        metadata: CachedImageMetadata,
    ) -> MicrosandboxResult<i32> {
        let reference = parse(reference)?;
        with_store(local, move |store, _| {
            let wrong = || ImageError::Mismatch {
                reference: reference.to_string(),
            };
            let digest: Digest = metadata.manifest_digest.parse().map_err(|_| wrong())?;
            let claim = store.claim()?;
            claim.keep(&[digest])?;
            let image = store.image(&digest)?;
            let image = image.ok_or(StoreError::ImageMissing(digest))?;
            if !metadata.is_of(&image, store.image_config(&image)?) {
                return Err(wrong().into());
            }
            claim.set_reference(&reference, &digest)?;
            Ok(number(&reference))
        })
        .await
    }
}

impl CachedImageMetadata {
    fn is_of(&self, image: &ImageRecord, config: ImageConfig) -> bool {
        self.config_digest == image.config_digest.to_string()
            && self.config == config
            && self.layers.len() == image.layers.len()
            && self.layers.iter().zip(&image.layers).all(|(said, layer)| {
                let media_type = said.media_type.as_ref();
                said.digest == layer.blob_digest.to_string()
                    && said.diff_id == layer.diff_id.to_string()
                    && media_type.is_none_or(|said| *said == layer.media_type)
                    && said.size_bytes.is_none_or(|said| said == layer.blob_size)
            })
    }
}

/// A number that tells references apart well enough, and is above zero as in a table of them.
fn number(reference: &Reference) -> i32 {
    let digest = Digest::of(reference.to_string().as_bytes());
    let [a, b, c, d, ..] = *digest.as_bytes();
    i32::from_be_bytes([a & 0x7f, b, c, d]).max(1)
}
