//! Waiting for descriptors and timers, and saying whose turn it is.
//!
//! Each participant has a *slot*. What it registers is tied to that slot and to the slot's current
//! *generation*; forgetting a participant's registrations starts a new generation, and an event that
//! was collected before then is recognised as stale and dropped. So an event never reaches a device
//! that has been reset since, however the descriptors were reused.
//!
//! Everything is level-triggered: an event that nobody handled comes again.

mod mailbox;

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, RawFd};
use std::time::{Duration, Instant};

use vmm_sys_util::epoll::{ControlOperation, Epoll, EpollEvent, EventSet};
use vmm_virtio::{Interest, Register, Tag};

pub use mailbox::{Mailbox, PostError};

/// Descriptors reported by one wait; what does not fit is reported by the next.
const BATCH: usize = 32;

/// A participant's place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SlotId(u16);

/// An event, for whom and since when.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Token {
    slot: u16,
    generation: u16,
    tag: u32,
}

impl Token {
    /// Whose event it is.
    pub fn slot(self) -> SlotId {
        SlotId(self.slot)
    }

    /// What it means to them.
    pub fn tag(self) -> Tag {
        Tag(self.tag)
    }

    fn pack(self) -> u64 {
        u64::from(self.slot) << 48 | u64::from(self.generation) << 32 | u64::from(self.tag)
    }

    fn unpack(data: u64) -> Self {
        let [s1, s0, g1, g0, tag @ ..] = data.to_be_bytes();
        Self {
            slot: u16::from_be_bytes([s1, s0]),
            generation: u16::from_be_bytes([g1, g0]),
            tag: u32::from_be_bytes(tag),
        }
    }
}

#[derive(Debug, Default)]
struct Slot {
    generation: u16,
    descriptors: BTreeSet<RawFd>,
    timers: BTreeMap<Tag, Instant>,
}

/// The loop's waiting half. Its owner calls [`EventLoop::wait`] and hands each event on.
#[derive(Debug)]
pub struct EventLoop {
    epoll: Epoll,
    slots: Vec<Slot>,
    /// Deadlines of all slots, earliest first.
    deadlines: BTreeSet<(Instant, Token)>,
}

impl EventLoop {
    /// A loop without participants.
    pub fn new() -> io::Result<Self> {
        Ok(Self {
            epoll: Epoll::new()?,
            slots: Vec::new(),
            deadlines: BTreeSet::new(),
        })
    }

    /// A place for one more participant.
    pub fn slot(&mut self) -> io::Result<SlotId> {
        let id = u16::try_from(self.slots.len()).map_err(io::Error::other)?;
        self.slots.push(Slot::default());
        Ok(SlotId(id))
    }

    /// The loop as that participant sees it.
    pub fn register(&mut self, slot: SlotId) -> Registrar<'_> {
        Registrar { owner: self, slot }
    }

    /// Forgets all that a participant registered. Events of it that were collected already are stale.
    pub fn forget(&mut self, slot: SlotId) {
        let Some(state) = self.slots.get_mut(usize::from(slot.0)) else {
            return;
        };
        for fd in std::mem::take(&mut state.descriptors) {
            // A descriptor that was closed meanwhile is no longer watched anyway.
            let _ = self
                .epoll
                .ctl(ControlOperation::Delete, fd, EpollEvent::default());
        }
        let generation = state.generation;
        for (tag, deadline) in std::mem::take(&mut state.timers) {
            let token = Token {
                slot: slot.0,
                generation,
                tag: tag.0,
            };
            self.deadlines.remove(&(deadline, token));
        }
        state.generation = generation.wrapping_add(1);
    }

    /// Whether the participant has not been forgotten since the event was collected.
    pub fn is_current(&self, token: Token) -> bool {
        self.slots
            .get(usize::from(token.slot))
            .is_some_and(|slot| slot.generation == token.generation)
    }

    /// Waits until something happens, and appends what did. Check each with
    /// [`EventLoop::is_current`] when its turn comes.
    pub fn wait(&mut self, events: &mut Vec<Token>) -> io::Result<()> {
        let mut batch = [EpollEvent::default(); BATCH];
        let count = match self.epoll.wait(self.timeout(), &mut batch) {
            Ok(count) => count,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => 0,
            Err(error) => return Err(error),
        };
        events.extend(batch.iter().take(count).map(|e| Token::unpack(e.data())));
        self.expire(events);
        Ok(())
    }

    /// Milliseconds until the first deadline, rounded up so that it has passed then.
    fn timeout(&self) -> i32 {
        let Some((deadline, _)) = self.deadlines.first() else {
            return -1;
        };
        let left = deadline.saturating_duration_since(Instant::now());
        i32::try_from(left.as_nanos().div_ceil(1_000_000)).unwrap_or(i32::MAX)
    }

    fn expire(&mut self, events: &mut Vec<Token>) {
        if self.deadlines.is_empty() {
            return;
        }
        let now = Instant::now();
        while let Some((deadline, token)) = self.deadlines.first().copied() {
            if deadline > now {
                break;
            }
            self.deadlines.pop_first();
            if let Some(slot) = self.slots.get_mut(usize::from(token.slot)) {
                slot.timers.remove(&token.tag());
            }
            events.push(token);
        }
    }
}

/// The loop as one participant sees it: nothing of the others.
#[derive(Debug)]
pub struct Registrar<'a> {
    owner: &'a mut EventLoop,
    slot: SlotId,
}

impl Registrar<'_> {
    fn state(&mut self) -> io::Result<&mut Slot> {
        self.owner
            .slots
            .get_mut(usize::from(self.slot.0))
            .ok_or_else(|| io::ErrorKind::NotFound.into())
    }

    fn token(&mut self, tag: Tag) -> io::Result<Token> {
        Ok(Token {
            slot: self.slot.0,
            generation: self.state()?.generation,
            tag: tag.0,
        })
    }

    fn control(
        &mut self,
        operation: ControlOperation,
        fd: RawFd,
        interest: Interest,
        tag: Tag,
    ) -> io::Result<()> {
        let mut events = EventSet::empty();
        events.set(EventSet::IN, interest.contains(Interest::READABLE));
        events.set(EventSet::OUT, interest.contains(Interest::WRITABLE));
        let event = EpollEvent::new(events, self.token(tag)?.pack());
        self.owner.epoll.ctl(operation, fd, event)
    }
}

impl Register for Registrar<'_> {
    fn add(&mut self, fd: BorrowedFd<'_>, interest: Interest, tag: Tag) -> io::Result<()> {
        let fd = fd.as_raw_fd();
        self.control(ControlOperation::Add, fd, interest, tag)?;
        self.state()?.descriptors.insert(fd);
        Ok(())
    }

    fn modify(&mut self, fd: BorrowedFd<'_>, interest: Interest, tag: Tag) -> io::Result<()> {
        self.control(ControlOperation::Modify, fd.as_raw_fd(), interest, tag)
    }

    fn remove(&mut self, fd: BorrowedFd<'_>) -> io::Result<()> {
        let fd = fd.as_raw_fd();
        self.state()?.descriptors.remove(&fd);
        let nothing = EpollEvent::default();
        self.owner.epoll.ctl(ControlOperation::Delete, fd, nothing)
    }

    fn arm(&mut self, tag: Tag, after: Duration) -> io::Result<()> {
        self.disarm(tag);
        let deadline = Instant::now()
            .checked_add(after)
            .ok_or(io::ErrorKind::InvalidInput)?;
        let token = self.token(tag)?;
        self.state()?.timers.insert(tag, deadline);
        self.owner.deadlines.insert((deadline, token));
        Ok(())
    }

    fn disarm(&mut self, tag: Tag) {
        let Ok(token) = self.token(tag) else {
            return;
        };
        if let Ok(state) = self.state()
            && let Some(deadline) = state.timers.remove(&tag)
        {
            self.owner.deadlines.remove(&(deadline, token));
        }
    }
}

#[cfg(test)]
mod tests;
