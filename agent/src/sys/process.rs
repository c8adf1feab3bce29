//! Starting a command: `fork`, and what the child does until `execve`.
//!
//! Between the two only async-signal-safe calls may happen, so all that needs memory is
//! made ready before: a [`Command`] holds C strings, numbers and descriptors and nothing
//! else. If a step fails in the child it writes the step and the error number to a pipe
//! that a successful `execve` closes; end of file without a word means that the command
//! runs.

#![expect(unsafe_code, reason = "fork and execve have no safe wrapper")]

use std::ffi::{CStr, CString, c_char};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::{io, ptr};

use rustix::io::Errno;
use rustix::pipe::{PipeFlags, pipe_with};
use rustix::process::{Gid, Pid, Resource, Rlimit, Uid};

use super::restrict::restrict;
use super::signal::{self, Blocked};

/// Everything the child needs, made before it exists.
#[derive(Debug)]
pub(crate) struct Command {
    /// What to execute: the first of these that is there.
    pub(crate) candidates: Vec<CString>,
    /// `argv`, with the program's name first.
    pub(crate) argv: Vec<CString>,
    /// `envp`, each `NAME=value`.
    pub(crate) env: Vec<CString>,
    /// Where it starts.
    pub(crate) cwd: CString,
    /// Who runs it; the agent's own user when not given.
    pub(crate) identity: Option<Identity>,
    /// Limits to set, in this order.
    pub(crate) limits: Vec<(Resource, Rlimit)>,
    /// Without new privileges and without administration of the guest.
    pub(crate) restricted: bool,
}

/// A user, as the kernel knows one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Identity {
    pub(crate) uid: Uid,
    pub(crate) gid: Gid,
    pub(crate) groups: Vec<Gid>,
}

/// The child's ends of its standard streams. None of them is descriptor 0, 1 or 2.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Streams<'a> {
    pub(crate) stdin: BorrowedFd<'a>,
    pub(crate) stdout: BorrowedFd<'a>,
    pub(crate) stderr: BorrowedFd<'a>,
    /// Standard input is a terminal, which becomes the controlling one.
    pub(crate) terminal: bool,
}

/// The steps that can fail in the child.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Step {
    Session,
    Terminal,
    Streams,
    Limits,
    Groups,
    User,
    Cwd,
    Exec,
    Restrict,
}

impl Step {
    const ALL: [Self; 9] = [
        Self::Session,
        Self::Terminal,
        Self::Streams,
        Self::Limits,
        Self::Groups,
        Self::User,
        Self::Cwd,
        Self::Exec,
        Self::Restrict,
    ];
}

/// Bytes of a failure report.
pub(crate) const REPORT_BYTES: usize = 5;

/// Reads what the child wrote. `None` if that is no report: the command runs.
pub(crate) fn read_report(bytes: &[u8]) -> Option<(Step, i32)> {
    let (step, errno) = bytes.split_first()?;
    let step = *Step::ALL.get(usize::from(*step))?;
    Some((step, i32::from_le_bytes(errno.try_into().ok()?)))
}

pub(super) fn write_report(step: Step, errno: Errno) -> [u8; REPORT_BYTES] {
    let [a, b, c, d] = errno.raw_os_error().to_le_bytes();
    [step as u8, a, b, c, d]
}

/// Forks a child that becomes `command`. Returns it with the pipe of its report.
///
/// The caller owns the wait for the child: no other part of the program may wait for any.
pub(crate) fn spawn(command: &Command, streams: Streams<'_>) -> io::Result<(Pid, OwnedFd)> {
    let (report, report_end) = pipe_with(PipeFlags::CLOEXEC)?;
    let argv = pointers(&command.argv);
    let env = pointers(&command.env);
    let blocked = Blocked::all();
    // SAFETY: the child runs only `become_command`, which keeps to async-signal-safe calls
    // and never returns.
    let pid = unsafe { libc::fork() };
    if pid == 0 {
        become_command(command, streams, &argv, &env, report_end.as_fd());
    }
    drop(blocked);
    if pid < 0 {
        return Err(io::Error::last_os_error());
    }
    let pid = Pid::from_raw(pid).ok_or(io::ErrorKind::Other)?;
    Ok((pid, report))
}

/// The null-terminated array that `execve` takes. It points into `strings`.
pub(super) fn pointers(strings: &[CString]) -> Vec<*const c_char> {
    strings
        .iter()
        .map(|string| string.as_ptr())
        .chain([ptr::null()])
        .collect()
}

/// In the child.
fn become_command(
    command: &Command,
    streams: Streams<'_>,
    argv: &[*const c_char],
    env: &[*const c_char],
    report: BorrowedFd<'_>,
) -> ! {
    let (step, errno) = prepare(command, streams)
        .err()
        .unwrap_or_else(|| (Step::Exec, exec(&command.candidates, argv, env)));
    let bytes = write_report(step, errno);
    // A failed write leaves nobody to tell.
    let _ = rustix::io::write(report, &bytes);
    // SAFETY: _exit ends this process without running anything of the parent's.
    unsafe { libc::_exit(127) }
}

fn prepare(command: &Command, streams: Streams<'_>) -> Result<(), (Step, Errno)> {
    let at = |step: Step| move |errno: Errno| (step, errno);
    rustix::process::setsid().map_err(at(Step::Session))?;
    if streams.terminal {
        rustix::process::ioctl_tiocsctty(streams.stdin).map_err(at(Step::Terminal))?;
    }
    rustix::stdio::dup2_stdin(streams.stdin).map_err(at(Step::Streams))?;
    rustix::stdio::dup2_stdout(streams.stdout).map_err(at(Step::Streams))?;
    rustix::stdio::dup2_stderr(streams.stderr).map_err(at(Step::Streams))?;
    for (resource, limit) in &command.limits {
        rustix::process::setrlimit(*resource, *limit).map_err(at(Step::Limits))?;
    }
    if command.restricted {
        // Before the change of user: to give up takes a capability too.
        restrict().map_err(at(Step::Restrict))?;
    }
    if let Some(identity) = &command.identity {
        let Identity { uid, gid, groups } = identity;
        rustix::thread::set_thread_groups(groups).map_err(at(Step::Groups))?;
        rustix::thread::set_thread_res_gid(*gid, *gid, *gid).map_err(at(Step::Groups))?;
        rustix::thread::set_thread_res_uid(*uid, *uid, *uid).map_err(at(Step::User))?;
    }
    // After the change of user, so that a directory closed to them is closed here too.
    rustix::process::chdir(command.cwd.as_c_str()).map_err(at(Step::Cwd))?;
    keep_only_streams();
    signal::restore_defaults();
    Ok(())
}

/// Marks every descriptor but the standard streams to be closed by `execve`. The agent opens
/// its own that way already; this is for what it was itself started with.
pub(super) fn keep_only_streams() {
    // SAFETY: with this flag the call closes nothing and touches no memory. A kernel without
    // it (before 5.11) says so, and then the descriptors are as they were opened.
    unsafe {
        libc::syscall(
            libc::SYS_close_range,
            3u32,
            u32::MAX,
            libc::CLOSE_RANGE_CLOEXEC,
        )
    };
}

/// Tries each candidate as `execvp(3)` does; returns why none of them ran.
pub(super) fn exec(candidates: &[CString], argv: &[*const c_char], env: &[*const c_char]) -> Errno {
    let mut verdict = Errno::NOENT;
    for candidate in candidates {
        match exec_one(candidate, argv, env) {
            // Kept: something is there, even if a later directory has nothing.
            Errno::ACCESS => verdict = Errno::ACCESS,
            Errno::NOENT | Errno::NOTDIR | Errno::STALE | Errno::NODEV | Errno::TIMEDOUT => {}
            other => return other,
        }
    }
    verdict
}

fn exec_one(program: &CStr, argv: &[*const c_char], env: &[*const c_char]) -> Errno {
    // SAFETY: both arrays end with a null pointer and hold pointers to C strings that live
    // as long as this process keeps its memory.
    unsafe { libc::execve(program.as_ptr(), argv.as_ptr(), env.as_ptr()) };
    Errno::from_io_error(&io::Error::last_os_error()).unwrap_or(Errno::IO)
}
