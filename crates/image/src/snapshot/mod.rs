//! Snapshots: what a stopped sandbox has written, kept to make others from.
//!
//! A snapshot is a directory, and all that is true of it is in there:
//!
//! ```text
//! manifest.json        what it is; the SHA-256 of its bytes is the snapshot's identity
//! upper.ext4           the sandbox's writable layer, sparse, never written again
//! patch/index, data    the layer of the sandbox's patches, if it had any
//! ```
//!
//! The image below is not in it. The manifest pins it by the digest of *its* manifest, so a tag that
//! moves on changes nothing.
//!
//! | module | what |
//! | --- | --- |
//! | [`manifest`] | the manifest, its one spelling, its identity |
//! | [`extents`] | where a sparse file has data |
//! | [`integrity`] | a digest of a disk's contents that does not care where its holes are |
//! | [`copy`] | a disk's copy: shared blocks where the file system can, else only what is data |
//! | [`ext4`] | what a superblock says, for disks that are no file system at all |
//! | [`dir`] | the directory: opened, verified, removed without hurting others |
//! | [`Staging`] | a directory in the making, which appears by one rename |
//! | [`Capture`], [`restore`] | a snapshot made of a disk, and a disk made of a snapshot |
//! | [`archive`] | one file with snapshots in it, for other hosts |
//!
//! A guest wrote the disk, anybody can have written a directory or an archive, and other programs of
//! the same user can change both at any time. So names are fixed and never taken from a file, nothing that
//! is a link is followed, and what sizes and counts say is bounded before it is believed.

pub mod archive;
mod capture;
pub mod copy;
pub mod dir;
mod error;
pub mod ext4;
pub mod extents;
mod files;
pub mod integrity;
pub mod manifest;
mod staging;

pub use capture::{Capture, may_take, origin, restore};
pub use dir::{PatchFiles, SnapshotDir, UpperState};
pub use error::{Result, SnapshotError};
pub use manifest::{
    ImageRef, Manifest, ManifestError, PatchFile, PatchLayer, Sealed, SnapshotFormat,
    UpperIntegrity, UpperLayer,
};
pub use staging::{Staging, sweep};

use std::io;

/// Called between two steps of long work, each of at most a few MiB; an error ends the work with it.
pub type GoOn<'a> = &'a mut dyn FnMut() -> io::Result<()>;

/// For work that nobody ends early.
pub fn always() -> io::Result<()> {
    Ok(())
}
