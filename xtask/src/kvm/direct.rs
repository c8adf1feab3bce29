//! Running the command on this host, with a deadline.
//!
//! It gets a process group of its own, which the deadline can end whole, and the terminal's
//! foreground with it when there is a terminal, so that Ctrl-C and reading from it work as always.

use std::io::IsTerminal;
use std::os::fd::AsFd;
use std::os::unix::process::ExitStatusExt;
use std::process::{Child, ExitStatus};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use rustix::process::{Pid, Signal};

use super::{Call, Outcome, signals};
use crate::sys;

enum Event {
    Signal(i32),
    Ended(std::io::Result<ExitStatus>),
}

pub(super) fn run(call: &Call, timeout: Duration) -> Result<Outcome> {
    let deadline = Instant::now() + timeout;
    let (events, receiver) = mpsc::sync_channel(16);
    signals::forward(events.clone(), Event::Signal)?;

    let mut command = call.command();
    sys::bind_child(&mut command, Vec::new());
    let child = match command.spawn() {
        Ok(child) => child,
        Err(error) => return Ok(Outcome::not_started(call, &error)),
    };
    let group = Pid::from_child(&child);
    let _foreground = Foreground::give(group);

    wait_for(child, events);

    loop {
        let left = deadline.saturating_duration_since(Instant::now());
        match receiver.recv_timeout(left) {
            Ok(Event::Signal(signal)) => {
                if let Some(signal) = Signal::from_named_raw(signal) {
                    let _ = rustix::process::kill_process_group(group, signal);
                }
            }
            Ok(Event::Ended(status)) => {
                let status = status.context("cannot wait for the command")?;
                return Ok(match (status.code(), status.signal()) {
                    (_, Some(signal)) => Outcome::Killed(signal),
                    (code, None) => Outcome::Exited(exit_code(code.unwrap_or(0))),
                });
            }
            Err(RecvTimeoutError::Timeout) => {
                let _ = rustix::process::kill_process_group(group, Signal::KILL);
                return Ok(Outcome::TimedOut(timeout));
            }
            Err(RecvTimeoutError::Disconnected) => unreachable!("the waiting thread sends once"),
        }
    }
}

/// The byte that a parent sees of an exit code.
pub(super) fn exit_code(code: i32) -> u8 {
    code.to_le_bytes()[0]
}

fn wait_for(mut child: Child, events: mpsc::SyncSender<Event>) {
    thread::spawn(move || {
        let status = child.wait();
        let _ = events.send(Event::Ended(status));
    });
}

/// The terminal's foreground, given away and taken back at the end.
struct Foreground(bool);

impl Foreground {
    fn give(group: Pid) -> Self {
        let stdin = std::io::stdin();
        Self(stdin.is_terminal() && sys::set_foreground(stdin.as_fd(), group).is_ok())
    }
}

impl Drop for Foreground {
    fn drop(&mut self) {
        if self.0 {
            let _ = sys::set_foreground(std::io::stdin().as_fd(), rustix::process::getpgrp());
        }
    }
}
