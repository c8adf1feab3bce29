//! What all conversations share: the sessions, the reaper, and whether there may be more.

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::io;
use std::rc::Rc;

use msb_protocol::{ExecFailure, ExecRequest, Refusal, RefusalKind};
use tokio::sync::Notify;

use crate::channel::Channel;
use crate::conversation;
use crate::exec::{self, Defaults};
use crate::fs::Files;
use crate::log;
use crate::monitor::{self, Monitor};
use crate::reaper::{self, Reaper};
use crate::session::Session;
use crate::stream::Stream;

/// The most sessions at a time.
pub const MAX_SESSIONS: usize = 1024;

/// The most connections at a time: every session's and some to be told of their refusal.
const MAX_CONNECTIONS: usize = MAX_SESSIONS + 64;

/// The agent's state. It lives on one thread.
#[derive(Debug)]
pub struct Agent {
    defaults: Defaults,
    pub(crate) reaper: Reaper,
    sessions: RefCell<HashMap<u64, Rc<Session>>>,
    last_id: Cell<u64>,
    connections: Cell<usize>,
    gate: Cell<Gate>,
    pub(crate) monitor: Rc<Monitor>,
    pub(crate) files: Files,
    /// A session, connection or operation ended, or the gate moved.
    fewer: Notify,
}

/// Whether sessions are opened. It only ever closes further.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Gate {
    Open,
    /// Those that are open finish.
    Draining,
    /// Those that are open are ended.
    Closed,
}

/// Why a session was not made.
#[derive(Debug)]
pub(crate) enum NoSession {
    Refused(Refusal),
    Failed(ExecFailure),
}

impl Agent {
    /// An agent with no sessions, and the task that reaps for it. From now on nothing else
    /// in this process may wait for a child.
    ///
    /// To be called on a runtime of one thread ([`tokio::runtime::LocalRuntime`]) with the
    /// I/O and time drivers on. Fails if SIGCHLD cannot be listened to.
    pub fn start(defaults: Defaults) -> io::Result<Rc<Self>> {
        let children = reaper::children()?;
        let agent = Rc::new(Self {
            defaults,
            reaper: Reaper::new(),
            sessions: RefCell::new(HashMap::new()),
            last_id: Cell::new(0),
            connections: Cell::new(0),
            gate: Cell::new(Gate::Open),
            monitor: Rc::new(Monitor::default()),
            files: Files::default(),
            fewer: Notify::new(),
        });
        let reaping = Rc::clone(&agent);
        tokio::task::spawn_local(async move { reaping.reaper.run(children).await });
        Ok(agent)
    }

    /// Holds a conversation on `stream`, in a task of its own.
    pub fn accept(self: &Rc<Self>, stream: Stream) {
        let agent = Rc::clone(self);
        agent.connections.update(|count| count + 1);
        tokio::task::spawn_local(async move {
            conversation::serve(&agent, stream).await;
            agent.connections.update(|count| count - 1);
            agent.fewer.notify_waiters();
        });
    }

    /// Tells whoever is on `stream` what all sessions do, in a task of its own. There is one
    /// such connection at a time; another is closed.
    pub fn monitor(self: &Rc<Self>, stream: Stream) {
        let agent = Rc::clone(self);
        let Some(line) = agent.monitor.open() else {
            return log::info("a second monitor was turned away");
        };
        let channel = Channel::new(stream);
        tokio::task::spawn_local(async move { monitor::serve(&agent, line, channel).await });
    }

    /// How many sessions there are.
    pub(crate) fn sessions(&self) -> usize {
        self.sessions.borrow().len()
    }

    /// How many conversations there are that were accepted.
    pub(crate) fn connections(&self) -> usize {
        self.connections.get()
    }

    /// Waits until one more connection may be accepted.
    pub(crate) async fn room(&self) {
        self.wait_until(|agent| agent.connections.get() < MAX_CONNECTIONS)
            .await;
    }

    /// Waits until no connection is open.
    pub(crate) async fn quiet(&self) {
        self.wait_until(|agent| agent.connections.get() == 0).await;
    }

    /// Waits until there is no session and no operation on files.
    pub(crate) async fn idle(&self) {
        self.wait_until(|agent| agent.sessions.borrow().is_empty() && agent.files.idle())
            .await;
    }

    /// Waits until the guest ends.
    pub(crate) async fn closed(&self) {
        self.wait_until(|agent| agent.gate.get() == Gate::Closed)
            .await;
    }

    /// Waits until something ended that held memory and descriptors.
    pub(crate) async fn fewer(&self) {
        self.fewer.notified().await;
    }

    /// Something ended that is waited for here.
    pub(crate) fn changed(&self) {
        self.fewer.notify_waiters();
    }

    async fn wait_until(&self, done: impl Fn(&Self) -> bool) {
        loop {
            let fewer = self.fewer.notified();
            if done(self) {
                return;
            }
            fewer.await;
        }
    }

    /// Why nothing more is begun, if it is not.
    pub(crate) fn refusal(&self) -> Option<Refusal> {
        let (kind, message) = match self.gate.get() {
            Gate::Open => return None,
            Gate::Draining => (
                RefusalKind::Draining,
                "the guest finishes what it runs and then shuts down",
            ),
            Gate::Closed => (RefusalKind::ShuttingDown, "the guest is shutting down"),
        };
        Some(Refusal {
            kind,
            message: message.to_owned(),
        })
    }

    /// Starts a command.
    pub(crate) fn open_session(&self, request: &ExecRequest) -> Result<OpenSession<'_>, NoSession> {
        let refuse = |kind, message: String| Err(NoSession::Refused(Refusal { kind, message }));
        if let Some(refusal) = self.refusal() {
            return Err(NoSession::Refused(refusal));
        }
        if self.sessions() >= MAX_SESSIONS {
            let message = format!("{MAX_SESSIONS} commands run already; wait for one to end");
            return refuse(RefusalKind::TooManySessions, message);
        }
        let child = exec::start(request, &self.defaults).map_err(NoSession::Failed)?;
        let id = self.last_id.get() + 1;
        self.last_id.set(id);
        let session = Rc::new(Session::new(id, child, &self.reaper, &self.monitor));
        self.sessions.borrow_mut().insert(id, Rc::clone(&session));
        Ok(OpenSession {
            agent: self,
            id,
            session,
        })
    }

    /// From now on no session is opened, because those that run are the last.
    pub(crate) fn drain(&self) {
        self.shut(Gate::Draining);
    }

    /// From now on no session is opened, because the guest ends.
    pub(crate) fn close(&self) {
        self.shut(Gate::Closed);
    }

    fn shut(&self, gate: Gate) {
        self.gate.update(|before| before.max(gate));
        self.fewer.notify_waiters();
    }

    /// Nobody waits any longer for what sessions still have to say.
    pub(crate) fn abandon_sessions(&self) {
        for session in self.sessions.borrow().values() {
            session.abandon();
        }
    }

    /// Sends `signal` to every session's process group.
    pub(crate) fn signal_sessions(&self, signal: i32) {
        for session in self.sessions.borrow().values() {
            session.signal(signal);
        }
    }

    /// Tells the sessions on a terminal that it goes away: interactive shells act on that,
    /// and ignore SIGTERM.
    pub(crate) fn hang_up_terminals(&self) {
        for session in self.sessions.borrow().values() {
            if session.has_terminal() {
                session.signal(libc::SIGHUP);
            }
        }
    }
}

/// A session in the agent's table for as long as somebody has to do with it.
#[derive(Debug)]
pub(crate) struct OpenSession<'a> {
    agent: &'a Agent,
    id: u64,
    pub(crate) session: Rc<Session>,
}

impl Drop for OpenSession<'_> {
    fn drop(&mut self) {
        self.agent.sessions.borrow_mut().remove(&self.id);
        self.agent.fewer.notify_waiters();
    }
}
