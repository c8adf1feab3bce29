//! EROFS: the file system of root disks, read-only and made for images (`Documentation/filesystems/erofs.rst`
//! of the kernel).
//!
//! The writer makes *metadata only*: superblock, inodes, names, links, attributes. Files' bytes stay where they
//! are, in the data blobs of the image's layers, and an inode says at which block of the disk they are;
//! the disk is the metadata with the data blobs behind it ([`Disk`]). Nothing is copied and nothing is
//! compressed, so a host has one copy of a layer in its page cache, whoever uses it.
//!
//! ```text
//! Tree ──Plan::new──> Plan ──write──> metadata     the same bytes for the same tree
//!                      └────disk────> Disk         [metadata | data of layer 0 | data of layer 1 | ...]
//! any disk ──Reader::open──> Reader ──> inodes, directories, files, a check of it all
//! ```
//!
//! What is written is plain: one block size, extended inodes throughout, a flag for what is used and for
//! nothing else. Linux reads it since 5.15, which brought files in chunks.
//!
//! The [`Reader`] reads what the writer makes, and what `mkfs.erofs` makes without compression. A disk is
//! hostile to it: it may be a file that a guest could write.
//!
//! There are crates for the format. Those that write it put the bytes of files into the image, or leave them to an
//! overlay, as composefs does; none lets an inode point behind the image. Those that read it map the file
//! into memory, where a file that becomes shorter is a SIGBUS, and follow directories wherever they lead.

mod attached;
mod content;
mod directory;
mod disk;
mod error;
mod format;
mod place;
mod plan;
mod reader;
mod sink;
mod write;
mod xattr;

pub use disk::{Disk, Extent, Part};
pub use error::WriteError;
pub use format::FileType;
pub use plan::Plan;
pub use reader::{
    Checked, Entries, Entry, Inode, Joined, Mapped, ReadAt, ReadError, Reader, Superblock, Walk,
};

use crate::Digest;

/// The most metadata that an image may have unless its [`Options`] say otherwise, in bytes. A large image
/// has a few hundred thousand files, and of each a hundred bytes.
pub const MAX_METADATA: u64 = 1 << 30;

/// How a disk is to be written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Options {
    /// What the disk is made of: its UUID is derived from it.
    pub id: Digest,
    /// When it was made, in seconds since 1970. Zero by default, as nothing in the guest depends on it.
    pub build_time: u64,
    /// The most bytes of metadata.
    pub max_metadata: u64,
}

impl Options {
    /// Those for an image with this digest.
    pub fn new(id: Digest) -> Self {
        Self {
            id,
            build_time: 0,
            max_metadata: MAX_METADATA,
        }
    }
}
