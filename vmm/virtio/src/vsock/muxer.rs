//! All connections of the machine: which packet belongs to which, and whose turn it is.
//!
//! A connection lives in a *slot*, whose number is in the tags that the event loop carries. Sockets
//! that still owe their first line (`handshake`) have slots as well, so one limit covers all.
//!
//! Who has something for the guest stands in line, once; the front of the line gets one receive
//! buffer, and goes to the back if it has more. Resets for packets that belong to nobody go before
//! everyone. They are the one thing that a guest can make the host remember by sending, so when many
//! wait, the guest's own packets wait until it has taken some.

use std::collections::{HashMap, VecDeque};
use std::io;
use std::os::fd::AsFd;
use std::os::unix::net::UnixStream;
use std::time::{Duration, Instant};

use rustix::net::RecvFlags;

use super::connection::Connection;
use super::device::{Connector, HOST_CID};
use super::handshake::Handshake;
use super::packet::{
    HEADER_BYTES, Header, OP_CREDIT_REQUEST, OP_CREDIT_UPDATE, OP_REQUEST, OP_RESPONSE, OP_RST,
    OP_RW, OP_SHUTDOWN, Ports, TYPE_STREAM,
};
use crate::{Chain, Fault, GuestRam, Interest, Register, Tag};

/// Connections, and sockets that have not said yet which one they want, at the same time.
pub(super) const MAX_SLOTS: usize = 1024;
/// Resets that wait for the guest before its own packets have to.
const RESET_BACKLOG: usize = 256;
/// Resets that are remembered at all; a guest that misses one learns it with its next packet.
const MAX_RESETS: usize = RESET_BACKLOG + 2 * MAX_SLOTS;
/// For the first line of a program on the host, for the guest's answer to a request, and for its
/// reset after both ends are closed.
const PATIENCE: Duration = Duration::from_secs(10);
/// First of the ports that the host's end of its own connections gets.
const FIRST_HOST_PORT: u32 = 1 << 30;

/// Tags from here on belong to slots: two for each, its socket and its timer.
const SLOT_TAGS: u32 = 0x2_0000;

/// A place for a connection.
#[derive(Debug)]
enum Slot {
    Free,
    Greeting(Greeting),
    Connection(Connection),
}

/// A socket that has not said yet what it wants.
#[derive(Debug)]
struct Greeting {
    stream: UnixStream,
    handshake: Handshake,
    deadline: Instant,
}

/// The connections of one device, while it is live.
#[derive(Debug)]
pub(super) struct Muxer {
    cid: u64,
    slots: Vec<Slot>,
    free: Vec<usize>,
    by_ports: HashMap<Ports, usize>,
    /// Slots whose connection has something for the guest.
    line: VecDeque<usize>,
    resets: VecDeque<Header>,
    next_host_port: u32,
    /// [`PATIENCE`], except in tests.
    patience: Duration,
}

fn socket_tag(slot: usize) -> Tag {
    // Slots are fewer than `MAX_SLOTS`.
    Tag(SLOT_TAGS + 2 * u32::try_from(slot).unwrap_or_default())
}

fn timer_tag(slot: usize) -> Tag {
    Tag(socket_tag(slot).0 + 1)
}

impl Muxer {
    pub(super) fn new(cid: u64) -> Self {
        Self {
            cid,
            slots: Vec::new(),
            free: Vec::new(),
            by_ports: HashMap::new(),
            line: VecDeque::new(),
            resets: VecDeque::new(),
            next_host_port: FIRST_HOST_PORT,
            patience: PATIENCE,
        }
    }

    #[cfg(test)]
    pub(super) fn set_patience(&mut self, patience: Duration) {
        self.patience = patience;
    }

    /// Forgets all connections; their sockets are closed. Host ports go on from where they were, so
    /// that a packet of an old connection cannot meet a new one.
    pub(super) fn clear(&mut self) {
        *self = Self {
            next_host_port: self.next_host_port,
            patience: self.patience,
            ..Self::new(self.cid)
        };
    }

    /// Whether another socket can be accepted.
    pub(super) fn has_room(&self) -> bool {
        self.slots.len() - self.free.len() < MAX_SLOTS
    }

    /// Whether the guest's packets can be taken: not while it leaves too many answers lying.
    pub(super) fn takes_packets(&self) -> bool {
        self.resets.len() < RESET_BACKLOG
    }

    /// Whether there is anything for the guest.
    pub(super) fn has_packets(&self) -> bool {
        !self.resets.is_empty() || !self.line.is_empty()
    }

    /// A program on the host has connected to the machine's socket.
    pub(super) fn greet(&mut self, stream: UnixStream, reg: &mut dyn Register) {
        let Some(slot) = self.vacancy() else {
            return;
        };
        let greeting = Greeting {
            stream,
            handshake: Handshake::new(),
            deadline: Instant::now() + self.patience,
        };
        let registered = reg
            .add(
                greeting.stream.as_fd(),
                Interest::READABLE,
                socket_tag(slot),
            )
            .and_then(|()| reg.arm(timer_tag(slot), self.patience));
        self.put(slot, Slot::Greeting(greeting));
        match registered {
            Ok(()) => self.listen_to(slot, reg),
            Err(_) => self.remove(slot, reg),
        }
    }

    /// The loop has something for a slot. Nothing happens if it is for one that has gone.
    pub(super) fn on_tag(&mut self, tag: Tag, reg: &mut dyn Register) {
        let Some(number) = tag.0.checked_sub(SLOT_TAGS) else {
            return;
        };
        let slot = usize::try_from(number / 2).unwrap_or(usize::MAX);
        let timer = number % 2 == 1;
        match self.slots.get_mut(slot) {
            Some(Slot::Greeting(greeting)) => {
                if !timer {
                    self.listen_to(slot, reg);
                } else if Instant::now() >= greeting.deadline {
                    self.remove(slot, reg);
                }
            }
            Some(Slot::Connection(connection)) => {
                if !timer {
                    connection.on_event();
                    self.settle(slot, reg);
                } else if connection.deadline.is_some_and(|at| Instant::now() >= at) {
                    // The guest did not answer, or did not confirm the end; in the second case a
                    // reset would take away what it has not read.
                    let reset = connection.is_requested();
                    self.drop_connection(slot, reset, reg);
                }
            }
            Some(Slot::Free) | None => {}
        }
    }

    /// Reads the first line of a program on the host.
    fn listen_to(&mut self, slot: usize, reg: &mut dyn Register) {
        let Some(Slot::Greeting(greeting)) = self.slots.get_mut(slot) else {
            return;
        };
        match greeting.read() {
            Ok(None) => {}
            Ok(Some(guest_port)) => self.request(slot, guest_port, reg),
            Err(_) => self.remove(slot, reg),
        }
    }

    /// Asks the guest for a connection, for the program in `slot`.
    fn request(&mut self, slot: usize, guest: u32, reg: &mut dyn Register) {
        let host = self.host_port(guest);
        let Some(place) = self.slots.get_mut(slot) else {
            return;
        };
        let Slot::Greeting(greeting) = std::mem::replace(place, Slot::Free) else {
            return;
        };
        let ports = Ports { guest, host };
        let mut connection = Connection::from_host(greeting.stream, ports);
        connection.watch = Some(Interest::READABLE);
        connection.deadline = Some(Instant::now() + self.patience);
        *place = Slot::Connection(connection);
        self.by_ports.insert(ports, slot);
        if reg.arm(timer_tag(slot), self.patience).is_err() {
            return self.drop_connection(slot, false, reg);
        }
        self.settle(slot, reg);
    }

    /// A host port that is in no connection with this port of the guest.
    fn host_port(&mut self, guest: u32) -> u32 {
        loop {
            let host = self.next_host_port;
            // The last number means "any port".
            self.next_host_port = match host {
                0xffff_fffe => FIRST_HOST_PORT,
                other => other + 1,
            };
            // There are far more ports than slots, so this ends.
            if !self.by_ports.contains_key(&Ports { guest, host }) {
                return host;
            }
        }
    }

    /// Takes one packet of the guest.
    pub(super) fn receive(
        &mut self,
        mem: &GuestRam,
        chain: &Chain,
        connector: &mut dyn Connector,
        reg: &mut dyn Register,
    ) -> Result<(), Fault> {
        let payload = chain
            .readable_len()
            .checked_sub(HEADER_BYTES)
            .ok_or_else(|| malformed("a packet without a whole header"))?;
        let mut raw = [0; HEADER_BYTES as usize];
        chain.read_at(mem, 0, &mut raw)?;
        let header = Header::decode(&raw);
        if header.len > payload {
            return Err(malformed("a packet that says it is longer than it is"));
        }
        if header.src_cid != self.cid {
            // Not an address of this guest. Answers would go to the wrong one.
            return Ok(());
        }
        if header.dst_cid != HOST_CID || header.socket_type != TYPE_STREAM {
            self.refuse(&header);
            return Ok(());
        }
        let ports = header.ports_from_guest();
        match self.by_ports.get(&ports).copied() {
            Some(slot) => self.receive_on(slot, mem, chain, &header, reg),
            None if header.op == OP_REQUEST => {
                self.grant(&header, connector, reg);
                Ok(())
            }
            None => {
                self.refuse(&header);
                Ok(())
            }
        }
    }

    /// Takes a packet of a connection that exists.
    fn receive_on(
        &mut self,
        slot: usize,
        mem: &GuestRam,
        chain: &Chain,
        header: &Header,
        reg: &mut dyn Register,
    ) -> Result<(), Fault> {
        let Some(Slot::Connection(connection)) = self.slots.get_mut(slot) else {
            return Ok(());
        };
        connection.hear_credit(header);
        let in_order = match (header.op, connection.is_requested()) {
            (OP_RST, _) => {
                self.forget(slot, reg);
                return Ok(());
            }
            (OP_RESPONSE, true) => {
                connection.deadline = None;
                reg.disarm(timer_tag(slot));
                let greeting = Handshake::accepted(header.dst_port);
                connection.establish(greeting.as_bytes()).is_ok()
            }
            (OP_RW, false) => connection.receive(mem, chain, header.len)?.is_ok(),
            (OP_SHUTDOWN, false) => {
                connection.hear_shutdown(header.flags);
                if connection.guest_is_done() {
                    self.refuse(header);
                    self.forget(slot, reg);
                    return Ok(());
                }
                true
            }
            (OP_CREDIT_UPDATE, false) => true,
            (OP_CREDIT_REQUEST, false) => {
                connection.owe_credit();
                true
            }
            _ => false,
        };
        if in_order {
            self.settle(slot, reg);
        } else {
            self.drop_connection(slot, true, reg);
        }
        Ok(())
    }

    /// Grants the guest a connection to the host, if there is something to connect it to.
    fn grant(&mut self, request: &Header, connector: &mut dyn Connector, reg: &mut dyn Register) {
        let Some(slot) = self.vacancy() else {
            return self.refuse(request);
        };
        match connector.connect(request.dst_port) {
            Ok(stream) => {
                let ports = request.ports_from_guest();
                self.put(
                    slot,
                    Slot::Connection(Connection::from_guest(stream, request)),
                );
                self.by_ports.insert(ports, slot);
                self.settle(slot, reg);
            }
            Err(error) => {
                tracing::debug!(port = request.dst_port, %error, "nobody serves the guest's request");
                self.free.push(slot);
                self.refuse(request);
            }
        }
    }

    /// Owes the guest a reset for a packet, unless that was one.
    fn refuse(&mut self, packet: &Header) {
        if packet.op != OP_RST {
            self.owe_reset(packet.reset_for());
        }
    }

    fn owe_reset(&mut self, reset: Header) {
        if self.resets.len() < MAX_RESETS {
            self.resets.push_back(reset);
        }
    }

    /// Fills a receive buffer of the guest with the next packet. Returns how many bytes of it, or
    /// `None` when nobody has anything to send.
    pub(super) fn transmit(
        &mut self,
        mem: &GuestRam,
        chain: &Chain,
        reg: &mut dyn Register,
    ) -> Result<Option<u32>, Fault> {
        if chain.writable_len() <= HEADER_BYTES {
            return Err(malformed("a receive buffer without room for a payload"));
        }
        if let Some(reset) = self.resets.pop_front() {
            chain.write_at(mem, 0, &reset.encode())?;
            return Ok(Some(HEADER_BYTES));
        }
        while let Some(slot) = self.line.pop_front() {
            let Some(Slot::Connection(connection)) = self.slots.get_mut(slot) else {
                continue;
            };
            connection.queued = false;
            let written = connection.emit(self.cid, mem, chain)?;
            if connection.is_closing() && connection.deadline.is_none() {
                connection.deadline = Some(Instant::now() + self.patience);
                // Without the timer the slot stays taken until the guest confirms.
                let _ = reg.arm(timer_tag(slot), self.patience);
            }
            self.settle(slot, reg);
            if written.is_some() {
                return Ok(written);
            }
        }
        Ok(None)
    }

    /// After anything happened to a connection: puts it in line if it has something to send, and
    /// has the loop watch its socket for what it waits for.
    fn settle(&mut self, slot: usize, reg: &mut dyn Register) {
        let Some(Slot::Connection(connection)) = self.slots.get_mut(slot) else {
            return;
        };
        if connection.is_finished() {
            return self.remove(slot, reg);
        }
        if connection.is_requested() && connection.is_hung_up() {
            return self.drop_connection(slot, true, reg);
        }
        if connection.wants_turn() && !connection.queued {
            connection.queued = true;
            self.line.push_back(slot);
        }
        // In line, it will be read from soon: telling the loop not to watch for that would only cost
        // a system call, twice. `park` does it for those whose turn does not come.
        let wanted = connection.interest();
        let soon = Some(wanted.unwrap_or_default() | Interest::READABLE);
        if connection.queued && wanted.is_some() && soon == connection.watch {
            return;
        }
        self.watch(slot, reg);
    }

    /// Nobody can be given their turn for now: has the loop watch no socket whose bytes have
    /// nowhere to go.
    pub(super) fn park(&mut self, reg: &mut dyn Register) {
        for slot in self.line.iter().copied().collect::<Vec<_>>() {
            self.watch(slot, reg);
        }
    }

    /// Has the loop watch a connection's socket for what it now waits for.
    fn watch(&mut self, slot: usize, reg: &mut dyn Register) {
        let Some(Slot::Connection(connection)) = self.slots.get_mut(slot) else {
            return;
        };
        let wanted = connection.interest();
        if wanted == connection.watch {
            return;
        }
        let done = match (connection.watch, wanted) {
            (None, Some(interest)) => reg.add(connection.fd(), interest, socket_tag(slot)),
            (Some(_), Some(interest)) => reg.modify(connection.fd(), interest, socket_tag(slot)),
            (_, None) => reg.remove(connection.fd()),
        };
        match done {
            Ok(()) => connection.watch = wanted,
            Err(error) => {
                tracing::warn!(%error, "cannot watch a vsock connection: resetting it");
                self.drop_connection(slot, true, reg);
            }
        }
    }

    /// The guest has forgotten the connection. What it sent still goes to its reader.
    fn forget(&mut self, slot: usize, reg: &mut dyn Register) {
        let Some(Slot::Connection(connection)) = self.slots.get_mut(slot) else {
            return;
        };
        self.by_ports.remove(&connection.ports);
        connection.deadline = None;
        reg.disarm(timer_tag(slot));
        connection.orphan();
        self.settle(slot, reg);
    }

    /// Ends a connection from this side, telling the guest or not.
    fn drop_connection(&mut self, slot: usize, reset: bool, reg: &mut dyn Register) {
        if let (true, Some(Slot::Connection(connection))) = (reset, self.slots.get(slot)) {
            let header = Header::to_guest(self.cid, connection.ports, OP_RST);
            self.owe_reset(header);
        }
        self.remove(slot, reg);
    }

    /// Frees a slot; the socket in it is closed.
    fn remove(&mut self, slot: usize, reg: &mut dyn Register) {
        let Some(place) = self.slots.get_mut(slot) else {
            return;
        };
        let watched = match place {
            Slot::Free => return,
            Slot::Greeting(greeting) => Some(greeting.stream.as_fd()),
            Slot::Connection(connection) => {
                if self.by_ports.get(&connection.ports) == Some(&slot) {
                    self.by_ports.remove(&connection.ports);
                }
                if connection.queued {
                    self.line.retain(|queued| *queued != slot);
                }
                connection.watch.map(|_| connection.fd())
            }
        };
        if let Some(fd) = watched {
            // Closing it below would do, if the loop did not keep its own books.
            let _ = reg.remove(fd);
        }
        reg.disarm(timer_tag(slot));
        *place = Slot::Free;
        self.free.push(slot);
    }

    /// A free slot, if the limit allows one.
    fn vacancy(&mut self) -> Option<usize> {
        if let Some(slot) = self.free.pop() {
            return Some(slot);
        }
        if self.slots.len() >= MAX_SLOTS {
            return None;
        }
        self.slots.push(Slot::Free);
        Some(self.slots.len() - 1)
    }

    fn put(&mut self, slot: usize, content: Slot) {
        if let Some(place) = self.slots.get_mut(slot) {
            *place = content;
        }
    }
}

impl Greeting {
    /// Takes what has come of the line, and nothing that comes after it.
    fn read(&mut self) -> io::Result<Option<u32>> {
        let mut window = [0; Handshake::WINDOW];
        loop {
            let flags = RecvFlags::DONTWAIT | RecvFlags::PEEK;
            let seen = match recv(&self.stream, &mut window, flags) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(None),
                Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
                other => other?,
            };
            let seen = window.get(..seen).unwrap_or_default();
            let (used, port) = self
                .handshake
                .push(seen)
                .map_err(|_| io::ErrorKind::InvalidData)?;
            let taken = window.get_mut(..used).unwrap_or_default();
            recv(&self.stream, taken, RecvFlags::DONTWAIT)?;
            if port.is_some() {
                return Ok(port);
            }
        }
    }
}

fn recv(stream: &UnixStream, into: &mut [u8], flags: RecvFlags) -> io::Result<usize> {
    let received =
        rustix::io::retry_on_intr(|| rustix::net::recv(stream, &mut *into, flags).map(|(n, _)| n));
    Ok(received?)
}

fn malformed(problem: &'static str) -> Fault {
    Fault::Malformed {
        device: "vsock",
        problem,
    }
}
