//! A queue before it lives: the registers that the driver writes.
//!
//! The transport keeps one [`QueueSetup`] for each queue, writes down whatever the driver says, and
//! judges nothing. When the driver declares itself ready, [`QueueSetup::activate`] judges all of it
//! at once and makes a [`Queue`], which owns a copy. So there is one moment at which a queue's shape
//! is checked, and after it nothing the driver writes to those registers can matter.

use std::sync::Arc;

use vmm_sys_util::eventfd::EventFd;

use crate::{Fault, GuestRam, Queue};

/// Bytes of one descriptor (virtio 1.2, section 2.7.5).
pub(crate) const DESCRIPTOR_BYTES: u64 = 16;

/// Shape and place of a queue, as the driver's register writes left them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct QueueSetup {
    /// Most descriptors that the device offers.
    pub max_size: u16,
    /// Descriptors that the driver chose.
    pub size: u16,
    /// Whether the driver enabled the queue.
    pub ready: bool,
    /// Guest address of the descriptor table.
    pub desc_table: u64,
    /// Guest address of the available ring.
    pub avail_ring: u64,
    /// Guest address of the used ring.
    pub used_ring: u64,
}

impl QueueSetup {
    /// A queue that the driver has not touched.
    pub fn new(max_size: u16) -> Self {
        Self {
            max_size,
            size: max_size,
            ..Self::default()
        }
    }

    /// Checks size, alignment, place in memory and overlap, and makes the live queue.
    ///
    /// `index` is the queue's number on its device, `kick` the non-blocking eventfd that the
    /// driver's notifications reach, `event_idx` whether `VIRTIO_F_EVENT_IDX` was negotiated.
    pub fn activate(
        &self,
        index: u16,
        mem: &GuestRam,
        kick: impl Into<Arc<EventFd>>,
        event_idx: bool,
    ) -> Result<Queue, Fault> {
        if !self.ready {
            return Err(Fault::QueueNotReady { queue: index });
        }
        if self.size == 0 || self.size > self.max_size || !self.size.is_power_of_two() {
            return Err(Fault::QueueSize {
                queue: index,
                size: self.size,
                max: self.max_size,
            });
        }
        // Sizes from virtio 1.2, sections 2.7.5, 2.7.6 and 2.7.8; the two bytes at the end of each
        // ring are there only with event indices.
        let size = u64::from(self.size);
        let tail = if event_idx { 2 } else { 0 };
        let parts = [
            Part {
                name: "descriptor table",
                addr: self.desc_table,
                len: DESCRIPTOR_BYTES * size,
                align: 16,
            },
            Part {
                name: "available ring",
                addr: self.avail_ring,
                len: 4 + 2 * size + tail,
                align: 2,
            },
            Part {
                name: "used ring",
                addr: self.used_ring,
                len: 4 + 8 * size + tail,
                align: 4,
            },
        ];
        for (n, part) in parts.iter().enumerate() {
            part.check(index, mem)?;
            for earlier in parts.iter().take(n) {
                if part.overlaps(earlier) {
                    return Err(Fault::RingOverlap {
                        queue: index,
                        first: earlier.name,
                        second: part.name,
                    });
                }
            }
        }
        Queue::new(*self, index, kick.into(), event_idx)
    }
}

/// One of the three pieces of memory that make a queue.
struct Part {
    name: &'static str,
    addr: u64,
    len: u64,
    align: u64,
}

impl Part {
    fn check(&self, queue: u16, mem: &GuestRam) -> Result<(), Fault> {
        if !self.addr.is_multiple_of(self.align) {
            return Err(Fault::RingAlignment {
                queue,
                part: self.name,
                addr: self.addr,
                align: self.align,
            });
        }
        if !mem.contains(self.addr, self.len) {
            return Err(Fault::RingRange {
                queue,
                part: self.name,
                addr: self.addr,
                len: self.len,
            });
        }
        Ok(())
    }

    /// Both were checked to be in memory, so neither sum can overflow.
    fn overlaps(&self, other: &Self) -> bool {
        self.addr < other.addr + other.len && other.addr < self.addr + self.len
    }
}
