//! What is kept of images on this host, under `<home>/images/`.
//!
//! | path | what |
//! | --- | --- |
//! | `blobs/sha256/<hex>` | manifests, configurations and layers, byte for byte as they came |
//! | `layers/<diff id>/{index,data,noted.json}` | a layer, unpacked once for all images that have it |
//! | `meta/<manifest>.erofs`, `.json` | an image's metadata disk, and its record |
//! | `refs/<sha256 of the reference>.json` | a reference, and the image it means |
//! | `tmp/<hex>.partial`, `.lock` | a download that is going on or was cut short |
//! | `tmp/<hex>.unpack/`, `tmp/<random>.work/` | work in progress |
//! | `lock` | held shared by whoever names what must stay, exclusively by whoever removes |
//!
//! **Nothing is there by halves.** A file is written under another name, synced, and renamed to its own; a
//! layer is a directory that is renamed whole. An image exists when its record does, which is written after
//! all that it speaks of; a reference is written after the record. So whatever instant a program is killed
//! at, what is found by its own name is complete, and the rest is in `tmp/`.
//!
//! **Work belongs to who holds its lock.** The kernel drops a lock with its process, so work whose lock is
//! free is nobody's: a partial download is gone on with, all else is deleted by whoever finds it.
//!
//! **What is not referred to goes.** Referred to is what a reference, a sandbox or a snapshot names, which the
//! store is told by [`InUse`], and what a [`Claim`] names: whoever is about to need something says so first.
//! Naming and removing exclude each other by `lock`, so nothing goes between the look and the use.
//!
//! All of it is synchronous and may block on the disk.

mod blob;
mod claim;
mod collect;
mod durable;
mod error;
mod hashing;
mod image;
mod layer;
mod layout;
mod lock;
mod mend;
mod open;
mod record;
mod references;
mod space;
mod stamp;
mod turn;
mod usage;
mod work;

use std::path::Path;

pub use blob::{Blob, BlobTurn, BlobWriter};
pub use claim::Claim;
pub use collect::Collected;
pub use error::StoreError;
pub use image::{ImageRecord, LayerRecord};
pub use layer::{StoredLayer, UnpackProgress};
pub use open::{DiskPart, OpenImage};
pub use references::RefRecord;
pub use turn::Elsewhere;
pub use usage::{InUse, InUseError};

pub(crate) use hashing::Hashing;

use layout::Layout;

/// The images of one home. Cheap to open and to clone; any number may be open at once, in any number of
/// processes.
#[derive(Clone, Debug)]
pub struct Store {
    layout: Layout,
}

impl Store {
    /// The store in this directory, which is made if it is missing.
    ///
    /// # Errors
    ///
    /// [`Io`](StoreError::Io) when it can neither be found nor be made.
    pub fn open(images_dir: &Path) -> Result<Self, StoreError> {
        let layout = Layout::of(images_dir);
        layout.make()?;
        Ok(Self { layout })
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        self.layout.root()
    }
}

#[cfg(test)]
mod tests;
