//! A session: one command and its streams.
//!
//! A session belongs to the agent, not to the connection that asked for it: its own task
//! ([`Session::run`]) reads what the command writes and feeds what it reads, for as long as it
//! runs. A connection is a viewer ([`Session::view`]), of which there is one at a time or none:
//!
//! ```text
//!   command ──> run ──> Ring ──> view ──> connection
//!      ^         │                           │
//!      └─────────┴──── InputQueue <──────────┘
//! ```
//!
//! Whether a session lives on without a viewer is for the conversations to decide.

mod input;
mod output;
mod pool;
mod ring;

#[cfg(test)]
mod tests;

use std::cell::{Cell, RefCell};
use std::rc::Rc;

use bytes::Bytes;
use msb_protocol::{
    ExecFailure, Exit, GuestMessage, OutputSource, SessionAnswer, SessionAttached, SessionEntry,
    TerminalSize,
};
use tokio::sync::Notify;
use tokio::time::{Instant, sleep_until};
use tokio::{join, select};

use crate::channel::{Channel, ChannelError};
use crate::exec::{Child, Input, Outputs, Starting};
use crate::monitor::Monitor;
use crate::reaper::{Process, Reaper};
use crate::stream::Stream;
use ring::{Next, Ring};

pub(crate) use input::InputQueue;
pub(crate) use pool::Pool;

/// What a session is made with.
#[derive(Debug)]
pub(crate) struct Terms {
    /// Whether it lives on when its viewer goes without a word.
    pub(crate) outlives: bool,
    /// Whether its viewer says what has arrived.
    pub(crate) acks: bool,
    /// When it is killed.
    pub(crate) limit: Option<Instant>,
    /// As it is listed.
    pub(crate) command: String,
}

/// One command.
#[derive(Debug)]
pub(crate) struct Session {
    id: u64,
    started_ms: u64,
    command: String,
    limit: Option<Instant>,
    process: Rc<Process>,
    monitor: Rc<Monitor>,
    pub(crate) input: InputQueue,
    has_terminal: bool,
    /// While the command runs.
    terminal: RefCell<Option<Rc<Stream>>>,
    output: pool::Share,
    /// How it ended, when all that it wrote is in the ring.
    exit: Cell<Option<Exit>>,
    viewed: Cell<bool>,
    outlives: Cell<bool>,
    /// The viewer was told everything.
    told: Cell<bool>,
    /// The viewer wants to go.
    leaving: Cell<bool>,
    /// There is something for the viewer.
    news: Notify,
    /// There may be room for output.
    room: Notify,
    /// The viewer went.
    free: Notify,
    /// What [`Session::run`] works with.
    work: RefCell<Option<Work>>,
}

#[derive(Debug)]
struct Work {
    starting: Starting,
    input: Option<Input>,
    outputs: Outputs,
}

/// How a view ended in which nothing went wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Viewed {
    /// The viewer was told everything.
    All,
    /// The viewer wanted to go.
    Left,
}

impl Session {
    /// Makes a session of a child just forked. To be called before anything is awaited.
    pub(crate) fn new(
        id: u64,
        child: Child,
        terms: Terms,
        reaper: &Reaper,
        monitor: &Rc<Monitor>,
        pool: &Rc<Pool>,
    ) -> Self {
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
            started_ms: now_ms(),
            command: terms.command,
            limit: terms.limit,
            process: reaper.adopt(pid),
            monitor: Rc::clone(monitor),
            input: queue,
            has_terminal: terminal.is_some(),
            terminal: RefCell::new(terminal),
            output: pool::Share::new(pool, id, Ring::new(terms.acks)),
            exit: Cell::new(None),
            viewed: Cell::new(true),
            outlives: Cell::new(terms.outlives),
            told: Cell::new(false),
            leaving: Cell::new(false),
            news: Notify::new(),
            room: Notify::new(),
            free: Notify::new(),
            work: RefCell::new(Some(Work {
                starting,
                input,
                outputs,
            })),
        }
    }

    pub(crate) fn id(&self) -> u64 {
        self.id
    }

    pub(crate) fn pid(&self) -> u32 {
        self.process.pid().as_raw_nonzero().get().unsigned_abs()
    }

    pub(crate) fn has_terminal(&self) -> bool {
        self.has_terminal
    }

    /// How it ended, when that and all its output is known here.
    pub(crate) fn exit(&self) -> Option<Exit> {
        self.exit.get()
    }

    pub(crate) fn is_viewed(&self) -> bool {
        self.viewed.get()
    }

    /// Whether there is nothing left to wait for: it is over, and a viewer that is there knows.
    pub(crate) fn is_settled(&self) -> bool {
        self.exit().is_some() && (!self.viewed.get() || self.told.get())
    }

    /// Whether it lives on without a viewer.
    pub(crate) fn outlives(&self) -> bool {
        self.outlives.get()
    }

    /// From now on it lives on without a viewer, or no more.
    pub(crate) fn set_outlives(&self, outlives: bool) {
        self.outlives.set(outlives);
    }

    /// As it stands in a list.
    pub(crate) fn entry(&self) -> SessionEntry {
        SessionEntry {
            session: self.id,
            pid: self.pid(),
            command: self.command.clone(),
            started_ms: self.started_ms,
            terminal: self.has_terminal,
            attached: self.viewed.get(),
            exit: self.exit(),
        }
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
        if let Some(terminal) = self.terminal.borrow().as_deref() {
            // The size of a terminal that hung up is nobody's.
            let _ = crate::exec::resize(terminal, size);
        }
    }

    /// Waits until it is decided whether the command runs. To be called once, before the rest.
    pub(crate) async fn started(&self) -> Result<(), ExecFailure> {
        let work = self.work.take();
        if let Some(work) = &work
            && let Err(failure) = work.starting.outcome().await
        {
            self.kill();
            return Err(failure);
        }
        if let Some(work) = &work {
            let program = work.starting.program();
            self.monitor.started(self.id, self.pid(), program);
        }
        *self.work.borrow_mut() = work;
        Ok(())
    }

    /// Works for the command, until it and what it wrote are over.
    pub(crate) async fn run(&self) {
        let Some(work) = self.work.take() else {
            return;
        };
        drop(work.starting);
        let process = &*self.process;
        let feed = self.input.feed(work.input, process, &self.news);
        let working = async {
            match &work.outputs {
                Outputs::Pipes { stdout, stderr } => {
                    let stdout = output::take_in(self, OutputSource::Stdout, stdout);
                    let stderr = output::take_in(self, OutputSource::Stderr, stderr);
                    join!(stdout, stderr, feed);
                }
                Outputs::Terminal(terminal) => {
                    join!(
                        output::take_in(self, OutputSource::Terminal, terminal),
                        feed
                    );
                }
            }
            process.ended().await
        };
        let late = async {
            if let Some(limit) = self.limit {
                sleep_until(limit).await;
                self.kill();
            }
            std::future::pending().await
        };
        let exit = select! {
            exit = working => exit,
            exit = late => exit,
        };
        *self.terminal.borrow_mut() = None;
        self.exit.set(Some(exit));
        self.monitor.ended(self.id, exit);
        self.news.notify_one();
    }

    /// Waits until the command may be read on.
    async fn room(&self) {
        loop {
            let room = self.room.notified();
            if self.output.with(|ring| ring.has_room()) {
                return;
            }
            room.await;
        }
    }

    /// The command wrote something.
    fn wrote(&self, source: OutputSource, chunk: Bytes) {
        self.monitor.output(self.id, source, &chunk);
        self.output.with(|ring| ring.push(source, chunk));
        self.news.notify_one();
    }

    /// Takes on a viewer, if there is none.
    pub(crate) fn attach(&self) -> Option<SessionAttached> {
        if self.viewed.replace(true) {
            return None;
        }
        self.told.set(false);
        self.leaving.set(false);
        Some(SessionAttached {
            session: self.id,
            pid: self.pid(),
            offset: self.output.with(Ring::viewed),
            window: self.input.viewed(),
            terminal: self.has_terminal,
        })
    }

    /// Waits until there is no viewer.
    pub(crate) async fn free(&self) {
        loop {
            let free = self.free.notified();
            if !self.viewed.get() {
                return;
            }
            free.await;
        }
    }

    /// The viewer went.
    pub(crate) fn unview(&self) {
        self.viewed.set(false);
        self.output.with(Ring::left);
        self.room.notify_waiters();
        self.free.notify_waiters();
    }

    /// The viewer has everything before `offset`.
    pub(crate) fn received(&self, offset: u64) {
        self.output.with(|ring| ring.acked(offset));
    }

    /// The viewer wants to go, and has everything before `offset`. The session lives on.
    pub(crate) fn leave(&self, offset: u64) {
        self.received(offset);
        self.outlives.set(true);
        self.leaving.set(true);
        self.news.notify_one();
    }

    /// Tells the viewer everything, to the command's end or until it wants to go.
    pub(crate) async fn view(&self, channel: &Channel) -> Result<Viewed, ChannelError> {
        loop {
            if self.leaving.get() {
                return Ok(Viewed::Left);
            }
            match self.next() {
                Some(message) => {
                    // What is on its way makes room for what is next.
                    self.room.notify_waiters();
                    channel.send(&message).await?;
                }
                None => match self.exit() {
                    Some(exit) => {
                        channel.send(&GuestMessage::Exited(exit)).await?;
                        self.told.set(true);
                        return Ok(Viewed::All);
                    }
                    None => self.news.notified().await,
                },
            }
        }
    }

    fn next(&self) -> Option<GuestMessage> {
        self.input
            .next_news()
            .or_else(|| match self.output.with(Ring::next)? {
                Next::Dropped(bytes) => {
                    Some(GuestMessage::Session(SessionAnswer::Dropped { bytes }))
                }
                Next::Output(OutputSource::Stderr, bytes) => Some(GuestMessage::Stderr(bytes)),
                Next::Output(_, bytes) => Some(GuestMessage::Stdout(bytes)),
            })
    }

    /// Nobody waits any longer for the viewer to take what the command wrote.
    pub(crate) fn abandon(&self) {
        self.output.with(Ring::abandon);
        self.room.notify_waiters();
    }
}

/// Milliseconds since 1970 by this machine's clock.
fn now_ms() -> u64 {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    since.map_or(0, |since| {
        u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
    })
}
