//! A live split queue: takes chains off the available ring, puts them on the used ring.
//!
//! The cursor arithmetic and the notification rules are those of the `virtio-queue` crate. What is
//! added is suspicion: a chain is walked, copied out and checked in whole before a device sees any
//! of it (`chain` has the rules), and what is wrong with a ring is a [`Fault`] rather than an empty
//! queue, since a device that sees nothing to do would be asked again for ever.
//!
//! Notifications cost an exit each, in both directions, so both are suppressed where the driver
//! allows: a device that is about to look at the ring anyway leaves kicks off, and interrupts only
//! where [`Queue::needs_interrupt`] says so, once for each batch of completions.

use std::os::fd::BorrowedFd;
use std::sync::Arc;
use std::sync::atomic::{Ordering, fence};

use virtio_bindings::virtio_ring::VRING_AVAIL_F_NO_INTERRUPT;
use virtio_queue::{QueueOwnedT, QueueT};
use vm_memory::{Bytes, GuestAddress};
use vmm_sys_util::eventfd::EventFd;

use crate::chain::{Chain, Segments, Walk};
use crate::{Fault, GuestRam, Irq, QueueSetup};

/// A queue that the driver has set up and the device now works.
#[derive(Debug)]
pub struct Queue {
    ring: virtio_queue::Queue,
    setup: QueueSetup,
    index: u16,
    kick: Arc<EventFd>,
    /// Segment list of a completed chain, kept so that the next one need not allocate.
    spare: Segments,
    /// Whether anything was completed since the last answer of `needs_interrupt`.
    completed: bool,
}

impl Queue {
    /// Makes the queue of a setup that [`QueueSetup::activate`] has checked.
    pub(crate) fn new(
        setup: QueueSetup,
        index: u16,
        kick: Arc<EventFd>,
        event_idx: bool,
    ) -> Result<Self, Fault> {
        let mut ring = virtio_queue::Queue::new(setup.max_size)?;
        ring.try_set_size(setup.size)?;
        ring.try_set_desc_table_address(GuestAddress(setup.desc_table))?;
        ring.try_set_avail_ring_address(GuestAddress(setup.avail_ring))?;
        ring.try_set_used_ring_address(GuestAddress(setup.used_ring))?;
        ring.set_event_idx(event_idx);
        ring.set_ready(true);
        Ok(Self {
            ring,
            setup,
            index,
            kick,
            spare: Segments::default(),
            completed: false,
        })
    }

    /// The queue's number on its device.
    pub fn index(&self) -> u16 {
        self.index
    }

    /// The eventfd that the driver's notifications reach; it latches, so none is lost.
    pub fn kick(&self) -> &EventFd {
        &self.kick
    }

    /// The same, as a descriptor to watch.
    pub fn kick_fd(&self) -> BorrowedFd<'_> {
        crate::iov::eventfd(&self.kick)
    }

    /// Clears the latched kick. A device does this before it looks at the ring, never after.
    pub fn clear_kick(&self) {
        // The only failure of a non-blocking eventfd is that nothing was latched.
        let _ = self.kick.read();
    }

    /// Latches a kick of the device's own: "call me again once others had their turn".
    pub fn kick_again(&self) -> Result<(), Fault> {
        self.kick.write(1).map_err(Fault::Host)
    }

    /// The registers that this queue was made from.
    pub fn setup(&self) -> QueueSetup {
        self.setup
    }

    /// The eventfd, for the transport that takes a stopped queue apart.
    pub fn into_kick(self) -> Arc<EventFd> {
        self.kick
    }

    /// Takes the next chain, checked in whole; `None` when the driver has offered no more.
    pub fn pop(&mut self, mem: &GuestRam) -> Result<Option<Chain>, Fault> {
        let queue = self.index;
        // The iterator is made anew for each chain: that re-reads the available index, and checks
        // that it is at most a ring ahead of what was taken.
        let mut available = self.ring.iter(mem.inner()).map_err(|error| match error {
            virtio_queue::Error::InvalidAvailRingIndex => Fault::AvailIndex { queue },
            other => Fault::Ring(other),
        })?;
        let Some(head) = available.next().map(|chain| chain.head_index()) else {
            return Ok(None);
        };
        let walk = Walk {
            mem,
            queue,
            table: self.setup.desc_table,
            size: self.setup.size,
        };
        let segments = std::mem::take(&mut self.spare);
        walk.chain(head, segments).map(Some)
    }

    /// Puts the chain that was taken last back, to be taken again later.
    ///
    /// Chains go back in the opposite order of that in which they came, and only while none taken
    /// after them is still held.
    pub fn undo_pop(&mut self, chain: Chain) {
        self.ring.go_to_previous_position();
        self.recycle(chain);
    }

    /// Gives a chain back to the driver, `written` bytes of its writable part filled.
    pub fn complete(&mut self, mem: &GuestRam, chain: Chain, written: u32) -> Result<(), Fault> {
        self.ring.add_used(mem.inner(), chain.head(), written)?;
        self.completed = true;
        self.recycle(chain);
        Ok(())
    }

    /// Whether the driver wants an interrupt for what was completed since the last call.
    pub fn needs_interrupt(&mut self, mem: &GuestRam) -> Result<bool, Fault> {
        if !std::mem::take(&mut self.completed) {
            return Ok(false);
        }
        if self.ring.event_idx_enabled() {
            return Ok(self.ring.needs_notification(mem.inner())?);
        }
        // The used index must be visible before the flag is read, or both sides may think that the
        // other one will look.
        fence(Ordering::SeqCst);
        let flags: u16 = mem
            .inner()
            .load(GuestAddress(self.setup.avail_ring), Ordering::Relaxed)?;
        Ok(u32::from(u16::from_le(flags)) & VRING_AVAIL_F_NO_INTERRUPT == 0)
    }

    /// Raises the interrupt if the driver wants one for what was completed.
    pub(crate) fn signal(&mut self, mem: &GuestRam, irq: &Irq) -> Result<(), Fault> {
        if self.needs_interrupt(mem)? {
            irq.queue(self.index);
        }
        Ok(())
    }

    /// Asks for a kick at the next chain that is offered. `true`: chains came in meanwhile and no
    /// kick will come for those, so look again.
    pub fn enable_kicks(&mut self, mem: &GuestRam) -> Result<bool, Fault> {
        Ok(self.ring.enable_notification(mem.inner())?)
    }

    /// Asks for no kicks: the device will look at the ring by itself. Only a hint to the driver.
    pub fn disable_kicks(&mut self, mem: &GuestRam) -> Result<(), Fault> {
        Ok(self.ring.disable_notification(mem.inner())?)
    }

    fn recycle(&mut self, chain: Chain) {
        self.spare = chain.into_segments();
    }
}

#[cfg(test)]
mod tests;
