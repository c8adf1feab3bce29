//! Where the bytes of a disk are.
//!
//! A disk is a list of extents laid end to end, each a stretch of a file. A writable disk is one
//! extent that is all of its file; a read-only one may be put together from several files. Where each
//! extent ends on the disk is kept beside it, so that a byte is found by halving the list.

use std::fs::File;
use std::io;
use std::os::fd::AsFd;
use std::os::unix::fs::FileTypeExt;
use std::sync::Arc;

use rustix::fs::{FallocateFlags, SeekFrom};
use rustix::io::Errno;

use super::request::SECTOR;
use crate::iov::{self, Iovecs};

/// Bytes of zeros that are written by hand where the file system cannot do better.
static ZEROS: [u8; 4096] = [0; 4096];

/// A stretch of a file.
#[derive(Clone, Debug)]
pub struct Extent {
    /// The file, open for reading at least.
    pub file: Arc<File>,
    /// First byte in it.
    pub offset: u64,
    /// Bytes of it.
    pub len: u64,
}

/// All bytes of a disk.
#[derive(Debug)]
pub struct Backing {
    /// None of them empty.
    extents: Vec<Extent>,
    /// Where the extent of the same index ends on the disk; ascending.
    ends: Vec<u64>,
    len: u64,
    /// Space can be given back by punching holes.
    punch: bool,
}

/// A file cannot be a disk.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum BlockError {
    /// A directory, a pipe, or another thing without a size.
    #[error("not a regular file or block device: give a raw disk image")]
    NotADisk,
    /// No bytes at all.
    #[error("the disk image is empty: extend it with `truncate -s SIZE FILE`")]
    Empty,
    /// Disks are made of whole sectors.
    #[error(
        "the disk image is {bytes} bytes, not a multiple of 512: extend it with `truncate -s %512 FILE`"
    )]
    PartialSector {
        /// Size of the file.
        bytes: u64,
    },
    /// More bytes than a file could have.
    #[error("the disk is larger than 8 EiB: leave out some of its parts")]
    TooLarge,
    /// The serial does not fit in the field that carries it.
    #[error("the disk id is {bytes} bytes long: use at most 20")]
    Id {
        /// Its length.
        bytes: usize,
    },
    /// The host did not say what the file is.
    #[error("cannot examine the disk image")]
    Io(#[from] io::Error),
}

/// The bytes of a regular file or block device.
pub fn size(file: &File) -> Result<u64, BlockError> {
    let metadata = file.metadata()?;
    let kind = metadata.file_type();
    if kind.is_file() {
        Ok(metadata.len())
    } else if kind.is_block_device() {
        Ok(rustix::fs::seek(file, SeekFrom::End(0)).map_err(io::Error::from)?)
    } else {
        Err(BlockError::NotADisk)
    }
}

impl Backing {
    /// A disk that is all of one file or block device.
    pub fn whole(file: File) -> Result<Self, BlockError> {
        let len = size(&file)?;
        let punch = file.metadata()?.is_file();
        let extent = Extent {
            file: Arc::new(file),
            offset: 0,
            len,
        };
        let mut backing = Self::extents(vec![extent])?;
        backing.punch = punch;
        Ok(backing)
    }

    /// A disk put together from stretches of files. That they lie within their files is the caller's to
    /// see to: what a file does not have is an I/O error to the guest.
    pub fn extents(mut extents: Vec<Extent>) -> Result<Self, BlockError> {
        extents.retain(|extent| extent.len > 0);
        let mut ends = Vec::with_capacity(extents.len());
        let mut len = 0u64;
        for extent in &extents {
            len = len
                .checked_add(extent.len)
                .filter(|len| i64::try_from(*len).is_ok())
                .ok_or(BlockError::TooLarge)?;
            ends.push(len);
        }
        if len == 0 {
            return Err(BlockError::Empty);
        }
        if !len.is_multiple_of(SECTOR) {
            return Err(BlockError::PartialSector { bytes: len });
        }
        Ok(Self {
            extents,
            ends,
            len,
            punch: false,
        })
    }

    /// Capacity in sectors.
    pub fn sectors(&self) -> u64 {
        self.len / SECTOR
    }

    /// Files that it is in, at most: one that has several stretches of it counts for each.
    pub fn files(&self) -> u64 {
        self.extents.len() as u64
    }

    /// Capacity in bytes.
    pub fn bytes(&self) -> u64 {
        self.len
    }

    /// The extents, and where each begins on the disk.
    pub(crate) fn parts(&self) -> impl Iterator<Item = (u64, &Extent)> {
        let begins = std::iter::once(0).chain(self.ends.iter().copied());
        begins.zip(&self.extents)
    }

    /// Whether ranges can be discarded.
    pub fn can_discard(&self) -> bool {
        self.punch
    }

    /// How many of `len` bytes from byte `offset` of the disk are in one piece: what one call of
    /// [`Backing::read`] or [`Backing::write`] may be asked for.
    pub(crate) fn contiguous(&self, offset: u64, len: u64) -> u64 {
        self.locate(offset).map_or(0, |(_, _, left)| left.min(len))
    }

    /// Reads from byte `offset`; may do less than asked for, but never nothing.
    pub(crate) fn read(&self, offset: u64, into: &Iovecs<'_>) -> io::Result<u64> {
        let (extent, at, _) = self.locate(offset).ok_or(io::ErrorKind::UnexpectedEof)?;
        progress(iov::read_at(extent.file.as_fd(), into, at)?)
    }

    /// Writes from byte `offset`; may do less than asked for, but never nothing.
    pub(crate) fn write(&self, offset: u64, from: &Iovecs<'_>) -> io::Result<u64> {
        let (extent, at, _) = self.locate(offset).ok_or(io::ErrorKind::UnexpectedEof)?;
        progress(iov::write_at(extent.file.as_fd(), from, at)?)
    }

    /// Makes all writes durable.
    pub(crate) fn sync(&self) -> io::Result<()> {
        for extent in &self.extents {
            rustix::io::retry_on_intr(|| rustix::fs::fdatasync(&extent.file))?;
        }
        Ok(())
    }

    /// Gives space back to the host. What the range reads as afterwards is not said, so a file
    /// system that cannot do it is no failure.
    pub(crate) fn discard(&self, offset: u64, len: u64) -> io::Result<()> {
        self.each_piece(offset, len, |extent, at, len| {
            match allocate(&extent.file, PUNCH, at, len) {
                Err(Errno::OPNOTSUPP | Errno::NOSYS) => Ok(()),
                other => Ok(other?),
            }
        })
    }

    /// Makes a range read as zeros; with `unmap`, its space may go back to the host.
    pub(crate) fn zero(&self, offset: u64, len: u64, unmap: bool) -> io::Result<()> {
        let how = if unmap {
            PUNCH
        } else {
            FallocateFlags::ZERO_RANGE.union(FallocateFlags::KEEP_SIZE)
        };
        self.each_piece(offset, len, |extent, at, len| {
            match allocate(&extent.file, how, at, len) {
                Err(Errno::OPNOTSUPP | Errno::NOSYS) => write_zeros(&extent.file, at, len),
                other => Ok(other?),
            }
        })
    }

    /// The extent that holds byte `offset`, where in its file, and how much of it is left there.
    fn locate(&self, offset: u64) -> Option<(&Extent, u64, u64)> {
        let index = self.ends.partition_point(|end| *end <= offset);
        let (extent, end) = (self.extents.get(index)?, *self.ends.get(index)?);
        let left = end - offset;
        let into = extent.len.checked_sub(left)?;
        Some((extent, extent.offset.checked_add(into)?, left))
    }

    fn each_piece(
        &self,
        mut offset: u64,
        mut len: u64,
        mut f: impl FnMut(&Extent, u64, u64) -> io::Result<()>,
    ) -> io::Result<()> {
        while len > 0 {
            let (extent, at, left) = self.locate(offset).ok_or(io::ErrorKind::UnexpectedEof)?;
            let now = left.min(len);
            f(extent, at, now)?;
            offset += now;
            len -= now;
        }
        Ok(())
    }
}

const PUNCH: FallocateFlags = FallocateFlags::PUNCH_HOLE.union(FallocateFlags::KEEP_SIZE);

fn allocate(file: &File, how: FallocateFlags, at: u64, len: u64) -> Result<(), Errno> {
    rustix::io::retry_on_intr(|| rustix::fs::fallocate(file, how, at, len))
}

fn write_zeros(file: &File, mut at: u64, mut len: u64) -> io::Result<()> {
    while len > 0 {
        let mut pieces = Iovecs::new();
        let mut left = len;
        while left > 0 {
            let here = usize::try_from(left).map_or(ZEROS.len(), |left| left.min(ZEROS.len()));
            if !pieces.push_bytes(ZEROS.get(..here).unwrap_or_default()) {
                break;
            }
            left -= here as u64;
        }
        let done = progress(iov::write_at(file.as_fd(), &pieces, at)?)?;
        at += done;
        len -= done;
    }
    Ok(())
}

/// A transfer of no bytes would be asked for again for ever: the file was cut short under us.
fn progress(bytes: usize) -> io::Result<u64> {
    match bytes {
        0 => Err(io::ErrorKind::UnexpectedEof.into()),
        bytes => Ok(bytes as u64),
    }
}
