//! What is in one file: its data, and its holes where it says that it has some.
//!
//! The size that a file has is not asked for but to find its last hole: files of /proc say
//! 0 and have contents, and any file may grow or shrink while it is read. Only where a
//! file has fewer blocks than bytes is it asked where they are (`SEEK_DATA`, `SEEK_HOLE`);
//! any other is read to its end.

use std::os::fd::BorrowedFd;
use std::path::Path;

use bytes::Bytes;
use msb_protocol::{FsPart, MAX_CHUNK};
use rustix::fs::{SeekFrom, fstat, seek};
use rustix::io::{Errno, pread, retry_on_intr};

use crate::Result;
use crate::failure::fail;

/// Blocks are counted in this unit, whatever their size is.
const BLOCK_UNIT: u64 = 512;

/// Gives all that is in `file`, which is at `path` and can be read at any place, to `sink`.
pub fn read_content(
    file: BorrowedFd<'_>,
    path: &Path,
    sink: &mut dyn FnMut(FsPart) -> Result<()>,
) -> Result<()> {
    let at = |errno| fail(errno, path);
    let stat = fstat(file).map_err(at)?;
    let size = u64::try_from(stat.st_size).unwrap_or(0);
    let taken = u64::try_from(stat.st_blocks)
        .unwrap_or(u64::MAX)
        .saturating_mul(BLOCK_UNIT);
    let mut reading = Reading {
        file,
        buffer: vec![0; MAX_CHUNK],
        offset: 0,
        sink,
    };
    let read = if taken < size {
        reading.extents()
    } else {
        reading.up_to(u64::MAX).map(|_| ())
    };
    read.map_err(|stop| match stop {
        Stop::Kernel(errno) => at(errno),
        Stop::Sink(failure) => failure,
    })
}

enum Stop {
    Kernel(Errno),
    Sink(msb_protocol::FsFailure),
}

impl From<Errno> for Stop {
    fn from(errno: Errno) -> Self {
        Self::Kernel(errno)
    }
}

struct Reading<'a> {
    file: BorrowedFd<'a>,
    buffer: Vec<u8>,
    /// Everything before it was given out.
    offset: u64,
    sink: &'a mut dyn FnMut(FsPart) -> Result<()>,
}

impl Reading<'_> {
    /// One stretch of data after the other, with the holes between them.
    fn extents(&mut self) -> std::result::Result<(), Stop> {
        loop {
            let start = match seek(self.file, SeekFrom::Data(self.offset)) {
                Ok(start) => start.max(self.offset),
                // No data from here on.
                Err(Errno::NXIO) => {
                    let size = fstat(self.file)?.st_size;
                    return self.hole_to(u64::try_from(size).unwrap_or(0));
                }
                // A file system that does not tell.
                Err(_) => return self.up_to(u64::MAX).map(|_| ()),
            };
            let end = seek(self.file, SeekFrom::Hole(start))
                .ok()
                .filter(|end| *end > start)
                .unwrap_or(u64::MAX);
            self.hole_to(start)?;
            if !self.up_to(end)? {
                return Ok(());
            }
        }
    }

    fn hole_to(&mut self, end: u64) -> std::result::Result<(), Stop> {
        let Some(length) = end.checked_sub(self.offset).filter(|length| *length > 0) else {
            return Ok(());
        };
        self.offset = end;
        (self.sink)(FsPart::Hole(length)).map_err(Stop::Sink)
    }

    /// Data, as far as `end`. Returns whether it came so far.
    fn up_to(&mut self, end: u64) -> std::result::Result<bool, Stop> {
        while self.offset < end {
            let most = usize::try_from(end - self.offset)
                .unwrap_or(usize::MAX)
                .min(self.buffer.len());
            let room = self.buffer.get_mut(..most).unwrap_or_default();
            let count = retry_on_intr(|| pread(self.file, &mut *room, self.offset))?;
            let Some(data) = room.get(..count).filter(|data| !data.is_empty()) else {
                return Ok(false);
            };
            let data = Bytes::copy_from_slice(data);
            self.offset = self
                .offset
                .saturating_add(u64::try_from(count).unwrap_or(0));
            (self.sink)(FsPart::Data(data)).map_err(Stop::Sink)?;
        }
        Ok(true)
    }
}
