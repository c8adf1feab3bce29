//! Room on the disk.

use std::path::Path;

use super::Store;
use super::error::{AtPath, StoreError};

/// What is left free whatever is stored, in bytes: a disk filled to the last byte takes other programs down,
/// and our own records need a few.
const RESERVE: u64 = 16 << 20;

/// Checks that so many bytes can be written where `path` is, which must exist.
pub(super) fn check(path: &Path, bytes: u64) -> Result<(), StoreError> {
    let disk = rustix::fs::statvfs(path).at(path)?;
    let free = disk.f_bavail.saturating_mul(disk.f_frsize);
    match bytes.saturating_add(RESERVE).checked_sub(free) {
        None | Some(0) => Ok(()),
        Some(missing) => Err(StoreError::SpaceMissing {
            path: path.to_path_buf(),
            missing,
        }),
    }
}

impl Store {
    /// Checks that so many bytes can be stored.
    ///
    /// # Errors
    ///
    /// [`SpaceMissing`](StoreError::SpaceMissing) when there is no room for them.
    pub fn check_room(&self, bytes: u64) -> Result<(), StoreError> {
        check(&self.layout.tmp(), bytes)
    }
}

/// Bytes that a directory of work takes on the disk. What cannot be looked at counts nothing.
pub(super) fn of_dir(path: &Path) -> u64 {
    let entries = std::fs::read_dir(path).into_iter().flatten().flatten();
    entries
        .filter_map(|entry| {
            let found = entry.metadata().ok()?;
            Some(match found.is_dir() {
                true => of_dir(&entry.path()),
                false => on_disk(&found),
            })
        })
        .sum()
}

/// Bytes that a file takes on the disk.
pub(super) fn on_disk(found: &std::fs::Metadata) -> u64 {
    std::os::unix::fs::MetadataExt::blocks(found).saturating_mul(512)
}
