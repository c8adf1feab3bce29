//! What a device is, and what it may ask of the event loop that drives it.
//!
//! ```text
//!            start(Live)                     ready(tag), any number of times
//!  stopped ──────────────> started ────────────────────────────────────────┐
//!     ^                       │  ^                                           │
//!     │        stop()         │  └───────────────────────────────────────────┘
//!     └───────────────────────┘  Err(Fault): the loop calls stop() and marks it NEEDS_RESET
//! ```
//!
//! Queues are values. They move into the device on `start` and back out on `stop`, so a stopped
//! device holds no ring, and activation, reset and everything that needs a quiet device are these
//! two verbs. A device belongs to exactly one event loop; no vCPU thread ever calls it.

use std::io;
use std::num::NonZeroUsize;
use std::ops::BitOr;
use std::os::fd::BorrowedFd;
use std::sync::Arc;
use std::time::Duration;

use crate::{Chain, ConfigSpace, Fault, GuestRam, Irq, Queue};

/// What does not change about a device.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Spec {
    /// Virtio device id (virtio 1.2, section 5).
    pub kind: u32,
    /// Name for logs, metrics and thread names.
    pub name: &'static str,
    /// Feature bits that the device offers, [`crate::COMMON_FEATURES`] among them.
    pub features: u64,
    /// Most descriptors of each queue, in queue order.
    pub queue_sizes: Vec<u16>,
    /// Which loop drives it.
    pub placement: Placement,
}

/// Which event loop drives a device.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Placement {
    /// The main loop, with others: nothing the device does may block.
    Shared,
    /// A thread of its own, because its system calls block.
    Own,
}

/// All that a device is given for one life, from `start` to `stop`.
#[derive(Debug)]
pub struct Live {
    /// The guest's memory.
    pub mem: GuestRam,
    /// Its way to the guest.
    pub irq: Irq,
    /// The negotiated feature bits.
    pub features: u64,
    /// One for each entry of [`Spec::queue_sizes`].
    pub queues: Vec<Queue>,
}

impl Live {
    /// Checks that there is a queue for each that the device has, and registers every kick as
    /// [`Tag::queue`] of its index.
    pub(crate) fn register_kicks(
        &self,
        spec: &Spec,
        reg: &mut dyn Register,
    ) -> Result<(), StartError> {
        if self.queues.len() != spec.queue_sizes.len() {
            return Err(StartError::QueueCount {
                expected: spec.queue_sizes.len(),
                given: self.queues.len(),
            });
        }
        for queue in &self.queues {
            reg.add(
                queue.kick_fd(),
                Interest::READABLE,
                Tag::queue(queue.index()),
            )?;
        }
        Ok(())
    }

    /// Serves the first queue after a kick, for a device that has done with a request when `serve` returns: that says how
    /// many bytes it has written. Ends when nothing is left, or when `pace` says that it is another device's turn.
    pub(crate) fn serve_first(
        &mut self,
        pace: Pace,
        mut serve: impl FnMut(&GuestRam, &Chain) -> Result<u32, Fault>,
    ) -> Result<(), Fault> {
        let Self {
            mem, irq, queues, ..
        } = self;
        let Some(queue) = queues.first_mut() else {
            return Ok(());
        };
        queue.clear_kick();
        for served in 1..=pace.batch {
            let Some(chain) = queue.pop(mem)? else {
                queue.signal(mem, irq)?;
                if queue.enable_kicks(mem)? {
                    continue;
                }
                return Ok(());
            };
            let written = serve(mem, &chain)?;
            queue.complete(mem, chain, written)?;
            if pace.signal_every.is_some_and(|every| served % every == 0) {
                queue.signal(mem, irq)?;
            }
        }
        queue.signal(mem, irq)?;
        queue.kick_again()
    }
}

/// How long a device may go on.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Pace {
    /// Requests served before other devices of the loop have their turn.
    pub(crate) batch: usize,
    /// Requests after which the guest is told already.
    pub(crate) signal_every: Option<NonZeroUsize>,
}

/// What an event means to the device that asked for it; the loop only carries it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Tag(pub u32);

impl Tag {
    /// The kick of queue `n`. Tags from 65,536 on are the device's own.
    pub const fn queue(n: u16) -> Self {
        Self(n as u32)
    }
}

/// Which readiness of a descriptor is reported. It is reported for as long as it lasts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Interest(u8);

impl Interest {
    /// Hang-up and errors alone, which are always reported.
    pub const NONE: Self = Self(0);
    /// There is something to read, or the end.
    pub const READABLE: Self = Self(1);
    /// There is room to write.
    pub const WRITABLE: Self = Self(2);

    /// Whether all of `other` is in this.
    pub const fn contains(self, other: Self) -> bool {
        self.0 & other.0 == other.0
    }
}

impl BitOr for Interest {
    type Output = Self;

    fn bitor(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }
}

/// The event loop, as one device sees it: only its own descriptors and timers.
///
/// Events are level-triggered, and one may arrive that is no longer true: a device that is called
/// for nothing does nothing.
pub trait Register {
    /// Watches a descriptor, which the device keeps open until it calls [`Register::remove`] or is
    /// stopped.
    fn add(&mut self, fd: BorrowedFd<'_>, interest: Interest, tag: Tag) -> io::Result<()>;
    /// Watches it for something else.
    fn modify(&mut self, fd: BorrowedFd<'_>, interest: Interest, tag: Tag) -> io::Result<()>;
    /// Watches it no more.
    fn remove(&mut self, fd: BorrowedFd<'_>) -> io::Result<()>;
    /// Calls `ready(tag)` once, after that time; arming the same tag again replaces it.
    fn arm(&mut self, tag: Tag, after: Duration) -> io::Result<()>;
    /// Forgets the timer of `tag`, if there is one.
    fn disarm(&mut self, tag: Tag);
}

/// A device could not start. The loop treats it as it treats a [`Fault`].
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StartError {
    /// The transport handed over another number of queues than the device has.
    #[error("the device has {expected} queues and was given {given}")]
    QueueCount {
        /// Queues in the device's [`Spec`].
        expected: usize,
        /// Queues handed over.
        given: usize,
    },
    /// The event loop refused a descriptor or a timer.
    #[error("cannot register with the event loop")]
    Register(#[from] io::Error),
    /// The rings are wrong in a way that only their first use showed.
    #[error("the guest's queues cannot be used")]
    Fault(#[from] Fault),
}

/// A virtio device.
pub trait Device: Send {
    /// What does not change about it.
    fn spec(&self) -> &Spec;

    /// Its configuration bytes, which vCPU threads read without the device.
    fn config(&self) -> Arc<ConfigSpace> {
        ConfigSpace::empty()
    }

    /// Takes the queues, and registers every kick and host descriptor. The loop calls
    /// `ready(Tag::queue(n))` once for each queue afterwards, so a kick that came early is not lost.
    fn start(&mut self, live: Live, reg: &mut dyn Register) -> Result<(), StartError>;

    /// Something that was registered has happened.
    fn ready(&mut self, tag: Tag, reg: &mut dyn Register) -> Result<(), Fault>;

    /// Finishes or drops what is in flight, and gives the queues back: all of them the first time,
    /// none after that. The loop has forgotten all registrations before it calls this.
    fn stop(&mut self) -> Vec<Queue>;

    /// The driver wrote to the configuration.
    fn config_write(&mut self, offset: u64, bytes: &[u8]) {
        let _ = (offset, bytes);
    }
}

impl<D: Device + ?Sized> Device for &mut D {
    fn spec(&self) -> &Spec {
        (**self).spec()
    }

    fn config(&self) -> Arc<ConfigSpace> {
        (**self).config()
    }

    fn start(&mut self, live: Live, reg: &mut dyn Register) -> Result<(), StartError> {
        (**self).start(live, reg)
    }

    fn ready(&mut self, tag: Tag, reg: &mut dyn Register) -> Result<(), Fault> {
        (**self).ready(tag, reg)
    }

    fn stop(&mut self) -> Vec<Queue> {
        (**self).stop()
    }

    fn config_write(&mut self, offset: u64, bytes: &[u8]) {
        (**self).config_write(offset, bytes);
    }
}
