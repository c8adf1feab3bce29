//! The few things that are done to files and directories of snapshots.
//!
//! What is below a snapshot's directory is reached from the open directory, one name at a time and through
//! no link, so that nobody who can write there leads us elsewhere.

use std::fs::{self, File};
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use rustix::fs::{AtFlags, CWD, Mode, OFlags, RenameFlags, openat, renameat_with, unlinkat};
use rustix::io::Errno;

use super::manifest::{DEFAULT_UPPER_FILE, MANIFEST_FILENAME};

/// What directories are called that are being filled or emptied.
pub(super) const STAGING: &str = ".msb-snapshot-";

/// The directory of the patch layer, and its files.
pub(super) const PATCH: &str = "patch";
pub(super) const PATCH_FILES: [&str; 2] = ["index", "data"];

/// Deletes the files that a snapshot has, and the directory if it is empty then.
pub(super) fn delete(path: &Path) -> io::Result<()> {
    let dir = match directory(path, OFlags::NOFOLLOW) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        dir => dir?,
    };
    for name in [MANIFEST_FILENAME, DEFAULT_UPPER_FILE] {
        gone(unlinkat(&dir, name, AtFlags::empty()))?;
    }
    let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::DIRECTORY | OFlags::NOFOLLOW;
    // If it is a link, what it leads to is not ours.
    if let Ok(patch) = openat(&dir, PATCH, flags, Mode::empty()) {
        for name in PATCH_FILES {
            gone(unlinkat(&patch, name, AtFlags::empty()))?;
        }
        gone(unlinkat(&dir, PATCH, AtFlags::REMOVEDIR))?;
    }
    gone(unlinkat(CWD, path, AtFlags::REMOVEDIR))
}

fn gone(removed: rustix::io::Result<()>) -> io::Result<()> {
    match removed {
        Err(Errno::NOENT | Errno::NOTDIR) | Ok(()) => Ok(()),
        Err(error) => Err(error.into()),
    }
}

/// A regular file below an open directory, for reading; nothing that is a link is followed, and
/// opening a pipe waits for nobody.
pub(super) fn file_in(dir: &File, name: &str) -> io::Result<File> {
    let mut at = dir.try_clone()?;
    let mut names = name.split('/').peekable();
    while let Some(name) = names.next() {
        let last = names.peek().is_none();
        let kind = match last {
            true => OFlags::NONBLOCK,
            false => OFlags::DIRECTORY,
        };
        let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NOFOLLOW | kind;
        at = File::from(openat(&at, name, flags, Mode::empty())?);
    }
    match at.metadata()?.is_file() {
        true => Ok(at),
        false => Err(io::Error::new(
            io::ErrorKind::InvalidData,
            format!("{name} is no regular file"),
        )),
    }
}

pub(super) fn directory(path: &Path, follow: OFlags) -> io::Result<File> {
    let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::DIRECTORY | follow;
    Ok(File::from(openat(CWD, path, flags, Mode::empty())?))
}

/// Whether this open directory is what is at this path.
pub(super) fn is_there(dir: &File, path: &Path) -> bool {
    match (dir.metadata(), fs::symlink_metadata(path)) {
        (Ok(ours), Ok(there)) => ours.ino() == there.ino() && ours.dev() == there.dev(),
        _ => false,
    }
}

/// Renames to a name that is free.
pub(super) fn rename_new(from: &Path, to: &Path) -> io::Result<()> {
    match renameat_with(CWD, from, CWD, to, RenameFlags::NOREPLACE) {
        Err(Errno::INVAL | Errno::NOSYS) => match fs::symlink_metadata(to) {
            // A plain rename replaces nothing but an empty directory.
            Err(error) if error.kind() == io::ErrorKind::NotFound => fs::rename(from, to),
            Ok(_) => Err(io::ErrorKind::AlreadyExists.into()),
            Err(error) => Err(error),
        },
        renamed => Ok(renamed?),
    }
}

pub(super) fn parent(path: &Path) -> &Path {
    match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    }
}

pub(super) fn sync(dir: &Path) -> io::Result<()> {
    File::open(dir)?.sync_all()
}
