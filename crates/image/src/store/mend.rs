//! Making an image whole again from what of it is intact.
//!
//! All that an image needs to boot was made of its blobs: layers were unpacked from them, the metadata disk was put
//! together from those. So what was damaged of it is made anew as long as the blobs are as they came, and no
//! registry has to be asked, which might mean another image by now.

use super::Claim;
use super::error::StoreError;
use super::image::{ImageRecord, Parts};
use super::layer::UnpackProgress;
use crate::limits::Limits;
use crate::manifest::{ImageConfig, ImageManifest};
use crate::{Digest, Reference};

impl Claim {
    /// Looks whether all that a boot from this image needs is as it was when it was verified, and says how the image
    /// wants to be run.
    ///
    /// # Errors
    ///
    /// As [`open_image`](super::Store::open_image).
    pub fn check_image(&self, image: &ImageRecord) -> Result<ImageConfig, StoreError> {
        let shared = self.store().shared()?;
        self.keep_under(&shared, &[image.manifest_digest])?;
        let config = self.store().image_config(image)?;
        self.open_disk(image)?;
        Ok(config)
    }

    /// Makes anew what was damaged of the image that the reference means, from its blobs. `None` when it means none.
    /// `progress` is told how far a layer is, and may end it.
    ///
    /// # Errors
    ///
    /// Those of what is damaged, when a blob is: then the image has to come again.
    pub fn mend(
        &self,
        reference: &Reference,
        limits: &Limits,
        progress: &mut UnpackProgress<'_>,
    ) -> Result<Option<ImageRecord>, StoreError> {
        let Some(digest) = self.meant(reference)? else {
            return Ok(None);
        };
        let manifest = self.document(&digest)?;
        let config = ImageManifest::parse(&manifest)
            .map_err(|source| StoreError::Manifest {
                manifest: digest,
                source,
            })?
            .config;
        let config = self.document(&config.digest)?;
        let image = Parts::parse(digest, &manifest, &config)?;
        self.keep(&image.digests())?;
        let blobs = image.manifest.layers.iter().map(|layer| &layer.digest);
        for (blob, diff_id) in blobs.zip(&image.config.diff_ids) {
            self.unpack_layer(blob, diff_id, limits, progress)?;
        }
        self.commit_image(None, &manifest, &config, limits)
            .map(Some)
    }

    /// The image that the reference means; it stays from now on.
    fn meant(&self, reference: &Reference) -> Result<Option<Digest>, StoreError> {
        let shared = self.store().shared()?;
        let named = self.store().reference(reference)?;
        let digest = named.map(|record| record.manifest_digest);
        let digest = digest.or(reference.digest().copied());
        if let Some(digest) = &digest {
            self.keep_under(&shared, &[*digest])?;
        }
        Ok(digest)
    }

    fn document(&self, digest: &Digest) -> Result<Vec<u8>, StoreError> {
        let blob = self.store().blob(digest)?;
        blob.ok_or(StoreError::BlobMissing(*digest))?
            .read_document()
    }
}
