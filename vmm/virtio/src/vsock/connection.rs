//! One connection, and the credit that bounds it.
//!
//! Both sides follow the same rule. Each says in every packet how many bytes it can hold for this
//! connection (`buf_alloc`) and how many it has passed on so far (`fwd_cnt`); the other side counts
//! what it has sent and may send
//!
//! ```text
//!     buf_alloc - (sent - fwd_cnt)
//! ```
//!
//! more bytes, all counts modulo 2^32. So nobody ever has to hold more than it offered, and nobody
//! has to refuse a packet.
//!
//! **Host to guest.** Bytes go from the socket straight into the guest's receive buffer, as many as
//! the guest's credit allows. Without credit, or without a buffer, they stay in the socket and its
//! writer waits; nothing is held here.
//!
//! **Guest to host.** Bytes go from the guest's buffer straight into the socket. What the socket does
//! not take is copied into `waiting`, and the guest's buffer is given back, because other
//! connections' packets are behind it in the queue. `fwd_cnt` counts only what the socket took, so
//! `waiting` stays within the `buf_alloc` that was promised; a guest that sends more has broken its
//! word, and the connection is reset.
//!
//! **Ends.** Each direction ends by itself. When the socket's writer ends, the guest is told that no
//! more will be sent; when the guest ends its side, the socket is shut down for writing once
//! `waiting` is empty. When the guest has ended both, it has forgotten the connection: it gets its
//! reset at once and what is still waiting goes on to the socket as an *orphan*. When the host's
//! program has gone, the guest is told of both ends and answers with a reset as soon as it has read
//! everything. Resetting it sooner would take those bytes away from it.

use std::collections::VecDeque;
use std::io;
use std::net::Shutdown;
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::net::UnixStream;
use std::time::Instant;

use rustix::event::{PollFd, PollFlags, Timespec, poll};

use super::packet::{
    HEADER_BYTES, Header, OP_CREDIT_UPDATE, OP_REQUEST, OP_RESPONSE, OP_RW, OP_SHUTDOWN, Ports,
    SHUTDOWN_BOTH, SHUTDOWN_RECEIVE, SHUTDOWN_SEND,
};
use crate::iov::{self, Iovecs};
use crate::{Chain, Fault, GuestRam, Interest};

/// Bytes held for the guest at most, on one connection: what Linux guests offer us, too.
pub(super) const BUF_ALLOC: u32 = 256 << 10;
/// The guest is told of new credit when this much has come together.
const CREDIT_STEP: u32 = BUF_ALLOC / 2;
/// Bytes in one packet to the guest at most, so that others have their turn.
const MAX_PAYLOAD: u32 = 64 << 10;

/// The guest did on a connection what no driver does: the connection is reset.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Violation;

/// How far a connection has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    /// The host asked; the guest has not answered.
    Requested,
    /// Data may go both ways.
    Established,
    /// The guest has forgotten it; only what waits for the socket is left.
    Orphan,
}

/// A connection and its socket.
#[derive(Debug)]
pub(super) struct Connection {
    pub(super) ports: Ports,
    /// Whether it is in line for its turn to send to the guest.
    pub(super) queued: bool,
    /// What the event loop watches the socket for; `None`: it does not know the socket.
    pub(super) watch: Option<Interest>,
    /// When to give up waiting for the guest's answer.
    pub(super) deadline: Option<Instant>,
    stream: UnixStream,
    phase: Phase,
    to_guest: ToGuest,
    to_host: ToHost,
    owed: Owed,
    /// The socket's other end is closed in both directions.
    hung_up: bool,
    /// Shutdown flags that the guest has been told.
    told: u32,
}

/// Host to guest.
#[derive(Debug, Default)]
struct ToGuest {
    /// Bytes sent, modulo 2^32.
    sent: u32,
    /// The guest's `fwd_cnt`.
    forwarded: u32,
    /// The guest's `buf_alloc`.
    buf_alloc: u32,
    /// The socket may have something to read.
    readable: bool,
    /// The socket's writer has ended.
    ended: bool,
    /// The guest receives no more.
    refused: bool,
}

/// Guest to host.
#[derive(Debug, Default)]
struct ToHost {
    /// Bytes that the socket did not take yet.
    waiting: VecDeque<u8>,
    /// Bytes passed on, modulo 2^32: our `fwd_cnt`.
    forwarded: u32,
    /// The `fwd_cnt` that the guest last heard.
    told: u32,
    /// The guest sends no more.
    ended: bool,
    /// The socket takes no more.
    closed: bool,
    /// The socket has been told of the end.
    shut: bool,
}

/// Packets that the guest is to get.
#[derive(Debug, Default)]
struct Owed {
    request: bool,
    response: bool,
    credit: bool,
}

impl Connection {
    /// The guest asked for this one with `request`, and it is granted.
    pub(super) fn from_guest(stream: UnixStream, request: &Header) -> Self {
        let mut connection = Self::new(stream, request.ports_from_guest(), Phase::Established);
        connection.owed.response = true;
        connection.hear_credit(request);
        connection
    }

    /// The host asks for this one.
    pub(super) fn from_host(stream: UnixStream, ports: Ports) -> Self {
        let mut connection = Self::new(stream, ports, Phase::Requested);
        connection.owed.request = true;
        connection
    }

    fn new(stream: UnixStream, ports: Ports, phase: Phase) -> Self {
        Self {
            ports,
            queued: false,
            watch: None,
            deadline: None,
            stream,
            phase,
            to_guest: ToGuest {
                // Finding out costs one call, and saves a round through the event loop.
                readable: true,
                ..ToGuest::default()
            },
            to_host: ToHost::default(),
            owed: Owed::default(),
            hung_up: false,
            told: 0,
        }
    }

    pub(super) fn fd(&self) -> BorrowedFd<'_> {
        self.stream.as_fd()
    }

    pub(super) fn is_requested(&self) -> bool {
        self.phase == Phase::Requested
    }

    pub(super) fn is_hung_up(&self) -> bool {
        self.hung_up
    }

    /// The guest has been told of both ends, and only its reset is missing.
    pub(super) fn is_closing(&self) -> bool {
        self.told == SHUTDOWN_BOTH
    }

    /// An orphan that has nothing left to do.
    pub(super) fn is_finished(&self) -> bool {
        self.phase == Phase::Orphan && self.to_host.waiting.is_empty()
    }

    /// The guest granted what the host asked for: the program on the host may begin.
    pub(super) fn establish(&mut self, greeting: &[u8]) -> io::Result<()> {
        let mut pieces = Iovecs::new();
        pieces.push_bytes(greeting);
        // A new socket has room for a line; if not, whoever made it does not read.
        if iov::send(self.fd(), &pieces)? != greeting.len() {
            return Err(io::ErrorKind::WriteZero.into());
        }
        self.phase = Phase::Established;
        Ok(())
    }

    /// The guest has forgotten this connection.
    pub(super) fn orphan(&mut self) {
        self.phase = Phase::Orphan;
        self.to_host.ended = true;
        self.flush();
    }

    /// Every packet from the guest carries its credit.
    pub(super) fn hear_credit(&mut self, header: &Header) {
        let to_guest = &mut self.to_guest;
        to_guest.buf_alloc = header.buf_alloc;
        // Two threads of a guest may send in another order than they counted, so the count may go
        // back a little; and it can never be ahead of what was sent. Both are let pass unheard.
        let advance = header.fwd_cnt.wrapping_sub(to_guest.forwarded);
        if advance <= to_guest.sent.wrapping_sub(to_guest.forwarded) {
            to_guest.forwarded = header.fwd_cnt;
        }
    }

    /// The guest wants to hear ours.
    pub(super) fn owe_credit(&mut self) {
        self.owed.credit = true;
    }

    /// Bytes that the guest is willing to take.
    fn credit(&self) -> u32 {
        let in_flight = self.to_guest.sent.wrapping_sub(self.to_guest.forwarded);
        self.to_guest.buf_alloc.saturating_sub(in_flight)
    }

    /// Whether bytes from the socket have somewhere to go.
    fn may_read(&self) -> bool {
        self.phase == Phase::Established
            && !self.to_guest.ended
            && !self.to_guest.refused
            && self.credit() > 0
    }

    /// What the socket should be watched for. Nothing is watched for that is not wanted: a condition
    /// that nobody acts on would wake the loop again and again.
    pub(super) fn interest(&self) -> Option<Interest> {
        if self.hung_up {
            return None;
        }
        let mut interest = Interest::NONE;
        if !self.to_host.waiting.is_empty() {
            interest = interest | Interest::WRITABLE;
        }
        if self.may_read() && !self.to_guest.readable {
            interest = interest | Interest::READABLE;
        }
        Some(interest)
    }

    /// The socket is ready for something.
    pub(super) fn on_event(&mut self) {
        self.flush();
        let watched = self.watch.unwrap_or_default();
        if watched.contains(Interest::READABLE) && self.may_read() {
            self.to_guest.readable = true;
        } else {
            // Not what was asked for, so it may be the hang-up that is always reported.
            self.look_for_hang_up();
        }
    }

    /// Whether there is something to send to the guest.
    pub(super) fn wants_turn(&self) -> bool {
        self.phase != Phase::Orphan
            && (self.owed.request
                || self.owed.response
                || self.owed.credit
                || self.owed_shutdown() != 0
                || (self.to_guest.readable && self.may_read()))
    }

    /// Fills one receive buffer of the guest. Returns how many bytes of it, or `None` if there was
    /// nothing to send after all. The buffer has room for a header and some payload.
    pub(super) fn emit(
        &mut self,
        cid: u64,
        mem: &GuestRam,
        chain: &Chain,
    ) -> Result<Option<u32>, Fault> {
        let mut header = Header::to_guest(cid, self.ports, 0);
        if std::mem::take(&mut self.owed.request) {
            header.op = OP_REQUEST;
        } else if std::mem::take(&mut self.owed.response) {
            header.op = OP_RESPONSE;
        } else if let Some(len) = self.read(mem, chain)? {
            header.op = OP_RW;
            header.len = len;
        } else if self.owed_shutdown() != 0 {
            header.op = OP_SHUTDOWN;
            header.flags = self.shutdown_flags();
            self.told = header.flags;
        } else if self.owed.credit {
            header.op = OP_CREDIT_UPDATE;
        } else {
            return Ok(None);
        }
        header.buf_alloc = BUF_ALLOC;
        header.fwd_cnt = self.to_host.forwarded;
        self.to_host.told = self.to_host.forwarded;
        self.owed.credit = false;
        chain.write_at(mem, 0, &header.encode())?;
        Ok(Some(HEADER_BYTES + header.len))
    }

    /// Reads from the socket into the payload part of a receive buffer.
    fn read(&mut self, mem: &GuestRam, chain: &Chain) -> Result<Option<u32>, Fault> {
        if !self.to_guest.readable || !self.may_read() {
            return Ok(None);
        }
        let room = chain.writable_len().saturating_sub(HEADER_BYTES);
        let most = room.min(self.credit()).min(MAX_PAYLOAD);
        let most = usize::try_from(most).unwrap_or_default();
        let pieces = chain.writable_iovecs(mem, HEADER_BYTES, most)?;
        match iov::recv(self.fd(), &pieces) {
            Ok(0) => {
                self.to_guest.ended = true;
                self.look_for_hang_up();
            }
            Ok(bytes) => {
                // Less than there was room for: that was all of it, or the loop will tell. After a
                // hang-up it would not, but then there is at least the end to read.
                self.to_guest.readable = self.hung_up || bytes == pieces.bytes();
                let bytes = u32::try_from(bytes).unwrap_or(u32::MAX);
                self.to_guest.sent = self.to_guest.sent.wrapping_add(bytes);
                return Ok(Some(bytes));
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock && !self.hung_up => {
                self.to_guest.readable = false;
            }
            Err(_) => {
                self.to_guest.ended = true;
                self.hang_up();
            }
        }
        Ok(None)
    }

    /// Takes `len` bytes of payload from a packet of the guest.
    pub(super) fn receive(
        &mut self,
        mem: &GuestRam,
        chain: &Chain,
        len: u32,
    ) -> Result<Result<(), Violation>, Fault> {
        let waiting = u32::try_from(self.to_host.waiting.len()).unwrap_or(u32::MAX);
        let held = waiting.checked_add(len);
        if self.phase != Phase::Established
            || self.to_host.ended
            || held.is_none_or(|held| held > BUF_ALLOC)
        {
            return Ok(Err(Violation));
        }
        let mut done = 0;
        while done < len && waiting == 0 && !self.to_host.closed {
            let left = usize::try_from(len - done).unwrap_or_default();
            let pieces = chain.readable_iovecs(mem, HEADER_BYTES + done, left)?;
            match iov::send(self.fd(), &pieces) {
                Ok(bytes) => {
                    done += u32::try_from(bytes).unwrap_or(u32::MAX).min(len - done);
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                Err(_) => self.close_to_host(),
            }
        }
        self.forward(done);
        if self.to_host.closed {
            // Nobody reads it any more; the guest is told, and may not have heard yet.
            self.forward(len - done);
            return Ok(Ok(()));
        }
        let mut piece = [0; 4096];
        while done < len {
            let here = usize::try_from(len - done)
                .unwrap_or(piece.len())
                .min(piece.len());
            let piece = piece.get_mut(..here).unwrap_or_default();
            chain.read_at(mem, HEADER_BYTES + done, piece)?;
            self.to_host.waiting.extend(piece.iter());
            done += u32::try_from(here).unwrap_or(u32::MAX);
        }
        Ok(Ok(()))
    }

    /// The guest ends one or both directions.
    pub(super) fn hear_shutdown(&mut self, flags: u32) {
        if flags & SHUTDOWN_RECEIVE != 0 && !self.to_guest.refused {
            self.to_guest.refused = true;
            // A socket that is gone already has nothing to be told.
            let _ = self.stream.shutdown(Shutdown::Read);
        }
        if flags & SHUTDOWN_SEND != 0 {
            self.to_host.ended = true;
            self.flush();
        }
    }

    /// Whether the guest has ended both directions.
    pub(super) fn guest_is_done(&self) -> bool {
        self.to_guest.refused && self.to_host.ended
    }

    /// Moves what waits on to the socket, and passes the guest's end on after the last of it.
    pub(super) fn flush(&mut self) {
        while !self.to_host.waiting.is_empty() {
            let (front, back) = self.to_host.waiting.as_slices();
            let mut pieces = Iovecs::new();
            pieces.push_bytes(front);
            pieces.push_bytes(back);
            match iov::send(self.stream.as_fd(), &pieces) {
                Ok(bytes) => {
                    self.to_host.waiting.drain(..bytes);
                    self.forward(u32::try_from(bytes).unwrap_or(u32::MAX));
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return,
                Err(_) => self.close_to_host(),
            }
        }
        // Most connections never need it again, so the memory goes back.
        self.to_host.waiting = VecDeque::new();
        if self.to_host.ended && !self.to_host.shut {
            self.to_host.shut = true;
            // As above.
            let _ = self.stream.shutdown(Shutdown::Write);
        }
    }

    /// The socket takes nothing any more: what waits for it counts as passed on.
    fn close_to_host(&mut self) {
        self.to_host.closed = true;
        let lost = std::mem::take(&mut self.to_host.waiting).len();
        self.forward(u32::try_from(lost).unwrap_or(u32::MAX));
    }

    fn forward(&mut self, bytes: u32) {
        let to_host = &mut self.to_host;
        to_host.forwarded = to_host.forwarded.wrapping_add(bytes);
        if to_host.forwarded.wrapping_sub(to_host.told) >= CREDIT_STEP {
            self.owed.credit = true;
        }
    }

    fn look_for_hang_up(&mut self) {
        let gone = PollFlags::HUP | PollFlags::ERR;
        let mut fds = [PollFd::new(&self.stream, PollFlags::empty())];
        let now = Timespec::default();
        let found = rustix::io::retry_on_intr(|| poll(&mut fds, Some(&now)));
        let [fd] = &fds;
        if found.is_err() || fd.revents().intersects(gone) {
            self.hang_up();
        }
    }

    /// The socket's other end is gone. Its last bytes, and its end, can be read without waiting.
    fn hang_up(&mut self) {
        self.hung_up = true;
        self.to_guest.readable = true;
        if !self.to_host.waiting.is_empty() {
            self.close_to_host();
        }
    }

    /// The ends as they are now, as the guest should know them.
    fn shutdown_flags(&self) -> u32 {
        let mut flags = 0;
        if self.to_guest.ended {
            flags |= SHUTDOWN_SEND;
        }
        if self.to_host.closed {
            flags |= SHUTDOWN_RECEIVE;
        }
        let nothing_left = self.to_host.shut || self.hung_up;
        if self.to_guest.ended && nothing_left {
            flags |= SHUTDOWN_BOTH;
        }
        flags
    }

    /// Flags that the guest has not been told, and is there to be told.
    fn owed_shutdown(&self) -> u32 {
        match self.phase {
            Phase::Established => self.shutdown_flags() & !self.told,
            Phase::Requested | Phase::Orphan => 0,
        }
    }
}
