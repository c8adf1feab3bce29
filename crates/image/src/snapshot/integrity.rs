//! `msb-sparse-sha256-v1`: a digest of a disk's contents that does not care where its holes are.
//!
//! A hole reads as zeros, and a copy may have zeros where the original has a hole, or the other way
//! round. So zeros are left out, by contents and not by what the file system says: the digest of a file is
//! the SHA-256 of
//!
//! ```text
//! "msb-sparse-sha256-v1" 00            21 bytes
//! size                                 8 bytes, little-endian: the file's size in bytes
//! for each block of 4096 bytes with any byte that is not zero, from the first to the last:
//!     number                           8 bytes, little-endian: 0 is the file's first block
//!     contents                         4096 bytes; of a block that the file ends in, what it has
//! ```
//!
//! The size and the numbers say how long each part is, so two files have one digest only if
//! they have the same bytes. A hole costs nothing: where the kernel says that there is no data nothing is
//! read.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;

use sha2::{Digest as _, Sha256};

use super::GoOn;
use super::extents::Extents;
use crate::Digest;
use crate::limits::BLOCK;

/// The name of the algorithm.
pub const ALGORITHM: &str = "msb-sparse-sha256-v1";

/// How much is read at once: a multiple of the block.
pub(super) const CHUNK: usize = 1 << 20;

/// The block, as a length in memory.
pub(super) const BLOCK_LEN: usize = 4096;
const _: () = assert!(BLOCK_LEN as u64 == BLOCK);

const ZEROS: [u8; BLOCK_LEN] = [0; BLOCK_LEN];

/// The digest of contents that come piece by piece, in ascending order.
#[derive(Debug)]
pub struct SparseHasher {
    hasher: Sha256,
}

impl SparseHasher {
    /// For contents of this size, in bytes.
    pub fn new(size: u64) -> Self {
        let mut hasher = Sha256::new();
        hasher.update(ALGORITHM.as_bytes());
        hasher.update([0]);
        hasher.update(size.to_le_bytes());
        Self { hasher }
    }

    /// Goes on with what is at `at`: a multiple of 4096 bytes, and so is the length unless the contents
    /// end here. What is passed over is zeros.
    pub fn update(&mut self, at: u64, bytes: &[u8]) {
        debug_assert!(at.is_multiple_of(BLOCK));
        for (number, block) in (at / BLOCK..).zip(bytes.chunks(BLOCK_LEN)) {
            if !is_zero(block) {
                self.hasher.update(number.to_le_bytes());
                self.hasher.update(block);
            }
        }
    }

    /// What it comes to.
    pub fn finish(self) -> Digest {
        Digest::from_hasher(self.hasher)
    }
}

/// Whether there are zeros only, in at most a block.
pub(super) fn is_zero(block: &[u8]) -> bool {
    ZEROS.get(..block.len()) == Some(block)
}

/// The digest of a file's contents. It moves the file's position.
///
/// # Errors
///
/// When it cannot be read, becomes shorter while it is, or `go_on` says so.
pub fn digest(file: &File, go_on: GoOn<'_>) -> io::Result<Digest> {
    let size = file.metadata()?.len();
    let mut hasher = SparseHasher::new(size);
    let mut chunk = vec![0; CHUNK];
    let mut done = 0;
    for extent in Extents::of(file, size) {
        let extent = extent?;
        // Two extents may share a block.
        let mut at = (extent.start - extent.start % BLOCK).max(done);
        let end = extent.end.next_multiple_of(BLOCK).min(size);
        while at < end {
            go_on()?;
            let length = usize::try_from(end - at).unwrap_or(CHUNK).min(CHUNK);
            let Some(read) = chunk.get_mut(..length) else {
                break;
            };
            file.read_exact_at(read, at)?;
            hasher.update(at, read);
            at += read.len() as u64;
        }
        done = done.max(end);
    }
    Ok(hasher.finish())
}

#[cfg(test)]
#[path = "integrity_tests.rs"]
mod tests;
