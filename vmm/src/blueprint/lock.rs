//! Locking disks, so that two machines never write to one.
//!
//! The lock belongs to the open file, not to the process: it goes with the descriptor from a
//! supervisor to the VMM, and ends when the last duplicate is closed, however that process ended.
#![allow(unsafe_code)]

use std::fs::File;
use std::io;
use std::os::fd::AsRawFd;

use super::BlueprintError;

/// Locks the whole file: shared with other readers, or exclusively. Does not wait.
pub(super) fn lock(file: &File, shared: bool) -> io::Result<()> {
    let kind = if shared { libc::F_RDLCK } else { libc::F_WRLCK };
    let lock = libc::flock {
        l_type: i16::try_from(kind).map_err(io::Error::other)?,
        l_whence: i16::try_from(libc::SEEK_SET).map_err(io::Error::other)?,
        // From the start, to wherever the end will be.
        l_start: 0,
        l_len: 0,
        // Must be zero for this kind of lock.
        l_pid: 0,
    };
    // SAFETY: the descriptor is open while `file` is borrowed, and the kernel only reads `lock`.
    let result = unsafe { libc::fcntl(file.as_raw_fd(), libc::F_OFD_SETLK, &raw const lock) };
    if result == 0 {
        Ok(())
    } else {
        Err(io::Error::last_os_error())
    }
}

/// Says why a disk could not be locked.
pub(super) fn explain(error: io::Error, name: &str) -> BlueprintError {
    let name = name.to_owned();
    match error.raw_os_error() {
        Some(libc::EAGAIN | libc::EACCES) => BlueprintError::DiskInUse { name },
        _ => BlueprintError::DiskLock {
            name,
            source: error,
        },
    }
}
