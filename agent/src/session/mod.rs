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

use msb_protocol::{ExecFailure, GuestMessage, TerminalSize};
use tokio::join;

use crate::channel::{Channel, ChannelError};
use crate::exec::{Child, Input, Outputs, Starting};
use crate::reaper::{Process, Reaper};
use crate::stream::Stream;

pub(crate) use input::InputQueue;

/// One command.
#[derive(Debug)]
pub(crate) struct Session {
    id: u64,
    process: Rc<Process>,
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
    pub(crate) fn new(id: u64, child: Child, reaper: &Reaper) -> Self {
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
        drop(work.starting);
        let started = GuestMessage::Started {
            session: self.id,
            pid: self.process.pid().as_raw_nonzero().get().unsigned_abs(),
        };
        channel.send(&started).await?;

        let process = &*self.process;
        let feed = self.input.feed(work.input, process, channel);
        let sent = match &work.outputs {
            Outputs::Pipes { stdout, stderr } => {
                let (out, err, input) = join!(
                    output::forward(stdout, GuestMessage::Stdout, process, channel),
                    output::forward(stderr, GuestMessage::Stderr, process, channel),
                    feed
                );
                out.and(err).and(input)
            }
            Outputs::Terminal(terminal) => {
                let (out, input) = join!(
                    output::forward(terminal, GuestMessage::Stdout, process, channel),
                    feed
                );
                out.and(input)
            }
        };
        sent?;
        let exit = process.ended().await;
        channel.send(&GuestMessage::Exited(exit)).await
    }

    async fn failed(&self, failure: ExecFailure, channel: &Channel) -> Result<(), ChannelError> {
        self.kill();
        channel.send(&GuestMessage::ExecFailed(failure)).await
    }
}
