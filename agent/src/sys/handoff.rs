//! Handing PID 1 on: a fork in which the child is who we were, and the parent becomes another program.
//!
//! The child keeps everything that is open, the event loop too: a descriptor in a poll set stays
//! there for as long as any process has it. The parent closes its own by executing.

#![expect(unsafe_code, reason = "fork has no safe wrapper")]

use std::io;
use std::os::fd::OwnedFd;

use rustix::pipe::{PipeFlags, pipe_with};
use rustix::process::{WaitOptions, setrlimit, setsid, wait};

use super::process::{Command, Step, exec, keep_only_streams, pointers, write_report};
use super::signal::{self, Blocked};

/// Forks. Returns in the child, with a pipe: its end says that the parent has become `command`, and a
/// report in it ([`read_report`](super::process::read_report)) that it has not, and does nothing
/// from then on but to take in orphans.
///
/// To be called while this process has one thread and no child.
pub(crate) fn hand_over(command: &Command) -> io::Result<OwnedFd> {
    let (report, report_end) = pipe_with(PipeFlags::CLOEXEC)?;
    let argv = pointers(&command.argv);
    let env = pointers(&command.env);
    let blocked = Blocked::all();
    // SAFETY: there is one thread, so both sides have everything that they had before.
    let child = unsafe { libc::fork() };
    if child == 0 {
        drop((blocked, report_end));
        // Fails only for who leads a group already, which a child just made does not.
        let _ = setsid();
        return Ok(report);
    }
    if child < 0 {
        return Err(io::Error::last_os_error());
    }
    let limited = command
        .limits
        .iter()
        .try_for_each(|(resource, limit)| setrlimit(*resource, *limit));
    keep_only_streams();
    signal::restore_defaults();
    let (step, errno) = match limited {
        Ok(()) => (Step::Exec, exec(&command.candidates, &argv, &env)),
        Err(errno) => (Step::Limits, errno),
    };
    // The child is there to read it.
    let _ = rustix::io::write(&report_end, &write_report(step, errno));
    loop {
        // The child turns the power off; orphans are nobody's.
        if wait(WaitOptions::empty()).is_err() {
            rustix::event::pause();
        }
    }
}
