//! Images: what of the store one consists of.
//!
//! ```text
//! manifest, configuration, layers ──checked──> indexes ──merged──> tree ──> metadata disk, then the record
//! ```
//!
//! The record is what makes an image be there: it is written when all that it speaks of is.

use std::fs::File;
use std::io::BufWriter;
use std::path::PathBuf;

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};

use super::error::{AtPath, StoreError};
use super::hashing::Hashing;
use super::stamp::{Compared, Noted};
use super::work::WorkDir;
use super::{Claim, Store, durable, record};
use crate::erofs::{Options, Plan, WriteError};
use crate::limits::{BLOCK, Limits, MAX_LAYERS};
use crate::manifest::{ImageConfig, ImageManifest, ManifestError, Platform};
use crate::tree::Tree;
use crate::{Digest, Reference};

/// An image that is here, with all that it needs.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ImageRecord {
    /// What it is: the digest of its manifest.
    pub manifest_digest: Digest,
    /// Its configuration, a blob.
    pub config_digest: Digest,
    /// `amd64`.
    pub architecture: String,
    /// `linux`.
    pub os: String,
    /// When it came to this host.
    pub created_at: DateTime<Utc>,
    /// Its layers, the lowest first.
    pub layers: Vec<LayerRecord>,
    /// Its metadata disk.
    pub(super) erofs: Noted,
}

/// A layer of an image.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LayerRecord {
    /// What is in it: the digest of its tar.
    pub diff_id: Digest,
    /// What came: the digest of the tar as it is compressed, a blob.
    pub blob_digest: Digest,
    /// How that is compressed, as the manifest says it.
    pub media_type: String,
    /// Its length in bytes.
    pub blob_size: u64,
    /// Bytes of its files, each rounded up to whole blocks.
    pub data_size: u64,
}

impl ImageRecord {
    /// Bytes that came: its layers, as they are compressed.
    pub fn download_size(&self) -> u64 {
        self.layers
            .iter()
            .fold(0, |sum, layer| sum.saturating_add(layer.blob_size))
    }

    /// Bytes of its metadata disk.
    pub fn metadata_size(&self) -> u64 {
        self.erofs.size
    }

    /// The digest of its metadata disk. It is another one when its layers are unpacked in another way.
    pub fn metadata_digest(&self) -> Digest {
        self.erofs.digest
    }
}

impl Store {
    /// The image with this manifest, if it is here. Without a [`Claim`] on it, it may go at any time.
    ///
    /// # Errors
    ///
    /// [`Damaged`](StoreError::Damaged) when its record cannot be read.
    pub fn image(&self, manifest: &Digest) -> Result<Option<ImageRecord>, StoreError> {
        let record: Option<ImageRecord> = record::read(&self.layout.image_record(manifest))?;
        Ok(record.filter(|record| {
            record.manifest_digest == *manifest && record.layers.len() <= MAX_LAYERS
        }))
    }

    /// How an image wants to be run.
    ///
    /// # Errors
    ///
    /// [`BlobMissing`](StoreError::BlobMissing), [`Integrity`](StoreError::Integrity) or
    /// [`Manifest`](StoreError::Manifest) when it was damaged.
    pub fn image_config(&self, image: &ImageRecord) -> Result<ImageConfig, StoreError> {
        let bytes = self
            .blob(&image.config_digest)?
            .ok_or(StoreError::BlobMissing(image.config_digest))?
            .read_document()?;
        let config = ImageConfig::parse(&bytes).map_err(image.wrong())?;
        let diff_ids = image.layers.iter().map(|layer| &layer.diff_id);
        match diff_ids.eq(&config.diff_ids) {
            true => Ok(config),
            false => Err(image.wrong()(ManifestError::LayerCount {
                manifest: image.layers.len(),
                config: config.diff_ids.len(),
            })),
        }
    }

    /// All that is in an image, its layers put over one another.
    ///
    /// # Errors
    ///
    /// [`LayerMissing`](StoreError::LayerMissing), [`Integrity`](StoreError::Integrity) and
    /// [`Layer`](StoreError::Layer) when one was damaged, [`Tree`](StoreError::Tree) when they make no tree.
    pub fn image_tree(&self, image: &ImageRecord, limits: &Limits) -> Result<Tree, StoreError> {
        self.merge(&image.manifest_digest, &image.layers, limits)
    }

    fn merge(
        &self,
        manifest: &Digest,
        layers: &[LayerRecord],
        limits: &Limits,
    ) -> Result<Tree, StoreError> {
        let mut tree = Tree::default();
        for (index, layer) in layers.iter().enumerate() {
            let stored = self
                .layer(&layer.diff_id)?
                .ok_or(StoreError::LayerMissing(layer.diff_id))?;
            // One after the other, so that one index at a time is in memory.
            let changes = stored.read_index(limits)?;
            let applied = tree.apply(&changes, index, limits);
            applied.map_err(|source| StoreError::Tree {
                manifest: *manifest,
                source,
            })?;
        }
        Ok(tree.compact())
    }
}

impl ImageRecord {
    fn wrong(&self) -> impl Fn(ManifestError) -> StoreError {
        let manifest = self.manifest_digest;
        move |source| StoreError::Manifest { manifest, source }
    }
}

impl Claim {
    /// Makes an image of a manifest and a configuration whose layers have been stored and unpacked, and has the
    /// reference, if one is given, mean it. It stays from now on.
    ///
    /// # Errors
    ///
    /// [`Manifest`](StoreError::Manifest) when the two cannot be used or do not fit one another,
    /// [`BlobMissing`](StoreError::BlobMissing) and [`LayerMissing`](StoreError::LayerMissing) when something was
    /// not stored, [`Tree`](StoreError::Tree) and [`Disk`](StoreError::Disk) when the layers make no disk.
    pub fn commit_image(
        &self,
        reference: Option<&Reference>,
        manifest: &[u8],
        config: &[u8],
        limits: &Limits,
    ) -> Result<ImageRecord, StoreError> {
        let digest = Digest::of(manifest);
        let image = Parts::parse(digest, manifest, config)?;
        self.keep(&image.digests())?;
        self.put_document(manifest)?;
        self.put_document(config)?;
        let record = loop {
            if let Some(record) = self.intact_image(&image)? {
                break record;
            }
            let Some(work) = self.store().begin_work(&digest)? else {
                continue;
            };
            break match self.intact_image(&image)? {
                Some(record) => record,
                None => self.build(&work, &image, limits)?,
            };
        };
        if let Some(reference) = reference {
            self.set_reference(reference, &digest)?;
        }
        Ok(record)
    }

    /// The image that the reference means, if it is here; it stays from now on, and the use is noted. A reference
    /// with the digest of an image that is here means that image, whatever it was called when it came.
    ///
    /// # Errors
    ///
    /// [`Damaged`](StoreError::Damaged) when a record cannot be read, [`Busy`](StoreError::Busy).
    pub fn find(&self, reference: &Reference) -> Result<Option<ImageRecord>, StoreError> {
        let shared = self.store().shared()?;
        let named = self.store().reference(reference)?;
        let digest = named.as_ref().map(|record| record.manifest_digest);
        let Some(digest) = digest.or(reference.digest().copied()) else {
            return Ok(None);
        };
        let image = self.store().image(&digest)?;
        if image.is_some() {
            self.keep_under(&shared, &[digest])?;
            if let Some(named) = named {
                self.touch_under(&shared, reference, named)?;
            }
        }
        Ok(image)
    }

    /// The image, if it is here and its disk is as it was.
    fn intact_image(&self, image: &Parts) -> Result<Option<ImageRecord>, StoreError> {
        let layers = self.layers(image)?;
        let record = match self.store().image(&image.digest) {
            Ok(Some(record)) if record.layers == layers => record,
            Ok(_) | Err(StoreError::Damaged { .. }) => return Ok(None),
            Err(error) => return Err(error),
        };
        match self.open_metadata(&record) {
            Ok(_) => Ok(Some(record)),
            Err(error) if error.is_damage() => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// What is known of its layers, all of which must be here.
    fn layers(&self, image: &Parts) -> Result<Vec<LayerRecord>, StoreError> {
        let layers = image.manifest.layers.iter().zip(&image.config.diff_ids);
        layers
            .map(|(blob, diff_id)| {
                match self.store().blob(&blob.digest)? {
                    Some(there) if there.size() == blob.size => {}
                    Some(there) => {
                        return Err(StoreError::WrongSize {
                            digest: blob.digest,
                            expected: blob.size,
                            found: there.size(),
                        });
                    }
                    None => return Err(StoreError::BlobMissing(blob.digest)),
                }
                let stored = self.store().layer(diff_id)?;
                let stored = stored.ok_or(StoreError::LayerMissing(*diff_id))?;
                Ok(LayerRecord {
                    diff_id: *diff_id,
                    blob_digest: blob.digest,
                    media_type: blob.media_type.clone(),
                    blob_size: blob.size,
                    data_size: stored.data_size(),
                })
            })
            .collect()
    }

    fn build(
        &self,
        work: &WorkDir,
        image: &Parts,
        limits: &Limits,
    ) -> Result<ImageRecord, StoreError> {
        let layers = self.layers(image)?;
        let tree = self.store().merge(&image.digest, &layers, limits)?;
        let data: Vec<_> = layers.iter().map(|layer| layer.data_size).collect();
        let path = work.join("erofs");
        let disk = |source| match source {
            WriteError::Io(source) => StoreError::io(&path, source),
            source => StoreError::Disk {
                manifest: image.digest,
                source,
            },
        };
        let plan = Plan::new(&tree, &data, &Options::new(image.digest)).map_err(disk)?;
        super::space::check(work.path(), plan.disk().metadata_bytes())?;
        let mut out = Hashing::new(BufWriter::new(durable::create(&path)?));
        plan.write(&mut out).map_err(disk)?;
        let (out, digest) = out.into_parts();
        let file = out
            .into_inner()
            .map_err(|error| error.into_error())
            .at(&path)?;
        file.sync_all().at(&path)?;
        let target = self.store().layout.image_erofs(&image.digest);
        durable::rename(&path, &target)?;
        // Now that it has its name: a rename changes what is noted.
        let record = ImageRecord {
            manifest_digest: image.digest,
            config_digest: image.manifest.config.digest,
            architecture: image.config.architecture.clone(),
            os: image.config.os.clone(),
            created_at: Utc::now(),
            layers,
            erofs: Noted::new(digest, &file.metadata().at(&target)?),
        };
        self.write_record(&self.store().layout.image_record(&image.digest), &record)?;
        Ok(record)
    }

    /// Opens the metadata disk, if it is as it was when it was made.
    pub(super) fn open_metadata(&self, image: &ImageRecord) -> Result<File, StoreError> {
        let path = self.store().layout.image_erofs(&image.manifest_digest);
        let file = durable::open(&path)?;
        let erofs = match image.erofs.compare(&file).at(&path)? {
            Compared::Same => return Ok(file),
            Compared::Touched(erofs) => erofs,
            Compared::Changed(found) => return Err(image.changed(path, found)),
        };
        let record = ImageRecord {
            erofs,
            ..image.clone()
        };
        let path = self.store().layout.image_record(&image.manifest_digest);
        self.write_record(&path, &record)?;
        Ok(file)
    }
}

impl ImageRecord {
    pub(super) fn changed(&self, path: PathBuf, found: Digest) -> StoreError {
        StoreError::Integrity {
            path,
            expected: self.erofs.digest,
            found,
        }
    }

    /// Compares its metadata disk with what was noted, by hashing it.
    pub(super) fn compare_metadata(&self, file: &File) -> std::io::Result<Compared> {
        self.erofs.compare_bytes(file)
    }

    /// Checks that a layer's data is as long as when the disk was made.
    pub(super) fn check_layer(
        &self,
        layer: &LayerRecord,
        data_size: u64,
    ) -> Result<(), StoreError> {
        match layer.data_size == data_size && data_size.is_multiple_of(BLOCK) {
            true => Ok(()),
            false => Err(StoreError::WrongSize {
                digest: layer.diff_id,
                expected: layer.data_size,
                found: data_size,
            }),
        }
    }
}

/// A manifest and a configuration that fit one another.
pub(super) struct Parts {
    digest: Digest,
    pub(super) manifest: ImageManifest,
    pub(super) config: ImageConfig,
}

impl Parts {
    pub(super) fn parse(
        digest: Digest,
        manifest: &[u8],
        config: &[u8],
    ) -> Result<Self, StoreError> {
        let wrong = |source| StoreError::Manifest {
            manifest: digest,
            source,
        };
        let parsed = ImageManifest::parse(manifest).map_err(wrong)?;
        let found = Digest::of(config);
        if found != parsed.config.digest {
            return Err(StoreError::WrongDigest {
                expected: parsed.config.digest,
                found,
            });
        }
        let config = ImageConfig::parse(config).map_err(wrong)?;
        parsed.check_config(&config).map_err(wrong)?;
        config.check_platform(&Platform::host()).map_err(wrong)?;
        Ok(Self {
            digest,
            manifest: parsed,
            config,
        })
    }

    /// All that it consists of.
    pub(super) fn digests(&self) -> Vec<Digest> {
        let blobs = self.manifest.layers.iter().map(|layer| layer.digest);
        [self.digest, self.manifest.config.digest]
            .into_iter()
            .chain(blobs)
            .chain(self.config.diff_ids.iter().copied())
            .collect()
    }
}
