//! A reader of EROFS disks that believes nothing.
//!
//! Every offset is computed with a check for overflow and compared with the size of what is read; what
//! is read at once is a block, or what the caller gave room for; tables are followed in a loop that
//! each step brings nearer to an end which the disk cannot move. A directory's names must ascend, which
//! both the kernel's search and the end of our loops depend on, and a walk enters no directory twice.
//!
//! Supported is what is plain: blocks of 512 to 4096 bytes, both forms of inodes, data in blocks, behind the
//! inode, and in chunks. Compression, further devices and long prefixes of attributes are refused.

mod check;
mod data;
mod directory;
mod error;
mod inode;
mod source;
mod walk;
mod xattr;

pub use check::Checked;
pub use data::Mapped;
pub use directory::{Entries, Entry};
pub use error::ReadError;
pub use inode::Inode;
pub use source::{Joined, ReadAt};
pub use walk::Walk;

use super::FileType;
use super::format::{
    COMPAT_CHECKSUM, INCOMPAT_CHUNKED, INCOMPAT_ZERO_PADDING, MAGIC, SUPER_AT, SUPER_BYTES, Super,
    checksum,
};
use crate::limits::BLOCK;

/// An open disk. It may be shorter than its superblock says, as long as what is asked for is there:
/// metadata without its data blobs has all but the bytes of files.
#[derive(Debug)]
pub struct Reader<S> {
    source: S,
    /// Bytes that there are.
    size: u64,
    raw: Super,
}

/// What a superblock says of all of a disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Superblock {
    /// Size of a block in bytes.
    pub block_bytes: u64,
    /// Blocks of the whole disk.
    pub blocks: u32,
    /// The number of the root directory's inode.
    pub root: u64,
    /// How many inodes there are.
    pub inodes: u64,
    /// Its identifier.
    pub uuid: [u8; 16],
    /// When it was made, in seconds since 1970.
    pub build_time: u64,
}

impl<S: ReadAt> Reader<S> {
    /// Opens a disk and looks at its superblock; at nothing else yet.
    ///
    /// # Errors
    ///
    /// It is no EROFS, one that is not supported, or damaged.
    pub fn open(source: S) -> Result<Self, ReadError> {
        let size = source.size()?;
        let mut bytes = [0; SUPER_BYTES];
        if size < SUPER_AT + SUPER_BYTES as u64 {
            return Err(ReadError::NotErofs);
        }
        source.read_exact_at(&mut bytes, SUPER_AT)?;
        let raw = Super::decode(&bytes);
        if raw.magic != MAGIC {
            return Err(ReadError::NotErofs);
        }
        let unsupported = raw.incompat & !(INCOMPAT_ZERO_PADDING | INCOMPAT_CHUNKED);
        if unsupported != 0 {
            let what = format!("features {unsupported:#x}");
            return Err(ReadError::Unsupported(what));
        }
        if !(9..=BLOCK.trailing_zeros()).contains(&raw.block_bits.into()) || raw.dir_block_bits != 0
        {
            let what = format!("blocks of 2^{} bytes", raw.block_bits);
            return Err(ReadError::Unsupported(what));
        }
        let reader = Self { source, size, raw };
        if raw.compat & COMPAT_CHECKSUM != 0 && reader.checksum()? != raw.checksum {
            return Err(ReadError::Checksum);
        }
        Ok(reader)
    }

    /// What the superblock says.
    pub fn superblock(&self) -> Superblock {
        Superblock {
            block_bytes: self.block(),
            blocks: self.raw.blocks,
            root: self.raw.root_nid.into(),
            inodes: self.raw.inodes,
            uuid: self.raw.uuid,
            build_time: self.raw.build_time,
        }
    }

    /// The inode with this number.
    ///
    /// # Errors
    ///
    /// It is not on the disk, or makes no sense.
    pub fn inode(&self, nid: u64) -> Result<Inode, ReadError> {
        Inode::read(self, nid)
    }

    /// The root directory.
    ///
    /// # Errors
    ///
    /// It is damaged, or no directory.
    pub fn root(&self) -> Result<Inode, ReadError> {
        let root = self.inode(self.raw.root_nid.into())?;
        match root.kind {
            FileType::Directory => Ok(root),
            _ => Err(damaged("the root is no directory", root.nid)),
        }
    }

    /// What has this path: names with slashes between them, none of them `.` or `..`. Symbolic links are
    /// not followed; the empty path is the root. None if nothing is there.
    ///
    /// # Errors
    ///
    /// Something on the way is damaged.
    pub fn find(&self, path: &[u8]) -> Result<Option<Inode>, ReadError> {
        let mut here = self.root()?;
        for name in path
            .split(|byte| *byte == b'/')
            .filter(|name| !name.is_empty())
        {
            if here.kind != FileType::Directory {
                return Ok(None);
            }
            let Some(entry) = self.lookup(&here, name)? else {
                return Ok(None);
            };
            here = self.inode(entry.nid)?;
            if here.kind != entry.kind {
                return Err(damaged("a name says another kind than the inode", here.nid));
            }
        }
        Ok(Some(here))
    }

    fn block(&self) -> u64 {
        // `open` saw to it that there are not too many bits.
        1u64.checked_shl(self.raw.block_bits.into())
            .unwrap_or(BLOCK)
    }

    /// The checksum that the superblock should have. It covers the rest of the superblock's block.
    fn checksum(&self) -> Result<u32, ReadError> {
        let covered = match self.block() {
            block if block > SUPER_AT => block - SUPER_AT,
            block => block,
        };
        let mut bytes = vec![0; usize::try_from(covered).unwrap_or(0)];
        self.source.read_exact_at(&mut bytes, SUPER_AT)?;
        Ok(checksum(&bytes))
    }

    /// Fills `buf` from a place that the disk names.
    fn read_at(&self, buf: &mut [u8], at: u64, nid: u64) -> Result<(), ReadError> {
        let end = at.checked_add(buf.len() as u64);
        if end.is_none_or(|end| end > self.size) {
            return Err(damaged("something is past the end of the disk", nid));
        }
        Ok(self.source.read_exact_at(buf, at)?)
    }
}

fn damaged(what: &'static str, nid: u64) -> ReadError {
    ReadError::Damaged { what, nid }
}
