//! Writing what survives: whole or not at all, whenever the program or the machine stops.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use rustix::fs::{Mode, OFlags};

use super::error::{AtPath, StoreError};

/// A new file that only this user can read, in a directory of work.
pub(super) fn create(path: &Path) -> Result<File, StoreError> {
    OpenOptions::new()
        .read(true)
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(path)
        .at(path)
}

/// Gives a synced file, or a directory of synced files, its own name. What has the name already is replaced
/// if it is a file.
pub(super) fn rename(from: &Path, to: &Path) -> Result<(), StoreError> {
    fs::rename(from, to).at(to)?;
    sync_dir(to.parent().unwrap_or(Path::new("/")))
}

/// Writes a new file in a directory of work.
pub(super) fn write_new(path: &Path, bytes: &[u8]) -> Result<File, StoreError> {
    let mut file = create(path)?;
    file.write_all(bytes)
        .and_then(|()| file.sync_all())
        .at(path)?;
    Ok(file)
}

/// Writes a file as a whole, by way of `scratch`, a free name in a directory of work.
pub(super) fn write(scratch: &Path, target: &Path, bytes: &[u8]) -> Result<(), StoreError> {
    write_new(scratch, bytes)?;
    rename(scratch, target)
}

/// Opens what was stored to read it. A link in its place is not followed.
pub(super) fn open(path: &Path) -> Result<File, StoreError> {
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC | OFlags::NONBLOCK;
    let file = File::from(rustix::fs::open(path, flags, Mode::empty()).at(path)?);
    match file.metadata().at(path)?.is_file() {
        true => Ok(file),
        false => Err(StoreError::io(
            path,
            io::Error::new(io::ErrorKind::InvalidData, "it is no regular file"),
        )),
    }
}

/// Makes what was renamed in a directory, and removed from it, last.
pub(super) fn sync_dir(path: &Path) -> Result<(), StoreError> {
    File::open(path).and_then(|dir| dir.sync_all()).at(path)
}

/// Removes a file that may be gone. Whether it was there.
pub(super) fn remove_file(path: &Path) -> Result<bool, StoreError> {
    gone(fs::remove_file(path)).at(path)
}

/// Removes a directory that may be gone. Whether it was there.
pub(super) fn remove_dir(path: &Path) -> Result<bool, StoreError> {
    gone(fs::remove_dir_all(path)).at(path)
}

fn gone(removed: io::Result<()>) -> io::Result<bool> {
    match removed {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(error) => Err(error),
    }
}

/// `None` for what is not there.
pub(super) fn found<T>(result: io::Result<T>) -> io::Result<Option<T>> {
    match result {
        Ok(found) => Ok(Some(found)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}
