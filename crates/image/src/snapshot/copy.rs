//! The copy of a disk.
//!
//! Where the file system can (btrfs, XFS, bcachefs), a copy shares the original's blocks until one of
//! them is written (`FICLONE`): it takes no time and no space. Elsewhere (ext4, tmpfs) what is data is
//! copied by the kernel (`copy_file_range`), and holes stay holes: it takes the time and the space
//! of what the guest has written, whatever the disk's size.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;

use rustix::fs::{copy_file_range, ioctl_ficlone};
use rustix::io::{Errno, retry_on_intr};

use super::GoOn;
use super::extents::Extents;

/// How much is copied between two questions whether to go on, in bytes.
const STEP: u64 = 16 << 20;

/// How much is read at once where the kernel does not copy.
const CHUNK: usize = 1 << 20;

/// How a copy was made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Copied {
    /// It shares the original's blocks.
    Shared,
    /// It has its own; so many bytes were copied.
    Data(u64),
}

/// Copies all of `from` into `to`, which is empty and open for writing. It moves the positions of both.
///
/// # Errors
///
/// When either cannot be used, `from` becomes shorter meanwhile, or `go_on` says so. What `to` holds then
/// is nothing in particular.
pub fn copy(from: &File, to: &File, go_on: GoOn<'_>) -> io::Result<Copied> {
    match ioctl_ficlone(to, from) {
        Ok(()) => Ok(Copied::Shared),
        Err(
            Errno::OPNOTSUPP
            | Errno::NOTTY
            | Errno::XDEV
            | Errno::INVAL
            | Errno::NOSYS
            | Errno::PERM
            | Errno::ACCESS
            | Errno::TXTBSY,
        ) => copy_data(from, to, go_on).map(Copied::Data),
        Err(error) => Err(error.into()),
    }
}

/// Copies what is data, and returns how much that was.
pub fn copy_data(from: &File, to: &File, go_on: GoOn<'_>) -> io::Result<u64> {
    let size = from.metadata()?.len();
    to.set_len(size)?;
    let mut way = Way::Kernel;
    let mut copied = 0;
    for extent in Extents::of(from, size) {
        let extent = extent?;
        let mut at = extent.start;
        while at < extent.end {
            go_on()?;
            let done = way.copy(from, to, at, (extent.end - at).min(STEP))?;
            if done == 0 {
                return Err(io::Error::new(
                    io::ErrorKind::UnexpectedEof,
                    "the file became shorter while it was copied",
                ));
            }
            at += done;
            copied += done;
        }
    }
    Ok(copied)
}

/// Who copies.
#[derive(Debug)]
enum Way {
    Kernel,
    Buffer(Vec<u8>),
}

impl Way {
    /// Copies something of it, and returns how much.
    fn copy(&mut self, from: &File, to: &File, at: u64, length: u64) -> io::Result<u64> {
        if matches!(self, Self::Kernel) {
            let (mut read, mut write) = (at, at);
            let length = usize::try_from(length).unwrap_or(usize::MAX);
            let copied = retry_on_intr(|| {
                copy_file_range(from, Some(&mut read), to, Some(&mut write), length)
            });
            match copied {
                // Some file systems say so where they should say that they cannot.
                Ok(0) => {}
                Ok(done) => return Ok(done as u64),
                Err(
                    Errno::XDEV
                    | Errno::NOSYS
                    | Errno::OPNOTSUPP
                    | Errno::INVAL
                    | Errno::PERM
                    | Errno::IO,
                ) => {}
                Err(error) => return Err(error.into()),
            }
            *self = Self::Buffer(vec![0; CHUNK]);
        }
        let Self::Buffer(buffer) = self else {
            return Ok(0);
        };
        let length = usize::try_from(length).unwrap_or(CHUNK).min(CHUNK);
        let room = buffer.get_mut(..length).unwrap_or_default();
        let read = from.read_at(room, at)?;
        let bytes = buffer.get(..read).unwrap_or_default();
        to.write_all_at(bytes, at)?;
        Ok(read as u64)
    }
}

#[cfg(test)]
#[path = "copy_tests.rs"]
mod tests;
