//! What is known of an image.

use chrono::{DateTime, Utc};
use msb_image::Reference;
use msb_image::manifest::ImageConfig;
use msb_image::store::{ImageRecord, LayerRecord, RefRecord, Store, StoreError};

use super::error::Failed;

/// A reference and the image that it means, as they were when they were asked for.
#[derive(Clone, Debug)]
pub struct ImageHandle {
    reference: RefRecord,
    manifest_digest: String,
    image: Option<ImageRecord>,
}

/// An image with all that is known of it.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct ImageDetail {
    /// What a list says of it.
    pub handle: ImageHandle,
    /// How it wants to be run.
    pub config: Option<ImageConfigDetail>,
    /// Its layers, the lowest first.
    pub layers: Vec<ImageLayerDetail>,
}

/// How an image wants to be run.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct ImageConfigDetail {
    /// The digest of its configuration.
    pub digest: String,
    /// Environment: `NAME=value`.
    pub env: Vec<String>,
    /// Arguments of the entrypoint; or what runs, without one.
    pub cmd: Option<Vec<String>>,
    /// What runs.
    pub entrypoint: Option<Vec<String>>,
    /// Where.
    pub working_dir: Option<String>,
    /// As whom.
    pub user: Option<String>,
    /// Labels, an object of strings; `None` when there are none.
    pub labels: Option<serde_json::Value>,
    /// The signal that asks its programs to end, by name or number. A stop sends it first, and SIGTERM to what still runs
    /// when half of its time is over.
    pub stop_signal: Option<String>,
}

/// A layer of an image.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct ImageLayerDetail {
    /// What is in it: the digest of its uncompressed archive.
    pub diff_id: String,
    /// What came: the digest of the archive as it is compressed.
    pub blob_digest: String,
    /// How it is compressed.
    pub media_type: Option<String>,
    /// How much came, in bytes.
    pub compressed_size_bytes: Option<i64>,
    /// How much of the root disk its files take, in bytes. All images with the layer share it.
    pub erofs_size_bytes: Option<i64>,
    /// Its place, from 0, the lowest.
    pub position: i32,
}

impl ImageHandle {
    /// The reference, whole: `docker.io/library/python:3.12`.
    pub fn reference(&self) -> &str {
        &self.reference.reference
    }

    /// How much came with the image, in bytes: its layers, as they are compressed. `None` when its record was
    /// damaged.
    pub fn size_bytes(&self) -> Option<i64> {
        i64::try_from(self.image.as_ref()?.download_size()).ok()
    }

    /// What the image is: the digest of its manifest.
    pub fn manifest_digest(&self) -> Option<&str> {
        Some(&self.manifest_digest)
    }

    /// The processor that it is for: `amd64`.
    pub fn architecture(&self) -> Option<&str> {
        self.image.as_ref().map(|image| image.architecture.as_str())
    }

    /// The system that it is for: `linux`.
    pub fn os(&self) -> Option<&str> {
        self.image.as_ref().map(|image| image.os.as_str())
    }

    /// The number of its layers.
    pub fn layer_count(&self) -> usize {
        self.image.as_ref().map_or(0, |image| image.layers.len())
    }

    /// When a sandbox was last made by this reference, or the reference came to mean the image. To the minute.
    pub fn last_used_at(&self) -> Option<DateTime<Utc>> {
        Some(self.reference.last_used_at)
    }

    /// When the reference came to mean this image.
    pub fn created_at(&self) -> Option<DateTime<Utc>> {
        Some(self.reference.created_at)
    }

    fn new(store: &Store, reference: RefRecord) -> Result<Self, StoreError> {
        let image = match store.image(&reference.manifest_digest) {
            Err(StoreError::Damaged { .. }) => None,
            image => image?,
        };
        Ok(Self {
            manifest_digest: reference.manifest_digest.to_string(),
            reference,
            image,
        })
    }
}

pub(super) fn handle(store: &Store, reference: &Reference) -> Result<ImageHandle, Failed> {
    let record = match store.reference(reference)? {
        Some(record) => Some(record),
        None => pinned(store, reference)?,
    };
    let missing = || StoreError::ReferenceMissing(reference.to_string());
    Ok(ImageHandle::new(store, record.ok_or_else(missing)?)?)
}

/// A reference with the digest of an image that is here means it, whatever it was called when it came.
fn pinned(store: &Store, reference: &Reference) -> Result<Option<RefRecord>, StoreError> {
    let Some(digest) = reference.digest() else {
        return Ok(None);
    };
    let Some(image) = store.image(digest)? else {
        return Ok(None);
    };
    let names = store.references()?.into_iter();
    let used = names.filter(|name| name.manifest_digest == *digest);
    let used = used.map(|name| name.last_used_at).max();
    Ok(Some(RefRecord {
        reference: reference.to_string(),
        manifest_digest: *digest,
        created_at: image.created_at,
        last_used_at: used.unwrap_or(image.created_at),
    }))
}

pub(super) fn handles(store: &Store) -> Result<Vec<ImageHandle>, Failed> {
    let references = store.references()?.into_iter().rev();
    let handles = references.map(|reference| ImageHandle::new(store, reference));
    Ok(handles.collect::<Result<_, _>>()?)
}

pub(super) fn detail(store: &Store, reference: &Reference) -> Result<ImageDetail, Failed> {
    let handle = handle(store, reference)?;
    let Some(image) = &handle.image else {
        return Ok(ImageDetail {
            handle,
            config: None,
            layers: Vec::new(),
        });
    };
    let config = store.image_config(image)?;
    Ok(ImageDetail {
        config: Some(ImageConfigDetail::new(image, config)),
        layers: (0..).zip(&image.layers).map(layer).collect(),
        handle,
    })
}

impl ImageConfigDetail {
    fn new(image: &ImageRecord, config: ImageConfig) -> Self {
        let labels = config.labels.into_iter();
        let labels: serde_json::Map<_, _> =
            labels.map(|(key, value)| (key, value.into())).collect();
        Self {
            digest: image.config_digest.to_string(),
            env: config.env,
            cmd: config.cmd,
            entrypoint: config.entrypoint,
            working_dir: config.working_dir,
            user: config.user,
            labels: Some(labels)
                .filter(|labels| !labels.is_empty())
                .map(Into::into),
            stop_signal: config.stop_signal,
        }
    }
}

fn layer((position, layer): (i32, &LayerRecord)) -> ImageLayerDetail {
    ImageLayerDetail {
        diff_id: layer.diff_id.to_string(),
        blob_digest: layer.blob_digest.to_string(),
        media_type: Some(layer.media_type.clone()),
        compressed_size_bytes: i64::try_from(layer.blob_size).ok(),
        erofs_size_bytes: i64::try_from(layer.data_size).ok(),
        position,
    }
}
