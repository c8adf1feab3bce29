//! What can go wrong when a disk is planned or written.

use std::io;

/// No disk.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum WriteError {
    /// What is known of the image's layers makes no sense; they are read from files, which can break.
    #[error("the image's unpacked layers are damaged: {0}; remove the image and pull it again")]
    Damaged(&'static str),
    /// One file has more of them than the format has room for.
    #[error(
        "a file of the image has more than {limit} bytes of extended attributes; use an image without"
    )]
    XattrsTooLarge {
        /// How many bytes there may be.
        limit: usize,
    },
    /// Too many files, or too many holes in files.
    #[error("the image needs more than {limit} bytes to describe its files; use a smaller image")]
    MetadataTooLarge {
        /// How many bytes there may be.
        limit: u64,
    },
    /// Addresses have 32 bits.
    #[error("the image is larger than 16 TiB, the most that a disk can have; use a smaller image")]
    DiskTooLarge,
    /// Whatever it is written to took no more.
    #[error("cannot write the image's metadata")]
    Io(#[from] io::Error),
}
