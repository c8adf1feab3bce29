//! SIGTERM, SIGINT and SIGHUP as something that an event loop can wait for.
#![allow(unsafe_code)]

use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::sync::atomic::{AtomicI32, Ordering};

use rustix::event::{EventfdFlags, eventfd};
use vmm_sys_util::signal::register_signal_handler;

/// The eventfd that the handler writes to; it is never closed once it is here.
static EVENT: AtomicI32 = AtomicI32::new(-1);

extern "C" fn on_signal(_: libc::c_int, _: *mut libc::siginfo_t, _: *mut libc::c_void) {
    let fd = EVENT.load(Ordering::Relaxed);
    let one = 1u64.to_ne_bytes();
    // SAFETY: write(2) may be called from a signal handler; it reads eight bytes that are there. A
    // failure means that the counter is full, so that the signal is known already.
    let _ = unsafe { libc::write(fd, one.as_ptr().cast(), one.len()) };
}

/// From now on the signals that end a program make this descriptor readable instead. Call it once.
pub fn termination() -> io::Result<OwnedFd> {
    let event = eventfd(0, EventfdFlags::NONBLOCK | EventfdFlags::CLOEXEC)?;
    // The handler's own duplicate stays open for as long as the process lives.
    let kept = rustix::io::fcntl_dupfd_cloexec(&event, 3)?;
    EVENT.store(kept.as_raw_fd(), Ordering::Relaxed);
    std::mem::forget(kept);
    for signal in [libc::SIGTERM, libc::SIGINT, libc::SIGHUP] {
        register_signal_handler(signal, on_signal)
            .map_err(|error| io::Error::from_raw_os_error(error.errno()))?;
    }
    Ok(event)
}
