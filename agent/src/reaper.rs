//! The one place that waits for processes.
//!
//! As PID 1 the agent is the parent of every orphan too. If each session waited for its
//! own child and something else for the rest, the two would steal from each other. So
//! only [`Reaper`] waits, for anyone: an exit goes to the session whose process it was,
//! or to nobody. A process stays signalable until the very moment it is reaped, and not
//! after: its number may then be another's.

use std::cell::RefCell;
use std::collections::HashMap;
use std::io;
use std::rc::Rc;

use msb_protocol::Exit;
use rustix::process::{Pid, WaitOptions, WaitStatus, wait};
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::{Notify, watch};

use crate::sys::signal::kill;

/// A child of ours that leads a process group.
#[derive(Debug)]
pub(crate) struct Process {
    pid: Pid,
    exit: watch::Sender<Option<Exit>>,
}

impl Process {
    pub(crate) fn pid(&self) -> Pid {
        self.pid
    }

    /// How it ended, once it has.
    pub(crate) fn exit(&self) -> Option<Exit> {
        *self.exit.borrow()
    }

    /// Sends `signal` to its process group. Nothing happens once it has been reaped.
    pub(crate) fn signal(&self, signal: i32) -> io::Result<()> {
        if self.exit().is_some() {
            return Ok(());
        }
        let pid = self.pid.as_raw_nonzero().get();
        match kill(-pid, signal) {
            // It has not got as far as to lead a group.
            Err(error) if error.raw_os_error() == Some(libc::ESRCH) => kill(pid, signal),
            other => other,
        }
    }

    /// Waits for its end.
    pub(crate) async fn ended(&self) -> Exit {
        let mut exit = self.exit.subscribe();
        loop {
            if let Some(exit) = *exit.borrow_and_update() {
                return exit;
            }
            if exit.changed().await.is_err() {
                // Not reached: `self` holds the sender.
                std::future::pending::<()>().await;
            }
        }
    }
}

/// Collects exits.
#[derive(Debug)]
pub(crate) struct Reaper {
    ours: RefCell<HashMap<Pid, Rc<Process>>>,
    rounds: Notify,
}

/// What was left after a round of collecting.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Remaining {
    /// There are children.
    Some,
    /// There are none; as PID 1: no process but the agent and the kernel's.
    None,
}

impl Reaper {
    pub(crate) fn new() -> Self {
        Self {
            ours: RefCell::new(HashMap::new()),
            rounds: Notify::new(),
        }
    }

    /// From now on the exit of `pid` is this process's. To be called before anything is
    /// awaited after the fork.
    pub(crate) fn adopt(&self, pid: Pid) -> Rc<Process> {
        let process = Rc::new(Process {
            pid,
            exit: watch::Sender::new(None),
        });
        self.ours.borrow_mut().insert(pid, Rc::clone(&process));
        process
    }

    /// Collects whoever has ended.
    pub(crate) fn collect(&self) -> Remaining {
        loop {
            match rustix::io::retry_on_intr(|| wait(WaitOptions::NOHANG)) {
                Ok(Some((pid, status))) => self.ended(pid, status),
                Ok(None) => return Remaining::Some,
                Err(_no_children) => return Remaining::None,
            }
        }
    }

    fn ended(&self, pid: Pid, status: WaitStatus) {
        let exit = match (status.exit_status(), status.terminating_signal()) {
            (Some(code), _) => Exit::Code(code),
            (None, Some(signal)) => Exit::Signal(signal),
            // Stopped or continued, which was not asked for.
            (None, None) => return,
        };
        if let Some(process) = self.ours.borrow_mut().remove(&pid) {
            process.exit.send_replace(Some(exit));
        }
    }

    /// Collects for ever. `children` is the stream of SIGCHLD, opened before the first fork.
    pub(crate) async fn run(&self, mut children: Signal) {
        loop {
            self.collect();
            self.rounds.notify_one();
            if children.recv().await.is_none() {
                return;
            }
        }
    }

    /// Waits until [`Reaper::run`] has collected again.
    pub(crate) async fn round(&self) {
        self.rounds.notified().await;
    }
}

/// The stream of SIGCHLD.
pub(crate) fn children() -> io::Result<Signal> {
    signal(SignalKind::child())
}
