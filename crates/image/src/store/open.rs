//! Opening an image for a boot, and looking whether all of it is right.

use std::fs::File;

use super::error::{AtPath, StoreError};
use super::image::ImageRecord;
use super::stamp::Compared;
use super::{Claim, Store, durable, stamp};
use crate::Digest;
use crate::manifest::ImageConfig;

/// An image, ready to boot from.
#[derive(Debug)]
#[non_exhaustive]
pub struct OpenImage {
    /// What it consists of.
    pub record: ImageRecord,
    /// How it wants to be run.
    pub config: ImageConfig,
    /// The files whose bytes, one after the other, are its read-only disk. What is open stays readable, whatever
    /// becomes of the store.
    pub disk: Vec<DiskPart>,
    /// Keeps the image from being removed. Hold it until what says that the image is in use has been written down.
    pub claim: Claim,
}

/// A part of a disk.
#[derive(Debug)]
pub struct DiskPart {
    /// A file, opened to be read.
    pub file: File,
    /// Its length in bytes, all of which are part of the disk: a multiple of [`BLOCK`](crate::limits::BLOCK).
    pub len: u64,
}

impl Store {
    /// Opens an image. Each of its files must be as it was when it was verified; one that was touched since, as all
    /// are after a copy of the store, is hashed again first.
    ///
    /// # Errors
    ///
    /// [`ImageMissing`](StoreError::ImageMissing); [`Integrity`](StoreError::Integrity) and the other errors of
    /// what is damaged. The image can then be pulled or loaded again, which mends it.
    pub fn open_image(&self, manifest: &Digest) -> Result<OpenImage, StoreError> {
        let claim = self.claim()?;
        // Until all is open, nothing is replaced or removed.
        let shared = self.shared()?;
        claim.keep_under(&shared, &[*manifest])?;
        let record = self
            .image(manifest)?
            .ok_or(StoreError::ImageMissing(*manifest))?;
        let config = self.image_config(&record)?;
        let disk = claim.open_disk(&record)?;
        drop(shared);
        Ok(OpenImage {
            record,
            config,
            disk,
            claim,
        })
    }

    /// Reads all of an image and looks whether it is what it was: its manifest, its configuration, its layers as they
    /// came and as they were unpacked, its disk.
    ///
    /// # Errors
    ///
    /// [`Integrity`](StoreError::Integrity) or [`WrongDigest`](StoreError::WrongDigest) for the first that is not,
    /// and whatever else is wrong.
    pub fn verify(&self, manifest: &Digest) -> Result<(), StoreError> {
        let claim = self.claim()?;
        claim.keep(&[*manifest])?;
        let record = self
            .image(manifest)?
            .ok_or(StoreError::ImageMissing(*manifest))?;
        self.image_config(&record)?;
        let layers = record.layers.iter().map(|layer| &layer.blob_digest);
        for digest in [manifest].into_iter().chain(layers) {
            let blob = self.blob(digest)?.ok_or(StoreError::BlobMissing(*digest))?;
            let found = stamp::hash(&blob.open()?).at(blob.path())?;
            if found != *digest {
                return Err(StoreError::Integrity {
                    path: blob.path().to_path_buf(),
                    expected: *digest,
                    found,
                });
            }
        }
        for layer in &record.layers {
            let stored = self
                .layer(&layer.diff_id)?
                .ok_or(StoreError::LayerMissing(layer.diff_id))?;
            record.check_layer(layer, stored.data_size())?;
            stored.verify()?;
        }
        let path = self.layout.image_erofs(manifest);
        let file = durable::open(&path)?;
        match record.compare_metadata(&file).at(&path)? {
            Compared::Same | Compared::Touched(_) => Ok(()),
            Compared::Changed(found) => Err(record.changed(path, found)),
        }
    }
}

impl Claim {
    /// Opens the files of an image's disk. Nothing may be replaced meanwhile.
    pub(super) fn open_disk(&self, image: &ImageRecord) -> Result<Vec<DiskPart>, StoreError> {
        let mut disk = vec![DiskPart {
            file: self.open_metadata(image)?,
            len: image.metadata_size(),
        }];
        for layer in &image.layers {
            let stored = self
                .store()
                .layer(&layer.diff_id)?
                .ok_or(StoreError::LayerMissing(layer.diff_id))?;
            image.check_layer(layer, stored.data_size())?;
            let file = stored.open_data(self)?;
            // The disk has no part for a layer without files.
            if layer.data_size > 0 {
                disk.push(DiskPart {
                    file,
                    len: layer.data_size,
                });
            }
        }
        Ok(disk)
    }
}
