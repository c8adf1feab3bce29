//! What a process was given by whoever started it, and does not need: descriptors and an environment.
//!
//! Both go before anything else is opened or read. So from then on every descriptor is one of the machine's,
//! and nobody can forget to close one.
#![allow(unsafe_code)]

use std::io;
use std::os::fd::RawFd;

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

fn close_range(first: u32, last: u32) -> io::Result<()> {
    // SAFETY: nothing of this process has a descriptor in the range: the caller sees to it.
    let result = unsafe { libc::syscall(libc::SYS_close_range, first, last, 0) };
    match result {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
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
