//! Reading and writing one file, of whatever kind it is.
//!
//! It is opened without waiting, so that a pipe that has no other end does not hold the
//! thread, and then waited for by `poll`, which the host's leaving ends.

use std::os::fd::AsFd;
use std::path::Path;

use bytes::Bytes;
use msb_files::{Result, fail};
use msb_protocol::{FsAnswer, FsFailure, FsFailureKind, FsPart, MAX_CHUNK};
use rustix::event::PollFlags;
use rustix::fs::{CWD, FileType, Mode, OFlags, fstat, openat};
use rustix::io::{Errno, read as read_some, retry_on_intr, write as write_some};

use super::worker::Worker;

const FLAGS: OFlags = OFlags::NONBLOCK
    .union(OFlags::CLOEXEC)
    .union(OFlags::NOCTTY);

/// Gives out all that is in the file, as it comes.
pub(super) fn read(worker: &Worker, path: &Path) -> Result<FsAnswer> {
    let at = |errno| fail(errno, path);
    let flags = FLAGS | OFlags::RDONLY;
    let file = retry_on_intr(|| openat(CWD, path, flags, Mode::empty())).map_err(at)?;
    let stat = fstat(&file).map_err(at)?;
    let kind = FileType::from_raw_mode(stat.st_mode);
    if kind == FileType::Directory {
        return Err(at(Errno::ISDIR));
    }
    worker.answer(FsAnswer::Opened)?;
    if kind == FileType::Fifo {
        // Reading one that nobody has opened yet would be its end.
        worker.wait(file.as_fd(), PollFlags::IN)?;
    }
    let mut buffer = vec![0; MAX_CHUNK];
    loop {
        worker.step()?;
        let count = match retry_on_intr(|| read_some(&file, &mut buffer[..])) {
            Ok(0) => return Ok(FsAnswer::Done),
            Ok(count) => count,
            Err(Errno::AGAIN) => {
                worker.wait(file.as_fd(), PollFlags::IN)?;
                continue;
            }
            Err(errno) => return Err(at(errno)),
        };
        let data = Bytes::copy_from_slice(buffer.get(..count).unwrap_or_default());
        worker.answer(FsAnswer::Part(FsPart::Data(data)))?;
    }
}

/// Writes what comes.
pub(super) fn write(worker: &mut Worker, path: &Path, mode: u32) -> Result<FsAnswer> {
    let at = |errno| fail(errno, path);
    let flags = FLAGS | OFlags::WRONLY | OFlags::CREATE | OFlags::TRUNC;
    let mode = Mode::from_raw_mode(mode & 0o777);
    let file = retry_on_intr(|| openat(CWD, path, flags, mode)).map_err(at)?;
    worker.answer(FsAnswer::Opened)?;
    while let Some(part) = worker.next()? {
        let FsPart::Data(data) = part else {
            return Err(FsFailure::new(
                FsFailureKind::BadTree,
                "what is written to one file is data and nothing else",
            ));
        };
        let mut rest = &data[..];
        while !rest.is_empty() {
            worker.step()?;
            match retry_on_intr(|| write_some(&file, rest)) {
                Ok(0) => return Err(at(Errno::IO)),
                Ok(count) => rest = rest.get(count..).unwrap_or_default(),
                Err(Errno::AGAIN) => worker.wait(file.as_fd(), PollFlags::OUT)?,
                Err(errno) => return Err(at(errno)),
            }
        }
    }
    Ok(FsAnswer::Done)
}
