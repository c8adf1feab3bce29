//! An archive: snapshots in one file, to be taken elsewhere.
//!
//! It is a tar, compressed by zstd unless it is to be plain, and any GNU tar unpacks it. In this order, and
//! with nothing else in between:
//!
//! ```text
//! snapshot.json                        which snapshots these are: ancestors first, the one that was asked for last
//! snapshots/<hex>/manifest.json        of each of them; <hex> is its identity
//! snapshots/<hex>/upper.ext4           sparse: only what is data is in the archive
//! snapshots/<hex>/patch/index, data    if it has patches
//! image/oci-layout, index.json, blobs/sha256/<hex>    the images below them, if they were asked for
//! end.json                             what the disks' contents came to: so nothing is missing or changed
//! ```
//!
//! Who reads one believes nothing of it. Names are compared with those that must come next and never become
//! paths; there are regular files only; a disk's map of data is checked before the first byte is written;
//! what is data and zeros becomes a hole. Everything is unpacked beside its place, each snapshot in a
//! [`Staging`](super::Staging) of its own, and appears by a rename when all of it was found right.

mod images;
mod member;
mod name;
mod read;
mod sparse;
mod write;

#[cfg(test)]
mod tests;

pub use images::StoreImages;
pub use name::ImagePath;
pub use read::{ImageFiles, NoImage, Unpacked, UnpackedSnapshot, read};
pub use write::Writer;

use std::collections::{BTreeMap, BTreeSet};
use std::io;

use serde::{Deserialize, Serialize};

use super::error::{Result, SnapshotError};
use crate::Digest;

/// The version of this format.
const FORMAT: u32 = 1;

/// The most snapshots in an archive: how long a line of ancestors may be.
pub const MAX_SNAPSHOTS: usize = 64;

/// The largest of the archive's own documents, in bytes.
const MAX_DOCUMENT: u64 = 256 << 10;

/// What an archive may ask of the host that reads it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Bytes of data of all its disks and patch layers.
    pub data_bytes: u64,
    /// Stretches of data of one disk.
    pub extents: usize,
    /// Files of its images.
    pub image_files: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            data_bytes: 1 << 40,
            extents: MAX_EXTENTS,
            image_files: 16_384,
        }
    }
}

/// The most stretches of data that a disk is written with: if it has more, the smallest gaps are data.
const MAX_EXTENTS: usize = 1 << 20;

/// `snapshot.json`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Contents {
    format: u32,
    /// Whether the images below the snapshots are in the archive.
    pub image: bool,
    /// The snapshots, each the parent of the next.
    pub snapshots: Vec<Entry>,
}

/// One snapshot of an archive.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Entry {
    /// Its identity.
    pub digest: Digest,
    /// What it was called.
    pub name: String,
}

/// `end.json`.
#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct End {
    /// By the snapshots' identities, the digests of their disks' contents
    /// ([`ALGORITHM`](super::integrity::ALGORITHM)).
    uppers: BTreeMap<String, String>,
}

impl Contents {
    /// Those of an archive of these snapshots.
    pub fn new(snapshots: Vec<Entry>, image: bool) -> Result<Self> {
        let contents = Self {
            format: FORMAT,
            image,
            snapshots,
        };
        contents.check()?;
        Ok(contents)
    }

    fn check(&self) -> Result<()> {
        if self.format != FORMAT {
            return Err(SnapshotError::archive(format!(
                "the archive has format {}, and this release reads {FORMAT}",
                self.format
            )));
        }
        if !(1..=MAX_SNAPSHOTS).contains(&self.snapshots.len()) {
            return Err(SnapshotError::archive(format!(
                "the archive has {} snapshots, and may have 1 to {MAX_SNAPSHOTS}",
                self.snapshots.len()
            )));
        }
        let (mut names, mut digests) = (BTreeSet::new(), BTreeSet::new());
        for Entry { digest, name } in &self.snapshots {
            msb_types::validate_sandbox_name(name).map_err(|error| {
                SnapshotError::archive(format!("a snapshot in the archive has no name: {error}"))
            })?;
            if !names.insert(name) || !digests.insert(digest) {
                return Err(SnapshotError::archive(format!(
                    "the snapshot {name:?} is twice in the archive"
                )));
            }
        }
        Ok(())
    }
}

/// An archive that cannot be read on.
fn broken(error: io::Error) -> SnapshotError {
    SnapshotError::archive(format!("the archive cannot be read: {error}"))
}

/// An archive that nobody should have written.
fn wrong(what: impl std::fmt::Display) -> SnapshotError {
    SnapshotError::archive(format!("the archive cannot be used: {what}"))
}
