//! What is in a directory, batch by batch, however much it is.

use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use bytes::Bytes;
use msb_files::{Result, fail};
use msb_protocol::{FsAnswer, FsListed, MAX_LISTED_BATCH};
use rustix::fs::{AtFlags, CWD, Dir, Mode, OFlags, openat};
use rustix::io::{Errno, retry_on_intr};

use super::attributes;
use super::worker::Worker;

/// Gives out all entries, in the directory's own order.
pub(super) fn list(worker: &Worker, path: &Path) -> Result<FsAnswer> {
    let at = |errno| fail(errno, path);
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let opened = retry_on_intr(|| openat(CWD, path, flags, Mode::empty()));
    let mut directory = opened.and_then(Dir::new).map_err(at)?;
    let (mut batch, mut cost) = (Vec::new(), 0);
    while let Some(entry) = directory.read() {
        let entry = entry.map_err(at)?;
        let name = entry.file_name();
        if name == c"." || name == c".." {
            continue;
        }
        worker.step()?;
        let of = directory.fd().map_err(at)?;
        let stat = match attributes::look(of, name, AtFlags::SYMLINK_NOFOLLOW) {
            // It was removed since its name was read.
            Err(Errno::NOENT) => continue,
            looked => {
                let name = Path::new(std::ffi::OsStr::from_bytes(name.to_bytes()));
                looked.map_err(|errno| fail(errno, &path.join(name)))?
            }
        };
        let listed = FsListed {
            name: Bytes::copy_from_slice(name.to_bytes()),
            stat,
        };
        if cost + listed.cost() > MAX_LISTED_BATCH {
            worker.answer(FsAnswer::Entries(std::mem::take(&mut batch)))?;
            cost = 0;
        }
        cost += listed.cost();
        batch.push(listed);
    }
    if !batch.is_empty() {
        worker.answer(FsAnswer::Entries(batch))?;
    }
    Ok(FsAnswer::Done)
}
