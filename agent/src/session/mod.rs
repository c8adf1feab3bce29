//! A session: one command and its streams.
//!
//! A session belongs to the agent, not to the connection that asked for it. A connection
//! is a viewer: [`Session::view`] tells it what happens, and what it says comes in through
//! [`Session::signal`], [`Session::resize`] and the [`InputQueue`]. How a session is viewed and
//! what becomes of it when its viewer goes is for the conversation to decide.

mod input;
mod output;

#[cfg(test)]
mod tests;

use std::cell::RefCell;
use std::rc::Rc;

use bytes::Bytes;
use msb_protocol::{ExecFailure, GuestMessage, OutputSource, TerminalSize};
use tokio::join;

use crate::channel::{Channel, ChannelError};
use crate::exec::{Child, Input, Outputs, Starting};
use crate::monitor::Monitor;
use crate::reaper::{Process, Reaper};
use crate::stream::Stream;

pub(crate) use input::InputQueue;

/// One command.
#[derive(Debug)]
pub(crate) struct Session {
    id: u64,
    process: Rc<Process>,
    monitor: Rc<Monitor>,
    pub(crate) input: InputQueue,
    terminal: Option<Rc<Stream>>,
    /// What the viewer works with, until one has it.
    work: RefCell<Option<Work>>,
}

#[derive(Debug)]
struct Work {
    starting: Starting,
    input: Option<Input>,
    outputs: Outputs,
}

impl Session {
    /// Makes a session of a child just forked. To be called before anything is awaited.
    pub(crate) fn new(id: u64, child: Child, reaper: &Reaper, monitor: &Rc<Monitor>) -> Self {
        let Child {
            pid,
            starting,
            input,
            outputs,
        } = child;
        let terminal = match &outputs {
            Outputs::Terminal(terminal) => Some(Rc::clone(terminal)),
            Outputs::Pipes { .. } => None,
        };
        let queue = match input {
            Some(_) => InputQueue::open(),
            None => InputQueue::closed(),
        };
        Self {
            id,
            process: reaper.adopt(pid),
            monitor: Rc::clone(monitor),
            input: queue,
            terminal,
            work: RefCell::new(Some(Work {
                starting,
                input,
                outputs,
            })),
        }
    }

    pub(crate) fn has_terminal(&self) -> bool {
        self.terminal.is_some()
    }

    /// Sends a signal to the command's process group.
    pub(crate) fn signal(&self, signal: i32) {
        // Refused for a number that is no signal, and for a group that is gone: in
        // neither case is there anybody to tell.
        let _ = self.process.signal(signal);
    }

    /// Ends the command's process group at once.
    pub(crate) fn kill(&self) {
        self.signal(libc::SIGKILL);
    }

    /// Tells the command's terminal, if it has one, its new size.
    pub(crate) fn resize(&self, size: TerminalSize) {
        if let Some(terminal) = &self.terminal {
            // The size of a terminal that hung up is nobody's.
            let _ = crate::exec::resize(terminal, size);
        }
    }

    /// Tells the viewer everything, from the start of the command to its end. A session has
    /// one viewer in its life.
    pub(crate) async fn view(&self, channel: &Channel) -> Result<(), ChannelError> {
        let Some(work) = self.work.take() else {
            return Err(ChannelError::Unexpected("the session is viewed already"));
        };
        if let Err(failure) = work.starting.outcome().await {
            return self.failed(failure, channel).await;
        }
        let session = self.id;
        let pid = self.process.pid().as_raw_nonzero().get().unsigned_abs();
        self.monitor.started(session, pid, work.starting.program());
        drop(work.starting);
        let started = GuestMessage::Started { session, pid };
        channel.send(&started).await?;

        let process = &*self.process;
        let copy = |source| move |chunk: &Bytes| self.monitor.output(session, source, chunk);
        let feed = self.input.feed(work.input, process, channel);
        let sent = match &work.outputs {
            Outputs::Pipes { stdout, stderr } => {
                let (out, err, input) = join!(
                    output::forward(
                        stdout,
                        GuestMessage::Stdout,
                        copy(OutputSource::Stdout),
                        process,
                        channel
                    ),
                    output::forward(
                        stderr,
                        GuestMessage::Stderr,
                        copy(OutputSource::Stderr),
                        process,
                        channel
                    ),
                    feed
                );
                out.and(err).and(input)
            }
            Outputs::Terminal(terminal) => {
                let (out, input) = join!(
                    output::forward(
                        terminal,
                        GuestMessage::Stdout,
                        copy(OutputSource::Terminal),
                        process,
                        channel
                    ),
                    feed
                );
                out.and(input)
            }
        };
        sent?;
        let exit = process.ended().await;
        self.monitor.ended(session, exit);
        channel.send(&GuestMessage::Exited(exit)).await
    }

    /// Nobody views the session any more: the monitor hears how the command ends, when it
    /// does, and of no more output.
    pub(crate) fn abandon(&self) {
        self.monitor.abandoned(self.id, &self.process);
    }

    async fn failed(&self, failure: ExecFailure, channel: &Channel) -> Result<(), ChannelError> {
        self.kill();
        channel.send(&GuestMessage::ExecFailed(failure)).await
    }
}
