//! All clients of one machine.
//!
//! Each client has a bounded queue of messages that its socket had no room for. A client that does
//! not read fills its queue and is dropped; the machine never waits for one.

use std::collections::VecDeque;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::time::Duration;

use msb_vmapi::{ErrorKind, Event, FromVmm, Reply, Request, VmError, VmState};
use rustix::io::Errno;
use rustix::net::{SocketFlags, accept_with};
use vmm_virtio::{Interest, Register, Tag};

use super::socket::{Connection, ReceiveError, encode};

/// Messages that may wait for a client that is not reading.
const MAX_QUEUE: usize = 64;
/// Clients at a time.
const MAX_CLIENTS: usize = 16;
/// Requests taken from one client before others have their turn.
const BATCH: usize = 16;

/// How long no connection is accepted after the host could not.
const ACCEPT_PAUSE: Duration = Duration::from_secs(1);

const LISTENER: Tag = Tag(0);
/// The pause is over.
const LISTEN_AGAIN: Tag = Tag(u32::MAX);
/// The first client's tag; one more for each that ever came.
const FIRST_CLIENT: u32 = 1;

/// What a client wants that is not the server's to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Asked {
    /// Press the power button.
    PowerButton,
    /// End the machine.
    Kill,
    /// Take the vCPUs out of the guest, then answer.
    Pause(Asker),
    /// Let the vCPUs in again, then answer.
    Resume(Asker),
    /// Answer with the counters.
    Counters(Asker),
}

/// Who is to be answered. Answering one that is gone does nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Asker {
    client: Tag,
    id: u64,
}

struct Message {
    bytes: Vec<u8>,
    descriptor: Option<OwnedFd>,
}

struct Client {
    tag: Tag,
    connection: Connection,
    queue: VecDeque<Message>,
    /// The loop watches for room in the socket.
    waiting: bool,
}

/// The control server.
pub struct Server {
    listener: Option<OwnedFd>,
    clients: Vec<Client>,
    next_tag: u32,
    /// The supervisor's tag, whether or not it is still connected.
    supervisor: Option<Tag>,
    state: VmState,
}

impl std::fmt::Debug for Server {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Server")
            .field("clients", &self.clients.len())
            .field("state", &self.state)
            .finish_non_exhaustive()
    }
}

impl Server {
    /// A server of whoever connects to `listener`, and of the supervisor if there is one.
    pub fn new(listener: Option<OwnedFd>, supervisor: Option<Connection>) -> Self {
        let mut server = Self {
            listener,
            clients: Vec::new(),
            next_tag: FIRST_CLIENT,
            supervisor: None,
            state: VmState::Starting,
        };
        server.supervisor = supervisor.map(|connection| server.admit(connection));
        server
    }

    fn admit(&mut self, connection: Connection) -> Tag {
        let tag = Tag(self.next_tag);
        // Tags come round after four billion clients; those of then are long gone.
        self.next_tag = match self.next_tag + 1 {
            // The last one is taken.
            u32::MAX => FIRST_CLIENT,
            next => next,
        };
        self.clients.push(Client {
            tag,
            connection,
            queue: VecDeque::new(),
            waiting: false,
        });
        tag
    }

    /// Whether there was a supervisor, and its connection is gone: nobody wants the machine.
    pub fn is_orphaned(&self) -> bool {
        self.supervisor
            .is_some_and(|tag| self.clients.iter().all(|client| client.tag != tag))
    }

    /// Starts to listen to all that there is.
    pub fn start(&mut self, reg: &mut dyn Register) -> io::Result<()> {
        if let Some(listener) = &self.listener {
            reg.add(listener.as_fd(), Interest::READABLE, LISTENER)?;
        }
        for client in &self.clients {
            reg.add(client.connection.as_fd(), Interest::READABLE, client.tag)?;
        }
        Ok(())
    }

    /// The state that clients are told when they ask.
    pub fn set_state(&mut self, state: VmState) {
        self.state = state;
    }

    /// Serves an event, and says what was asked for.
    pub fn ready(&mut self, tag: Tag, reg: &mut dyn Register) -> Vec<Asked> {
        if tag == LISTENER || tag == LISTEN_AGAIN {
            if tag == LISTEN_AGAIN {
                self.listen(Interest::READABLE, reg);
            }
            self.accept(reg);
            return Vec::new();
        }
        let mut asked = Vec::new();
        let mut replies = Vec::new();
        let mut alive = self.flush(tag, reg);
        if let Some(client) = self.clients.iter().find(|client| client.tag == tag) {
            for _ in 0..BATCH {
                if !alive {
                    break;
                }
                match client.connection.receive() {
                    Ok((message, _)) => {
                        let asker = Asker {
                            client: tag,
                            id: message.id,
                        };
                        let (reply, wanted) = self.answer(&message.request, asker);
                        asked.extend(wanted);
                        replies.extend(reply.map(|reply| (message.id, reply)));
                    }
                    Err(ReceiveError::Empty) => break,
                    Err(ReceiveError::Malformed { id, why }) => {
                        replies.push((id, refusal(ErrorKind::Malformed, &why)));
                    }
                    Err(ReceiveError::Closed | ReceiveError::Broken(_)) => alive = false,
                }
            }
        }
        for (id, reply) in replies {
            self.send(tag, &FromVmm::Reply { id, reply }, None, reg);
        }
        if !alive {
            self.drop_client(tag, reg);
        }
        asked
    }

    /// What can be answered at once, and what is asked of the machine.
    fn answer(&self, request: &Request, asker: Asker) -> (Option<Reply>, Option<Asked>) {
        match request {
            Request::State => (Some(Reply::State(self.state)), None),
            Request::PowerButton => (Some(Reply::Done), Some(Asked::PowerButton)),
            Request::Kill => (Some(Reply::Done), Some(Asked::Kill)),
            Request::Pause => (None, Some(Asked::Pause(asker))),
            Request::Resume => (None, Some(Asked::Resume(asker))),
            Request::Counters => (None, Some(Asked::Counters(asker))),
            Request::Configure(_) => {
                let why =
                    "the machine is configured already; start another process for another one";
                (Some(refusal(ErrorKind::State, why)), None)
            }
            _ => {
                let reply = refusal(ErrorKind::Malformed, "unknown request");
                (Some(reply), None)
            }
        }
    }

    /// Answers a request that was handed on.
    pub fn reply(&mut self, asker: Asker, reply: Reply, reg: &mut dyn Register) {
        let id = asker.id;
        self.send(asker.client, &FromVmm::Reply { id, reply }, None, reg);
    }

    /// Refuses a request that was handed on, since it does not fit the machine's state.
    pub fn refuse(&mut self, asker: Asker, why: &str, reg: &mut dyn Register) {
        self.reply(asker, refusal(ErrorKind::State, why), reg);
    }

    /// Answers the supervisor's request to configure.
    pub fn reply_to_supervisor(&mut self, id: u64, reply: Reply, reg: &mut dyn Register) {
        if let Some(tag) = self.supervisor {
            self.send(tag, &FromVmm::Reply { id, reply }, None, reg);
        }
    }

    /// Tells all clients.
    pub fn broadcast(&mut self, event: &Event, reg: &mut dyn Register) {
        let message = FromVmm::Event(event.clone());
        let tags: Vec<Tag> = self.clients.iter().map(|client| client.tag).collect();
        for tag in tags {
            self.send(tag, &message, None, reg);
        }
    }

    /// Hands the supervisor a connection that the guest made. It is closed if nobody takes it.
    pub fn hand_over(&mut self, port: u32, socket: OwnedFd, reg: &mut dyn Register) {
        if let Some(tag) = self.supervisor {
            let event = FromVmm::Event(Event::GuestConnected { port });
            self.send(tag, &event, Some(socket), reg);
        }
    }

    fn accept(&mut self, reg: &mut dyn Register) {
        let Some(listener) = &self.listener else {
            return;
        };
        let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
        let socket = match accept_with(listener, flags) {
            Ok(socket) => socket,
            Err(Errno::AGAIN | Errno::INTR | Errno::CONNABORTED) => return,
            Err(errno) => {
                // Out of descriptors, most likely. The connection still waits, and would be reported
                // again at once and for ever.
                tracing::warn!("no control connection can be accepted: {errno}");
                self.listen(Interest::NONE, reg);
                // Without the timer nobody is accepted any more; the machine goes on.
                let _ = reg.arm(LISTEN_AGAIN, ACCEPT_PAUSE);
                return;
            }
        };
        if self.clients.len() >= MAX_CLIENTS {
            // Closing it is the answer.
            return;
        }
        let tag = self.admit(socket.into());
        let watched = self.clients.last().is_some_and(|client| {
            reg.add(client.connection.as_fd(), Interest::READABLE, tag)
                .is_ok()
        });
        if !watched {
            self.clients.pop();
        }
    }

    fn listen(&self, interest: Interest, reg: &mut dyn Register) {
        if let Some(listener) = &self.listener {
            // It was watched since the start.
            let _ = reg.modify(listener.as_fd(), interest, LISTENER);
        }
    }

    fn send(
        &mut self,
        tag: Tag,
        message: &FromVmm,
        descriptor: Option<OwnedFd>,
        reg: &mut dyn Register,
    ) {
        let Some(client) = self.clients.iter_mut().find(|client| client.tag == tag) else {
            return;
        };
        if client.queue.len() >= MAX_QUEUE {
            tracing::warn!("a control client does not read; its connection is closed");
            self.drop_client(tag, reg);
            return;
        }
        client.queue.push_back(Message {
            bytes: encode(message),
            descriptor,
        });
        if client.queue.len() == 1 && !self.flush(tag, reg) {
            self.drop_client(tag, reg);
        }
    }

    /// Sends what waits for a client; `false` if its connection is broken.
    fn flush(&mut self, tag: Tag, reg: &mut dyn Register) -> bool {
        let Some(client) = self.clients.iter_mut().find(|client| client.tag == tag) else {
            return true;
        };
        while let Some(message) = client.queue.front() {
            let descriptor = message.descriptor.as_ref().map(AsFd::as_fd);
            match client.connection.send(&message.bytes, descriptor) {
                Ok(()) => {
                    client.queue.pop_front();
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                Err(_) => return false,
            }
        }
        let waiting = !client.queue.is_empty();
        if waiting == client.waiting {
            return true;
        }
        client.waiting = waiting;
        let interest = if waiting {
            Interest::READABLE | Interest::WRITABLE
        } else {
            Interest::READABLE
        };
        reg.modify(client.connection.as_fd(), interest, tag).is_ok()
    }

    fn drop_client(&mut self, tag: Tag, reg: &mut dyn Register) {
        if let Some(at) = self.clients.iter().position(|client| client.tag == tag) {
            let client = self.clients.swap_remove(at);
            // Closing it would do, but for what others may hold of the same socket.
            let _ = reg.remove(client.connection.as_fd());
        }
    }
}

fn refusal(kind: ErrorKind, why: &str) -> Reply {
    Reply::Error(VmError {
        kind,
        message: why.to_owned(),
    })
}

#[cfg(test)]
mod tests;
