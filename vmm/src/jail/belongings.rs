//! What a process was given by whoever started it, and does not need: descriptors and an environment.
//!
//! Both go before anything else is opened or read. So from then on every descriptor is one of the machine's,
//! and nobody can forget to close one.
#![allow(unsafe_code)]

use std::io;
use std::os::fd::RawFd;

use rustix::process::{Resource, getrlimit};

/// More descriptors than any process has that starts a VMM.
const MANY: u32 = 1 << 20;

/// Standard input, output and error stay.
const FIRST: u32 = 3;

unsafe extern "C" {
    /// The environment, as the C library keeps it.
    static mut environ: *mut *mut libc::c_char;
}

/// Closes all descriptors but the standard ones and `keep`. Call it before anything is opened.
pub(super) fn close_descriptors(keep: Option<RawFd>) -> io::Result<()> {
    let keep = keep.and_then(|keep| u32::try_from(keep).ok());
    match keep.filter(|keep| *keep >= FIRST) {
        Some(keep) => {
            if keep > FIRST {
                close_range(FIRST, keep - 1)?;
            }
            close_range(keep + 1, u32::MAX)
        }
        None => close_range(FIRST, u32::MAX),
    }
}

/// Closes all descriptors from `first` to `last`. Nothing of this process may use one of them any more.
pub(crate) fn close_range(first: u32, last: u32) -> io::Result<()> {
    // SAFETY: nobody uses a descriptor in the range: the caller sees to it.
    let result = unsafe { libc::syscall(libc::SYS_close_range, first, last, 0) };
    match result {
        0 => Ok(()),
        _ => match io::Error::last_os_error() {
            error if error.raw_os_error() == Some(libc::ENOSYS) => {
                close_each(first, last);
                Ok(())
            }
            error => Err(error),
        },
    }
}

/// The same one by one, before Linux 5.9. There are no numbers beyond the limit, unless it was lowered.
fn close_each(first: u32, last: u32) {
    let limit = getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX);
    let end = u32::try_from(limit).unwrap_or(u32::MAX).min(MANY);
    for fd in (first..=last).take_while(|fd| *fd < end) {
        // SAFETY: as above; what is not open is refused.
        unsafe { libc::close(fd.cast_signed()) };
    }
}

/// Empties the environment, and overwrites what it was. Call it while there is one thread.
pub(super) fn clear_environment() -> io::Result<()> {
    // SAFETY: there is one thread, so nobody changes it meanwhile.
    let mut entry = unsafe { environ };
    while !entry.is_null() {
        // SAFETY: the list ends with a null pointer, which was not reached yet.
        let text = unsafe { *entry };
        if text.is_null() {
            break;
        }
        // SAFETY: each entry is a string that ends with a zero.
        let len = unsafe { libc::strlen(text) };
        // SAFETY: these bytes are this process's own, and nobody reads them any more.
        unsafe { text.cast::<u8>().write_bytes(0, len) };
        // SAFETY: one further in a list whose end was not reached.
        entry = unsafe { entry.add(1) };
    }
    // SAFETY: there is one thread.
    match unsafe { libc::clearenv() } {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

/// Has all threads allocate from one heap. The C library would give each its own, count processors for that
/// by reading files, and reserve 64 MiB of addresses for each.
pub(super) fn one_heap() {
    // SAFETY: it sets a number, while there is one thread. A library that does not know it says so.
    #[cfg(target_env = "gnu")]
    unsafe {
        libc::mallopt(libc::M_ARENA_MAX, 1);
    }
}

#[cfg(test)]
mod tests {
    use std::os::fd::AsRawFd;

    use super::*;

    #[test]
    fn descriptors_of_a_range_are_closed() {
        let dir = tempfile::tempdir().unwrap();
        let file = std::fs::File::create(dir.path().join("file")).unwrap();
        // Far from what other tests have open meanwhile.
        let duplicate = |at: i32| {
            let high = rustix::io::fcntl_dupfd_cloexec(&file, at).unwrap();
            std::mem::forget(high);
            at.unsigned_abs()
        };
        let is_open = |fd: u32| {
            // SAFETY: it asks for flags and changes nothing.
            unsafe { libc::fcntl(fd.cast_signed(), libc::F_GETFD) != -1 }
        };
        let close: [fn(u32, u32); 2] =
            [|first, last| close_range(first, last).unwrap(), close_each];
        for close in close {
            let [low, middle, high] = [900, 901, 902].map(duplicate);
            close(middle, middle);
            assert!(is_open(low) && !is_open(middle) && is_open(high));
            close(low, high);
            assert!(!is_open(low) && !is_open(high));
        }
        assert!(is_open(file.as_raw_fd().unsigned_abs()));
    }
}
