//! The few system calls that have no safe wrapper in the crates we use.
#![expect(
    unsafe_code,
    reason = "raw system calls and what runs between fork and exec"
)]

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::process::CommandExt;
use std::process::Command;

use rustix::io::FdFlags;
use rustix::process::Signal;

/// Makes the child that `command` will start die with the thread that starts it, whatever kills
/// that, and live in a process group of its own, out of reach of the terminal's Ctrl-C. The child
/// also inherits `keep`, under the same numbers.
pub(crate) fn bind_child(command: &mut Command, keep: Vec<OwnedFd>) {
    let parent = rustix::process::getpid();
    command.process_group(0);
    let prepare = move || {
        rustix::process::set_parent_process_death_signal(Some(Signal::KILL))?;
        // The parent may have died before the line above took effect.
        if rustix::process::getppid() != Some(parent) {
            return Err(io::ErrorKind::Interrupted.into());
        }
        for fd in &keep {
            rustix::io::fcntl_setfd(fd, FdFlags::empty())?;
        }
        Ok(())
    };
    // SAFETY: between fork and exec the closure only makes system calls (prctl, getppid, fcntl); it
    // neither allocates nor locks.
    unsafe { command.pre_exec(prepare) };
}

/// Lets a closed output end us, as it ends other commands, instead of failing a write.
pub(crate) fn die_of_closed_output() {
    // SAFETY: the default action is no handler of ours, so nothing runs in signal context.
    unsafe { libc::signal(libc::SIGPIPE, libc::SIG_DFL) };
}

/// Sends SIGKILL to every process that we may signal, except ourselves. For PID 1 of a machine.
pub(crate) fn kill_all() {
    // SAFETY: kill has no memory effects; -1 means "all but the caller and PID 1".
    unsafe { libc::kill(-1, libc::SIGKILL) };
}

/// Gives the terminal's foreground to a process group; works from the background too.
pub(crate) fn set_foreground(
    terminal: BorrowedFd<'_>,
    group: rustix::process::Pid,
) -> io::Result<()> {
    let mut block = std::mem::MaybeUninit::<libc::sigset_t>::uninit();
    let mut before = std::mem::MaybeUninit::<libc::sigset_t>::uninit();
    // SAFETY: sigemptyset initializes the set that it is given.
    unsafe { libc::sigemptyset(block.as_mut_ptr()) };
    // SAFETY: the set was initialized above.
    unsafe { libc::sigaddset(block.as_mut_ptr(), libc::SIGTTOU) };
    // SAFETY: both pointers are valid for the call.
    unsafe { libc::pthread_sigmask(libc::SIG_BLOCK, block.as_ptr(), before.as_mut_ptr()) };
    let result = rustix::termios::tcsetpgrp(terminal.as_fd(), group);
    // SAFETY: `before` was filled in by the call above.
    unsafe { libc::pthread_sigmask(libc::SIG_SETMASK, before.as_ptr(), std::ptr::null_mut()) };
    Ok(result?)
}

/// The version of the Landlock ABI that the kernel has, or why it has none.
pub(crate) fn landlock_abi() -> io::Result<i64> {
    const LANDLOCK_CREATE_RULESET_VERSION: u32 = 1;
    let nothing = std::ptr::null::<libc::c_void>();
    // SAFETY: with the version flag the kernel takes a null pointer and size 0, and makes nothing.
    let abi = unsafe {
        libc::syscall(
            libc::SYS_landlock_create_ruleset,
            nothing,
            0_usize,
            LANDLOCK_CREATE_RULESET_VERSION,
        )
    };
    if abi < 0 {
        Err(io::Error::last_os_error())
    } else {
        Ok(abi)
    }
}
