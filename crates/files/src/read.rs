//! A tree into parts.
//!
//! The walk holds one open directory for each level and goes down by single steps, so
//! whoever renames directories or puts links in their place while it goes on makes it fail
//! ([`ChangedUnderneath`](FsFailureKind::ChangedUnderneath)), and never leads it elsewhere. What
//! is removed before it is reached is as if it had never been there.
//!
//! Each name of a hard link is a file of its own. Sockets, pipes and devices are left out.

use std::ffi::{CStr, CString};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};

use bytes::Bytes;
use msb_protocol::{FsFailure, FsFailureKind, FsNode, FsPart, FsTime, FsTreeEntry, MAX_TREE_DEPTH};
use rustix::fs::{
    AtFlags, CWD, Dir, FileType, Mode, OFlags, Stat, fstat, openat, readlinkat, statat,
};
use rustix::io::{Errno, retry_on_intr};

use crate::Result;
use crate::content::read_content;
use crate::failure::{fail, too_deep};
use crate::step::{open_step, shown};

/// Reading, without waiting for whoever has the other end of a pipe.
const READ: OFlags = OFlags::RDONLY.union(OFlags::NONBLOCK);

/// Gives what is at `path`, a file or a directory with all in it, to `sink`, part by part. A
/// link at `path` itself is followed, those in the tree are copied.
pub fn export(path: &Path, sink: &mut dyn FnMut(FsPart) -> Result<()>) -> Result<()> {
    let at = |errno| fail(errno, path);
    // Before it is opened: opening a device may be more than looking at it.
    let seen = statat(CWD, path, AtFlags::empty()).map_err(at)?;
    let kind = FileType::from_raw_mode(seen.st_mode);
    if !matches!(kind, FileType::RegularFile | FileType::Directory) {
        return Err(FsFailure::new(
            FsFailureKind::NotSupported,
            format!(
                "{}: neither a file nor a directory; only these are copied",
                path.display()
            ),
        ));
    }
    let flags = READ | OFlags::CLOEXEC | OFlags::NOCTTY;
    let opened = retry_on_intr(|| openat(CWD, path, flags, Mode::empty())).map_err(at)?;
    let stat = fstat(&opened).map_err(at)?;
    if !same(&seen, &stat) {
        return Err(changed(path));
    }
    let mut walk = Walk {
        levels: Vec::new(),
        path: path.to_owned(),
        sink,
    };
    if kind == FileType::RegularFile {
        walk.file(c"", opened, &stat)
    } else {
        walk.enter(c"", opened, &stat)?;
        walk.run()
    }
}

struct Walk<'a> {
    levels: Vec<Dir>,
    /// Where the walk is, for messages.
    path: PathBuf,
    sink: &'a mut dyn FnMut(FsPart) -> Result<()>,
}

impl Walk<'_> {
    fn run(&mut self) -> Result<()> {
        while let Some(level) = self.levels.last_mut() {
            match level.read() {
                None => {
                    self.levels.pop();
                    (self.sink)(FsPart::Leave)?;
                    if !self.levels.is_empty() {
                        self.path.pop();
                    }
                }
                Some(Err(errno)) => return Err(fail(errno, &self.path)),
                Some(Ok(entry)) => {
                    let name = entry.file_name();
                    if name != c"." && name != c".." {
                        let name = name.to_owned();
                        self.below(&name)?;
                    }
                }
            }
        }
        Ok(())
    }

    /// Something in the directory that is open.
    fn below(&mut self, name: &CString) -> Result<()> {
        match self.look(name) {
            // It was removed since its name was read.
            Err(Some(Errno::NOENT)) => Ok(()),
            Err(Some(Errno::LOOP | Errno::NOTDIR | Errno::NXIO)) | Err(None) => {
                Err(changed(&self.path.join(shown(name))))
            }
            Err(Some(errno)) => Err(fail(errno, &self.path.join(shown(name)))),
            Ok(Found::Skipped) => Ok(()),
            Ok(Found::Link(target, stat)) => {
                let link = entry(name, FsNode::Symlink(target), &stat);
                (self.sink)(FsPart::Entry(link))
            }
            Ok(Found::File(file, stat)) => {
                self.path.push(shown(name));
                self.file(name, file, &stat)?;
                self.path.pop();
                Ok(())
            }
            Ok(Found::Directory(directory, stat)) => {
                self.path.push(shown(name));
                self.enter(name, directory, &stat)
            }
        }
    }

    /// Finds out what it is, and opens what has contents. `Err(None)`: it became another.
    fn look(&self, name: &CStr) -> std::result::Result<Found, Option<Errno>> {
        let directory = match self.levels.last() {
            Some(level) => level.fd()?,
            None => return Ok(Found::Skipped),
        };
        let seen = statat(directory, name, AtFlags::SYMLINK_NOFOLLOW)?;
        match FileType::from_raw_mode(seen.st_mode) {
            FileType::Symlink => {
                let target = target_of(directory, name)?;
                Ok(Found::Link(target, seen))
            }
            kind @ (FileType::RegularFile | FileType::Directory) => {
                let wanted = match kind {
                    FileType::Directory => READ | OFlags::DIRECTORY,
                    _ => READ,
                };
                let opened = open_step(directory, name, wanted, Mode::empty())?;
                let stat = fstat(&opened)?;
                match kind {
                    _ if !same(&seen, &stat) => Err(None),
                    FileType::Directory => Ok(Found::Directory(opened, stat)),
                    _ => Ok(Found::File(opened, stat)),
                }
            }
            _ => Ok(Found::Skipped),
        }
    }

    fn file(&mut self, name: &CStr, file: OwnedFd, stat: &Stat) -> Result<()> {
        (self.sink)(FsPart::Entry(entry(name, FsNode::File, stat)))?;
        read_content(file.as_fd(), &self.path, self.sink)
    }

    fn enter(&mut self, name: &CStr, directory: OwnedFd, stat: &Stat) -> Result<()> {
        if self.levels.len() >= MAX_TREE_DEPTH {
            return Err(too_deep(&self.path));
        }
        let level = Dir::new(directory).map_err(|errno| fail(errno, &self.path))?;
        self.levels.push(level);
        (self.sink)(FsPart::Entry(entry(name, FsNode::Directory, stat)))
    }
}

enum Found {
    Directory(OwnedFd, Stat),
    File(OwnedFd, Stat),
    Link(Bytes, Stat),
    Skipped,
}

/// What a link says. `Err(None)`: it is one no more.
fn target_of(directory: BorrowedFd<'_>, name: &CStr) -> std::result::Result<Bytes, Option<Errno>> {
    match readlinkat(directory, name, Vec::new()) {
        Ok(target) => Ok(Bytes::from(target.into_bytes())),
        Err(Errno::INVAL) => Err(None),
        Err(errno) => Err(Some(errno)),
    }
}

/// Whether what was opened is what was seen.
fn same(seen: &Stat, opened: &Stat) -> bool {
    let of = |stat: &Stat| {
        let kind = FileType::from_raw_mode(stat.st_mode);
        (stat.st_dev, stat.st_ino, kind)
    };
    of(seen) == of(opened)
}

fn changed(path: &Path) -> FsFailure {
    FsFailure::new(
        FsFailureKind::ChangedUnderneath,
        format!(
            "{}: it became something else while it was copied",
            path.display()
        ),
    )
}

fn entry(name: &CStr, node: FsNode, stat: &Stat) -> FsTreeEntry {
    let time = |seconds, nanos| FsTime {
        seconds,
        nanos: u32::try_from(nanos).unwrap_or(0),
    };
    FsTreeEntry {
        name: Bytes::copy_from_slice(name.to_bytes()),
        node,
        mode: stat.st_mode & 0o7777,
        accessed: time(stat.st_atime, stat.st_atime_nsec),
        modified: time(stat.st_mtime, stat.st_mtime_nsec),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

    use super::*;
    use std::fs;
    use std::os::unix::fs::symlink;

    #[test]
    fn what_was_a_link_a_moment_ago_has_become_another() {
        let place = tempfile::tempdir().unwrap();
        let at = |name: &str| place.path().join(name);
        symlink("where", at("link")).unwrap();
        fs::create_dir(at("directory")).unwrap();
        fs::write(at("file"), "").unwrap();
        let directory = fs::File::open(place.path()).unwrap();
        let target = |name| target_of(directory.as_fd(), name);
        assert_eq!(target(c"link"), Ok(Bytes::from_static(b"where")));
        assert_eq!(target(c"directory"), Err(None));
        assert_eq!(target(c"file"), Err(None));
        assert_eq!(target(c"nothing"), Err(Some(Errno::NOENT)));
    }
}
