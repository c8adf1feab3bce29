//! Signals by number: real-time ones too, which safe wrappers leave out.

#![expect(unsafe_code, reason = "signal calls of libc have no safe wrapper")]

use std::io;
use std::mem::MaybeUninit;

/// The signal that the kernel's power button handler sends to PID 1
/// (`CONFIG_ACPI_TINY_POWER_BUTTON_SIGNAL`), where it is configured so.
pub(crate) const POWER_BUTTON: i32 = 38;

/// What tells systemd to turn the machine off: `SIGRTMIN+4`, by the C library's count.
pub(crate) const POWER_OFF_SYSTEMD: i32 = 38;

/// The highest signal number of the kernel (`_NSIG`).
pub(crate) const LAST: i32 = 64;

/// Signals that the agent itself handles or ignores. `execve` keeps ignored signals
/// ignored, and a handler of ours must not run in a child: commands get these back.
const OURS: [i32; 6] = [
    libc::SIGPIPE,
    libc::SIGCHLD,
    libc::SIGTERM,
    libc::SIGINT,
    libc::SIGUSR2,
    POWER_BUTTON,
];

/// Sends `signal` to `target`, a process or (negative) a process group or (-1) everyone.
pub(crate) fn kill(target: i32, signal: i32) -> io::Result<()> {
    if !(1..=LAST).contains(&signal) {
        return Err(io::Error::from(io::ErrorKind::InvalidInput));
    }
    // SAFETY: kill(2) takes two numbers and touches no memory of ours.
    match unsafe { libc::kill(target, signal) } {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

/// Writing to a closed pipe is to be an error, not a signal.
pub(crate) fn ignore_broken_pipes() {
    // SAFETY: ignoring a signal installs no code.
    unsafe { libc::signal(libc::SIGPIPE, libc::SIG_IGN) };
}

/// Every signal held back for as long as this lives: around `fork`, so that no handler
/// of the agent runs in the child.
#[derive(Debug)]
pub(super) struct Blocked {
    previous: libc::sigset_t,
}

impl Blocked {
    pub(super) fn all() -> Self {
        let mut every = MaybeUninit::<libc::sigset_t>::uninit();
        let mut previous = MaybeUninit::<libc::sigset_t>::uninit();
        // SAFETY: sigfillset writes a whole set to the pointer it is given.
        unsafe { libc::sigfillset(every.as_mut_ptr()) };
        // SAFETY: the first set was filled above, the second is written by the call.
        unsafe { libc::sigprocmask(libc::SIG_SETMASK, every.as_ptr(), previous.as_mut_ptr()) };
        Self {
            // SAFETY: sigprocmask fails only for an unknown first argument, so it wrote this.
            previous: unsafe { previous.assume_init() },
        }
    }
}

impl Drop for Blocked {
    fn drop(&mut self) {
        // SAFETY: `previous` is a set that the kernel gave us.
        unsafe { libc::sigprocmask(libc::SIG_SETMASK, &self.previous, std::ptr::null_mut()) };
    }
}

/// In a forked child: what a command expects to begin with. Async-signal-safe.
pub(super) fn restore_defaults() {
    for signal in OURS {
        // SAFETY: the default disposition installs no code.
        unsafe { libc::signal(signal, libc::SIG_DFL) };
    }
    let mut none = MaybeUninit::<libc::sigset_t>::uninit();
    // SAFETY: sigemptyset writes a whole set to the pointer it is given.
    unsafe { libc::sigemptyset(none.as_mut_ptr()) };
    // SAFETY: the set was emptied above; a null third argument asks for nothing back.
    unsafe { libc::sigprocmask(libc::SIG_SETMASK, none.as_ptr(), std::ptr::null_mut()) };
}
