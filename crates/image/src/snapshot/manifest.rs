//! A snapshot's manifest, and the one way to write it.
//!
//! The identity of a snapshot is the SHA-256 of its manifest, so there must be one spelling of each
//! manifest. It is that of RFC 8785 (JSON Canonicalization Scheme): no white space, members in the order
//! of their names, strings with the shortest escapes. The fields below are declared in that
//! order, which is the order that they are written in. What is read has to be spelt so to the byte:
//! a manifest that somebody edited or indented is refused, and nothing has two identities.
//!
//! What the disk holds is part of the identity when its integrity was recorded, and else not.

use std::collections::BTreeMap;

use chrono::{DateTime, NaiveDateTime, SecondsFormat, Utc};
use serde::{Deserialize, Serialize};

use crate::Digest;
use crate::limits::BLOCK;

/// The manifest's name in a snapshot's directory.
pub const MANIFEST_FILENAME: &str = "manifest.json";

/// The name of the writable layer there.
pub const DEFAULT_UPPER_FILE: &str = "upper.ext4";

/// The version of the manifest that this release writes and reads.
pub const SCHEMA_VERSION: u32 = 1;

/// The file system that a writable layer has.
pub const FSTYPE: &str = "ext4";

/// The largest manifest, in bytes. Labels are what can make it long.
pub const MAX_MANIFEST: u64 = 1 << 20;

/// The largest disk, in bytes: what ext4 can be with blocks of 4 KiB that are counted in 32 bits.
pub const MAX_UPPER_BYTES: u64 = 16 << 40;

/// The largest file of a patch layer, in bytes.
pub const MAX_PATCH_BYTES: u64 = 64 << 30;

/// The longest reference of an image, in bytes.
const MAX_REFERENCE: usize = 1024;

/// The longest name of an algorithm, in bytes.
const MAX_ALGORITHM: usize = 64;

/// What a snapshot is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Manifest {
    /// When it was made: RFC 3339, UTC, with nanoseconds.
    pub created_at: String,
    /// How the writable layer is stored.
    pub format: SnapshotFormat,
    /// The file system in it.
    pub fstype: String,
    /// The image that it was written over.
    pub image: ImageRef,
    /// What its maker files it under.
    pub labels: BTreeMap<String, String>,
    /// The digest of the snapshot that its sandbox had begun from.
    pub parent: Option<String>,
    /// The layer of the sandbox's patches, between image and writable layer.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub patch: Option<PatchLayer>,
    /// The version of this format.
    pub schema: u32,
    /// The sandbox that it was made of, for people to read.
    pub source_sandbox: Option<String>,
    /// The writable layer.
    pub upper: UpperLayer,
}

/// How a writable layer is stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
#[non_exhaustive]
pub enum SnapshotFormat {
    /// Byte for byte; sparse.
    Raw,
    /// QEMU copy-on-write. Reserved: this release neither makes nor reads it.
    Qcow2,
}

/// The image that a snapshot was written over.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ImageRef {
    /// The digest of its manifest, which is what counts: `sha256:...`.
    pub manifest_digest: String,
    /// What it was called when it was pulled.
    pub reference: String,
}

/// The writable layer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct UpperLayer {
    /// Its name in the directory.
    pub file: String,
    /// What its contents were, if that was recorded.
    pub integrity: Option<UpperIntegrity>,
    /// Its size in bytes, holes included.
    pub size_bytes: u64,
}

/// What the contents of a writable layer were.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct UpperIntegrity {
    /// How the digest is made: [`ALGORITHM`](super::integrity::ALGORITHM).
    pub algorithm: String,
    /// What it came to: `sha256:...`.
    pub digest: String,
}

/// The layer of a sandbox's patches.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PatchLayer {
    /// The bytes of its files.
    pub data: PatchFile,
    /// What it changes.
    pub index: PatchFile,
}

/// A file of a patch layer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PatchFile {
    /// The SHA-256 of it: `sha256:...`.
    pub digest: String,
    /// Its size in bytes.
    pub size_bytes: u64,
}

/// A manifest that cannot be one.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ManifestError {
    /// No JSON, or not these fields.
    #[error("it is no manifest")]
    Json(#[from] serde_json::Error),
    /// A newer or an unknown one.
    #[error("its schema is {0}, and this release reads {SCHEMA_VERSION}")]
    Schema(u32),
    /// Of a format that is only reserved.
    #[error("its disk is in a format that this release does not read")]
    Format,
    /// The right fields, spelt otherwise.
    #[error("it is not spelt as this library writes it: somebody has changed it")]
    Spelling,
    /// Larger than any.
    #[error("it has more than {MAX_MANIFEST} bytes")]
    TooLong,
    /// A value that none has.
    #[error("{field} is {value:?}, which {why}")]
    Value {
        /// The field.
        field: &'static str,
        /// What it is.
        value: String,
        /// What is wrong with that.
        why: String,
    },
}

/// A manifest that was looked at, its bytes, and the identity that they give it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sealed {
    manifest: Manifest,
    bytes: Vec<u8>,
    digest: Digest,
}

impl Manifest {
    /// A manifest of now, without labels, parent, patches or recorded integrity.
    pub fn new(image: ImageRef, source_sandbox: Option<String>, size_bytes: u64) -> Self {
        Self {
            created_at: Utc::now().to_rfc3339_opts(SecondsFormat::Nanos, true),
            format: SnapshotFormat::Raw,
            fstype: FSTYPE.to_owned(),
            image,
            labels: BTreeMap::new(),
            parent: None,
            patch: None,
            schema: SCHEMA_VERSION,
            source_sandbox,
            upper: UpperLayer {
                file: DEFAULT_UPPER_FILE.to_owned(),
                integrity: None,
                size_bytes,
            },
        }
    }

    /// Checks it, and gives it its spelling and its identity.
    pub fn seal(self) -> Result<Sealed, ManifestError> {
        self.check()?;
        let bytes = serde_json::to_vec(&self)?;
        if bytes.len() as u64 > MAX_MANIFEST {
            return Err(ManifestError::TooLong);
        }
        Ok(Sealed {
            digest: Digest::of(&bytes),
            manifest: self,
            bytes,
        })
    }

    fn check(&self) -> Result<(), ManifestError> {
        if self.schema != SCHEMA_VERSION {
            return Err(ManifestError::Schema(self.schema));
        }
        if self.format != SnapshotFormat::Raw {
            return Err(ManifestError::Format);
        }
        time(&self.created_at)?;
        if self.fstype != FSTYPE {
            return Err(value("fstype", &self.fstype, "is not ext4"));
        }
        let reference = &self.image.reference;
        if reference.is_empty()
            || reference.len() > MAX_REFERENCE
            || !reference.chars().all(|c| c.is_ascii_graphic())
        {
            return Err(value("image.reference", reference, "refers to no image"));
        }
        digest("image.manifest_digest", &self.image.manifest_digest)?;
        if let Some(parent) = &self.parent {
            digest("parent", parent)?;
        }
        for (key, text) in &self.labels {
            msb_types::validate_label(key, text)
                .map_err(|error| value("labels", key, error.to_string()))?;
        }
        if let Some(name) = &self.source_sandbox {
            msb_types::validate_sandbox_name(name)
                .map_err(|error| value("source_sandbox", name, error.to_string()))?;
        }
        if let Some(patch) = &self.patch {
            digest("patch.data.digest", &patch.data.digest)?;
            digest("patch.index.digest", &patch.index.digest)?;
            size(
                "patch.data.size_bytes",
                patch.data.size_bytes,
                MAX_PATCH_BYTES,
            )?;
            size(
                "patch.index.size_bytes",
                patch.index.size_bytes,
                MAX_PATCH_BYTES,
            )?;
        }
        self.upper.check()
    }
}

impl UpperLayer {
    fn check(&self) -> Result<(), ManifestError> {
        if self.file != DEFAULT_UPPER_FILE {
            return Err(value("upper.file", &self.file, "is not upper.ext4"));
        }
        size("upper.size_bytes", self.size_bytes, MAX_UPPER_BYTES)?;
        if self.size_bytes == 0 || !self.size_bytes.is_multiple_of(BLOCK) {
            let size = self.size_bytes.to_string();
            return Err(value("upper.size_bytes", &size, "is no size of a disk"));
        }
        let Some(integrity) = &self.integrity else {
            return Ok(());
        };
        let algorithm = &integrity.algorithm;
        if algorithm.is_empty()
            || algorithm.len() > MAX_ALGORITHM
            || !algorithm.chars().all(|c| c.is_ascii_graphic())
        {
            return Err(value("upper.integrity.algorithm", algorithm, "is no name"));
        }
        digest("upper.integrity.digest", &integrity.digest).map(drop)
    }
}

impl Sealed {
    /// Reads a manifest: one that is spelt as [`Manifest::seal`] spells it, and no other.
    pub fn parse(bytes: &[u8]) -> Result<Self, ManifestError> {
        if bytes.len() as u64 > MAX_MANIFEST {
            return Err(ManifestError::TooLong);
        }
        // First what version it is, so that a newer one is called newer and not wrong.
        #[derive(Deserialize)]
        struct Version {
            schema: u32,
        }
        let Version { schema } = serde_json::from_slice(bytes)?;
        if schema != SCHEMA_VERSION {
            return Err(ManifestError::Schema(schema));
        }
        let manifest: Manifest = serde_json::from_slice(bytes)?;
        let sealed = manifest.seal()?;
        match sealed.bytes == bytes {
            true => Ok(sealed),
            false => Err(ManifestError::Spelling),
        }
    }

    /// What it says.
    pub fn manifest(&self) -> &Manifest {
        &self.manifest
    }

    /// How it is spelt.
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// The snapshot's identity.
    pub fn digest(&self) -> Digest {
        self.digest
    }

    /// The image that it pins.
    pub fn image(&self) -> Option<Digest> {
        self.manifest.image.manifest_digest.parse().ok()
    }

    /// The snapshot that it comes from.
    pub fn parent(&self) -> Option<Digest> {
        self.manifest.parent.as_ref()?.parse().ok()
    }

    /// When it was made, in UTC.
    pub fn created_at(&self) -> NaiveDateTime {
        time(&self.manifest.created_at).unwrap_or_default()
    }
}

fn time(text: &str) -> Result<NaiveDateTime, ManifestError> {
    let read = DateTime::parse_from_rfc3339(text).ok();
    match read {
        Some(time) if text.ends_with('Z') && text.len() <= 40 => Ok(time.naive_utc()),
        _ => Err(value("created_at", text, "is no time in UTC")),
    }
}

fn digest(field: &'static str, text: &str) -> Result<Digest, ManifestError> {
    text.parse().map_err(|_| value(field, text, "is no digest"))
}

fn size(field: &'static str, bytes: u64, limit: u64) -> Result<(), ManifestError> {
    match bytes > limit {
        true => Err(value(
            field,
            &bytes.to_string(),
            format!("is more than {limit}"),
        )),
        false => Ok(()),
    }
}

fn value(field: &'static str, value: &str, why: impl Into<String>) -> ManifestError {
    ManifestError::Value {
        field,
        value: value.chars().take(100).collect(),
        why: why.into(),
    }
}

#[cfg(test)]
#[path = "manifest_tests.rs"]
mod tests;
