//! Images: what of the store one consists of.

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};

use super::stamp::Noted;
use super::{Store, StoreError, record};
use crate::Digest;

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

impl Store {
    /// The image with this manifest, if it is here. Without a [`Claim`](super::Claim) on it, it may go at any
    /// time.
    ///
    /// # Errors
    ///
    /// [`Damaged`](StoreError::Damaged) when its record cannot be read.
    pub fn image(&self, manifest: &Digest) -> Result<Option<ImageRecord>, StoreError> {
        let record: Option<ImageRecord> = record::read(&self.layout.image_record(manifest))?;
        Ok(record.filter(|record| record.manifest_digest == *manifest))
    }
}
