//! Files and directories of the host, copied.
//!
//! The walk holds one open directory for each level and goes down by single steps without following links, so
//! whoever renames directories or puts links in their place meanwhile makes it fail, and never leads it elsewhere.
//!
//! Owners become root, and set-user-id and set-group-id are left out: in the guest they would be root's. What is
//! neither file, directory nor symbolic link is left out as well; a name of a hard link is a file of its own.

use std::ffi::{CStr, CString, OsStr};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use rustix::fs::{
    AtFlags, CWD, Dir, FileType, Mode, OFlags, Stat, fstat, openat, readlinkat, statat,
};
use rustix::io::{Errno, read, retry_on_intr};

use super::{COPY, PatchError, Patcher, Result, Spot, Writing, mode_of};
use crate::node::{Attributes, Kind, MAX_TARGET};
use crate::shown::shown;
use crate::tree::Last;

/// Reading, without waiting for whoever has the other end of a pipe.
const READ: OFlags = OFlags::RDONLY
    .union(OFlags::NONBLOCK)
    .union(OFlags::CLOEXEC)
    .union(OFlags::NOCTTY);

/// The most bytes of a file that says that it has none. Those of /proc do.
const MAX_UNSIZED: u64 = 16 << 20;

/// A directory that is being copied.
struct Level {
    directory: OwnedFd,
    stat: Stat,
    /// What is still to be copied, the next one last.
    names: Vec<CString>,
    /// Where it is on the host, and where it goes in the guest.
    host: PathBuf,
    guest: Vec<u8>,
}

impl<B: AsFd> Patcher<'_, B> {
    pub(super) fn copy_file(
        &mut self,
        src: &Path,
        dst: &str,
        mode: Option<u32>,
        replace: bool,
    ) -> Result<()> {
        let spot = self.free(dst, replace)?;
        let (file, stat) = open(src, FileType::RegularFile, "regular file")?;
        let mut attributes = attributes(&stat);
        attributes.mode = mode_of(mode, attributes.mode)?;
        let content = self.write(|writing| fill(writing, file, &stat, src))?;
        self.put(&spot, attributes, Kind::File(content))
    }

    pub(super) fn copy_directory(&mut self, src: &Path, dst: &str, replace: bool) -> Result<()> {
        let spot = self.spot(dst, Last::Follow)?;
        let (directory, stat) = open(src, FileType::Directory, "directory")?;
        match spot.id {
            Some(id) if !self.tree.inode(id).is_directory() => {
                return Err(PatchError::NotADirectory(dst.into()));
            }
            Some(_) if !replace => return Err(PatchError::Exists(dst.into())),
            Some(_) => {}
            None if self.spot(dst, Last::Keep)?.id.is_some() => {
                return Err(PatchError::NotADirectory(dst.into()));
            }
            None => self.put(&spot, attributes(&stat), Kind::Directory)?,
        }
        let mut levels = vec![self.enter(directory, stat, src.to_owned(), spot.path)?];
        while let Some(level) = levels.last_mut() {
            let Some(name) = level.names.pop() else {
                level.end()?;
                levels.pop();
                continue;
            };
            if let Some(lower) = self.step(level, &name)? {
                levels.push(lower);
            }
        }
        Ok(())
    }

    /// Copies what has this name. A directory is returned, with its contents still to be copied.
    fn step(&mut self, level: &Level, name: &CStr) -> Result<Option<Level>> {
        let host = level.host.join(OsStr::from_bytes(name.to_bytes()));
        let gone = |errno| host_error(&host, errno);
        let seen = statat(&level.directory, name, AtFlags::SYMLINK_NOFOLLOW).map_err(gone)?;
        let guest = match &*level.guest {
            b"" => name.to_bytes().to_vec(),
            above => [above, name.to_bytes()].join(&b'/'),
        };
        match FileType::from_raw_mode(seen.st_mode) {
            FileType::Directory => {
                let flags = READ | OFlags::DIRECTORY | OFlags::NOFOLLOW;
                let directory = openat(&level.directory, name, flags, Mode::empty());
                let directory = directory.map_err(gone)?;
                let stat = same(&directory, &seen, &host)?;
                let path = self.lower_directory(&guest, &stat)?;
                self.enter(directory, stat, host, path).map(Some)
            }
            FileType::RegularFile => {
                let flags = READ | OFlags::NOFOLLOW;
                let file = openat(&level.directory, name, flags, Mode::empty()).map_err(gone)?;
                let stat = same(&file, &seen, &host)?;
                let spot = self.beside(&guest)?;
                let content = self.write(|writing| fill(writing, file, &stat, &host))?;
                self.put(&spot, attributes(&stat), Kind::File(content))?;
                Ok(None)
            }
            FileType::Symlink => {
                let target = readlinkat(&level.directory, name, Vec::new()).map_err(gone)?;
                let target = target.into_bytes();
                if !(1..=MAX_TARGET).contains(&target.len()) {
                    return Err(PatchError::HostChanged(host));
                }
                let spot = self.beside(&guest)?;
                let mut attributes = attributes(&seen);
                attributes.mode = 0o777;
                self.put(&spot, attributes, Kind::Symlink(target))?;
                Ok(None)
            }
            _ => Ok(None),
        }
    }

    /// The directory of the guest that one of the host goes to, made unless it is there.
    fn lower_directory(&mut self, guest: &[u8], stat: &Stat) -> Result<Vec<u8>> {
        let text = String::from_utf8_lossy(guest).into_owned();
        let spot = self.spot_of(guest, &text, Last::Follow)?;
        let kept = self.spot_of(guest, &text, Last::Keep)?;
        match (spot.id, kept.id) {
            (Some(id), _) if self.tree.inode(id).is_directory() => {}
            (None, None) => self.put(&spot, attributes(stat), Kind::Directory)?,
            _ => return Err(PatchError::NotADirectory(shown(guest))),
        }
        Ok(spot.path)
    }

    /// Where a file or link goes, in a directory that is there: in place of whatever is no directory.
    fn beside(&self, guest: &[u8]) -> Result<Spot> {
        let text = String::from_utf8_lossy(guest);
        let spot = self.spot_of(guest, &text, Last::Keep)?;
        match spot.id {
            Some(id) if self.tree.inode(id).is_directory() => {
                Err(PatchError::IsADirectory(shown(guest)))
            }
            _ => Ok(spot),
        }
    }

    /// Lists a directory.
    fn enter(
        &self,
        directory: OwnedFd,
        stat: Stat,
        host: PathBuf,
        guest: Vec<u8>,
    ) -> Result<Level> {
        let failed = |errno| host_error(&host, errno);
        let mut names = Vec::new();
        for entry in Dir::read_from(&directory).map_err(failed)? {
            let name = entry.map_err(failed)?.file_name().to_owned();
            if matches!(name.to_bytes(), b"." | b"..") {
                continue;
            }
            names.push(name);
            if names.len() as u64 > self.limits.layer_entries {
                let limit = self.limits.layer_entries;
                return Err(crate::tree::TreeError::TooManyEntries(limit).into());
            }
        }
        names.sort_unstable_by(|one, two| two.cmp(one));
        Ok(Level {
            directory,
            stat,
            names,
            host,
            guest,
        })
    }
}

impl Level {
    /// Whether it is still the directory that was listed.
    fn end(&self) -> Result<()> {
        let stat = fstat(&self.directory).map_err(|errno| host_error(&self.host, errno))?;
        match unchanged(&stat, &self.stat) {
            true => Ok(()),
            false => Err(PatchError::HostChanged(self.host.clone())),
        }
    }
}

/// Opens what a patch names, links followed.
fn open(path: &Path, kind: FileType, wanted: &'static str) -> Result<(OwnedFd, Stat)> {
    let failed = |errno: Errno| PatchError::Host {
        path: path.to_owned(),
        source: errno.into(),
    };
    // Before it is opened: opening a device may be more than looking at it.
    let seen = statat(CWD, path, AtFlags::empty()).map_err(failed)?;
    if FileType::from_raw_mode(seen.st_mode) != kind {
        return Err(PatchError::HostKind {
            path: path.to_owned(),
            wanted,
        });
    }
    let opened = retry_on_intr(|| openat(CWD, path, READ, Mode::empty())).map_err(failed)?;
    let stat = same(&opened, &seen, path)?;
    Ok((opened, stat))
}

/// Whether what was opened is what was seen before.
fn same(opened: &OwnedFd, seen: &Stat, path: &Path) -> Result<Stat> {
    let stat = fstat(opened).map_err(|errno| host_error(path, errno))?;
    let kind = |stat: &Stat| FileType::from_raw_mode(stat.st_mode);
    let same =
        stat.st_dev == seen.st_dev && stat.st_ino == seen.st_ino && kind(&stat) == kind(seen);
    match same {
        true => Ok(stat),
        false => Err(PatchError::HostChanged(path.to_owned())),
    }
}

fn unchanged(one: &Stat, two: &Stat) -> bool {
    let times = |stat: &Stat| {
        (
            (stat.st_mtime, stat.st_mtime_nsec),
            (stat.st_ctime, stat.st_ctime_nsec),
        )
    };
    one.st_size == two.st_size && times(one) == times(two)
}

/// Copies a file's content, which must not change meanwhile.
fn fill(writing: &mut Writing<'_, '_>, file: OwnedFd, before: &Stat, path: &Path) -> Result<()> {
    let failed = |errno| host_error(path, errno);
    // A file that grows may do so for as long as it is read: it may even be the one that is written.
    let most = u64::try_from(before.st_size).unwrap_or(0);
    let most = if most == 0 { MAX_UNSIZED } else { most };
    let mut buffer = vec![0; COPY];
    let mut size = 0;
    while size <= most {
        let length = retry_on_intr(|| read(&file, &mut *buffer)).map_err(failed)?;
        let Some(bytes) = buffer.get(..length).filter(|bytes| !bytes.is_empty()) else {
            break;
        };
        writing.add(bytes)?;
        size += bytes.len() as u64;
    }
    let after = fstat(&file).map_err(failed)?;
    let whole = size <= most && (after.st_size == 0 || u64::try_from(after.st_size) == Ok(size));
    match whole && unchanged(before, &after) {
        true => Ok(()),
        false => Err(PatchError::HostChanged(path.to_owned())),
    }
}

fn attributes(stat: &Stat) -> Attributes {
    // Nine bits and one more are left by the mask.
    #[allow(clippy::cast_possible_truncation)]
    let mode = (stat.st_mode & 0o1777) as u16;
    Attributes {
        mode,
        mtime: stat.st_mtime,
        mtime_nsec: u32::try_from(stat.st_mtime_nsec).unwrap_or(0),
        ..Attributes::default()
    }
}

/// What was there a moment ago: if it is gone, or is something else, somebody changes the tree.
fn host_error(path: &Path, errno: Errno) -> PatchError {
    match errno {
        Errno::NOENT | Errno::LOOP | Errno::NOTDIR | Errno::STALE => {
            PatchError::HostChanged(path.to_owned())
        }
        _ => PatchError::Host {
            path: path.to_owned(),
            source: errno.into(),
        },
    }
}
