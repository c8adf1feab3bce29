//! What all conversations share: the sessions, the reaper, and whether there may be more.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::io;
use std::rc::Rc;

use msb_protocol::{ExecRequest, GuestMessage, Ready, Refusal, RefusalKind};
use tokio::sync::Notify;

use crate::channel::Channel;
use crate::conversation;
use crate::exec::{self, Defaults};
use crate::fs::Files;
use crate::log;
use crate::monitor::{self, Monitor};
use crate::reaper::{self, Reaper};
use crate::session::{Pool, Session, Terms};
use crate::stream::Stream;

/// The most sessions at a time whose command runs.
pub const MAX_SESSIONS: usize = 1024;

/// The most sessions that are kept when they are over, until somebody hears how they ended.
const MAX_KEPT: usize = 256;

/// The most connections at a time: every session's and some to be told of their refusal.
const MAX_CONNECTIONS: usize = MAX_SESSIONS + 64;

/// The agent's state. It lives on one thread.
#[derive(Debug)]
pub struct Agent {
    defaults: Defaults,
    pub(crate) reaper: Reaper,
    /// By their numbers, so the oldest is the first.
    sessions: RefCell<BTreeMap<u64, Rc<Session>>>,
    pool: Rc<Pool>,
    ready: RefCell<Ready>,
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
            sessions: RefCell::new(BTreeMap::new()),
            pool: Rc::new(Pool::default()),
            ready: RefCell::new(Ready {
                version: env!("CARGO_PKG_VERSION").to_owned(),
                init_ns: 0,
                ready_ns: 0,
            }),
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

    /// The signal that asks programs to end, where it is not `SIGTERM`.
    pub(crate) fn stop_signal(&self) -> Option<i32> {
        self.defaults.stop_signal
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

    /// The guest is up, and this is what its supervisor is told of that.
    pub(crate) fn set_ready(&self, ready: Ready) {
        *self.ready.borrow_mut() = ready;
    }

    /// How the guest came up; without times if nobody told it to.
    pub(crate) fn ready(&self) -> Ready {
        self.ready.borrow().clone()
    }

    /// How many sessions there are whose command runs.
    pub(crate) fn sessions(&self) -> usize {
        let sessions = self.sessions.borrow();
        sessions
            .values()
            .filter(|session| session.exit().is_none())
            .count()
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

    /// Waits until every command has ended, whoever views one knows, and no operation on files is
    /// under way.
    pub(crate) async fn idle(&self) {
        self.wait_until(|agent| {
            let settled = agent.sessions.borrow().values().all(|s| s.is_settled());
            settled && agent.files.idle()
        })
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

    /// Something changed or ended that somebody may wait for.
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

    /// Forks a command. Its session has a viewer, which is the caller.
    pub(crate) fn open_session(
        self: &Rc<Self>,
        request: &ExecRequest,
        terms: Terms,
    ) -> Result<Visit, GuestMessage> {
        let refuse = |kind, message: String| Err(GuestMessage::Refused(Refusal { kind, message }));
        if let Some(refusal) = self.refusal() {
            return Err(GuestMessage::Refused(refusal));
        }
        if self.sessions() >= MAX_SESSIONS {
            let message = format!("{MAX_SESSIONS} commands run already; wait for one to end");
            return refuse(RefusalKind::TooManySessions, message);
        }
        let child = exec::start(request, &self.defaults).map_err(GuestMessage::ExecFailed)?;
        let id = self.last_id.get() + 1;
        self.last_id.set(id);
        let session = Session::new(id, child, terms, &self.reaper, &self.monitor, &self.pool);
        let session = Rc::new(session);
        self.sessions.borrow_mut().insert(id, Rc::clone(&session));
        Ok(Visit::new(self, session))
    }

    /// Works for a session whose command runs, in a task of its own.
    pub(crate) fn run(self: &Rc<Self>, session: &Rc<Session>) {
        let (agent, session) = (Rc::clone(self), Rc::clone(session));
        tokio::task::spawn_local(async move {
            session.run().await;
            agent.settle(&session);
        });
    }

    /// The session of this number.
    pub(crate) fn session(&self, id: u64) -> Option<Rc<Session>> {
        self.sessions.borrow().get(&id).cloned()
    }

    /// All sessions' numbers, the oldest first.
    pub(crate) fn session_ids(&self) -> Vec<u64> {
        self.sessions.borrow().keys().copied().collect()
    }

    /// A session is over, or has no viewer any more: forgets it if nobody is to hear of it, and
    /// the oldest of those that nobody came for if there are too many.
    fn settle(&self, session: &Session) {
        let mut sessions = self.sessions.borrow_mut();
        let over = |session: &Session| session.exit().is_some() && !session.is_viewed();
        if over(session) && !session.outlives() {
            sessions.remove(&session.id());
        }
        let kept: Vec<_> = sessions
            .values()
            .filter(|s| over(s))
            .map(|s| s.id())
            .collect();
        for id in kept.iter().take(kept.len().saturating_sub(MAX_KEPT)) {
            sessions.remove(id);
        }
        drop(sessions);
        self.fewer.notify_waiters();
    }

    /// A session never came to run.
    fn forget(&self, session: &Session) {
        self.sessions.borrow_mut().remove(&session.id());
        self.fewer.notify_waiters();
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

/// A viewer's time with a session.
#[derive(Debug)]
pub(crate) struct Visit {
    agent: Rc<Agent>,
    pub(crate) session: Rc<Session>,
}

impl Visit {
    /// Of a session that has just taken on this viewer.
    pub(crate) fn new(agent: &Rc<Agent>, session: Rc<Session>) -> Self {
        Self {
            agent: Rc::clone(agent),
            session,
        }
    }

    /// The command never ran.
    pub(crate) fn failed(self) {
        self.agent.forget(&self.session);
    }
}

impl Drop for Visit {
    fn drop(&mut self) {
        if !self.session.outlives() {
            // Nothing happens to one that has ended.
            self.session.kill();
        }
        self.session.unview();
        self.agent.settle(&self.session);
    }
}
