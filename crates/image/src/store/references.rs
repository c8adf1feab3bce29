//! References that mean an image of this host.

use std::fs;
use std::path::PathBuf;

use chrono::{DateTime, TimeDelta, Utc};
use serde::{Deserialize, Serialize};

use super::error::{AtPath, StoreError};
use super::lock::Shared;
use super::{Claim, Store, record};
use crate::{Digest, Reference};

/// How much older than now a noted use may be: looking an image up again within that writes nothing.
const USE: TimeDelta = TimeDelta::minutes(1);

/// What a reference means.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RefRecord {
    /// The reference, whole.
    pub reference: String,
    /// The image: the digest of its manifest, never that of an index.
    pub manifest_digest: Digest,
    /// When the reference came to mean this image.
    pub created_at: DateTime<Utc>,
    /// When it was last looked up to make a sandbox, to the minute.
    pub last_used_at: DateTime<Utc>,
}

impl Store {
    /// What the reference means, if it means something here.
    ///
    /// # Errors
    ///
    /// [`Damaged`](StoreError::Damaged) when its record cannot be read.
    pub fn reference(&self, reference: &Reference) -> Result<Option<RefRecord>, StoreError> {
        let path = self.ref_path(reference);
        let record: Option<RefRecord> = record::read(&path)?;
        // A record under a name that is not its own is none.
        Ok(record.filter(|record| record.reference == reference.to_string()))
    }

    /// All references, the oldest first. Records that cannot be read are left out.
    ///
    /// # Errors
    ///
    /// [`Io`](StoreError::Io), and [`Newer`](StoreError::Newer) for what a newer release wrote.
    pub fn references(&self) -> Result<Vec<RefRecord>, StoreError> {
        let mut found = Vec::new();
        for (_, record) in self.all_references()? {
            match record {
                Ok(record) => found.push(record),
                Err(error @ StoreError::Newer { .. }) => return Err(error),
                Err(error) => tracing::warn!(%error, "a reference is left out"),
            }
        }
        found.sort_by(|a, b| (a.created_at, &a.reference).cmp(&(b.created_at, &b.reference)));
        Ok(found)
    }

    /// Each record of a reference, with its path.
    #[allow(clippy::type_complexity)]
    pub(super) fn all_references(
        &self,
    ) -> Result<Vec<(PathBuf, Result<RefRecord, StoreError>)>, StoreError> {
        let dir = self.layout.refs();
        let mut found = Vec::new();
        for entry in fs::read_dir(&dir).at(&dir)? {
            let path = entry.at(&dir)?.path();
            // It may go while we look.
            if let Some(record) = record::read(&path).transpose() {
                found.push((path, record));
            }
        }
        Ok(found)
    }

    pub(super) fn ref_path(&self, reference: &Reference) -> PathBuf {
        let name = Digest::of(reference.to_string().as_bytes()).hex();
        self.layout.refs().join(name + ".json")
    }
}

impl Claim {
    /// Has the reference mean this image, whatever it meant before. The image must be here.
    ///
    /// # Errors
    ///
    /// [`ImageMissing`](StoreError::ImageMissing) when it is not.
    pub fn set_reference(
        &self,
        reference: &Reference,
        manifest: &Digest,
    ) -> Result<RefRecord, StoreError> {
        let shared = self.store().shared()?;
        self.keep_under(&shared, &[*manifest])?;
        if self.store().image(manifest)?.is_none() {
            return Err(StoreError::ImageMissing(*manifest));
        }
        let now = Utc::now();
        let before = match self.store().reference(reference) {
            Err(StoreError::Damaged { .. }) => None,
            before => before?,
        };
        let created_at = match before {
            Some(before) if before.manifest_digest == *manifest => before.created_at,
            _ => now,
        };
        let record = RefRecord {
            reference: reference.to_string(),
            manifest_digest: *manifest,
            created_at,
            last_used_at: now,
        };
        self.write_record(&self.store().ref_path(reference), &record)?;
        Ok(record)
    }

    /// Notes that the reference was used just now, while nothing can be removed: one that was removed since it was
    /// looked at would come back.
    pub(super) fn touch_under(
        &self,
        _: &Shared,
        reference: &Reference,
        mut record: RefRecord,
    ) -> Result<(), StoreError> {
        let now = Utc::now();
        let age = now.signed_duration_since(record.last_used_at);
        if age >= USE || age < TimeDelta::zero() {
            record.last_used_at = now;
            self.write_record(&self.store().ref_path(reference), &record)?;
        }
        Ok(())
    }
}
