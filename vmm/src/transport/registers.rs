//! The register file of a virtio-mmio device (virtio 1.2, section 4.2.2), as data.
//!
//! Driver and device negotiate through one status register whose bits are only ever added, in order;
//! writing zero starts over:
//!
//! ```text
//! 0 ── ACKNOWLEDGE ── DRIVER ── FEATURES_OK ── DRIVER_OK
//!                       │            │             └ the device lives; nothing below may change
//!                       │            └ queues may be set up
//!                       └ features may be chosen
//! ```
//!
//! A write that comes at the wrong time, or at a wrong register, changes nothing.

use virtio_bindings::virtio_config::{
    VIRTIO_CONFIG_S_ACKNOWLEDGE, VIRTIO_CONFIG_S_DRIVER, VIRTIO_CONFIG_S_DRIVER_OK,
    VIRTIO_CONFIG_S_FAILED, VIRTIO_CONFIG_S_FEATURES_OK, VIRTIO_CONFIG_S_NEEDS_RESET,
    VIRTIO_F_VERSION_1,
};
use vmm_virtio::QueueSetup;

const ACKNOWLEDGE: u32 = VIRTIO_CONFIG_S_ACKNOWLEDGE;
const DRIVER: u32 = VIRTIO_CONFIG_S_DRIVER;
const FEATURES_OK: u32 = VIRTIO_CONFIG_S_FEATURES_OK;
const DRIVER_OK: u32 = VIRTIO_CONFIG_S_DRIVER_OK;
const FAILED: u32 = VIRTIO_CONFIG_S_FAILED;
/// The device's bit; shown by the transport, never stored here.
pub(super) const NEEDS_RESET: u32 = VIRTIO_CONFIG_S_NEEDS_RESET;

/// What a write to the status register leads to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Transition {
    /// Nothing but the new value, if it was taken.
    None,
    /// The driver starts over. `was_live`: the device had been started.
    Reset {
        /// Whether the device had been told to start.
        was_live: bool,
    },
    /// The driver is ready: start the device.
    Start,
}

/// The half of a 64-bit register that an access names.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Half {
    Low,
    High,
}

/// One of a queue's three addresses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Ring {
    Descriptors,
    Available,
    Used,
}

/// What the driver has written so far.
#[derive(Debug)]
pub(super) struct Registers {
    offered: u64,
    accepted: u64,
    device_features_sel: u32,
    driver_features_sel: u32,
    queue_sel: u32,
    status: u32,
    queues: Vec<QueueSetup>,
}

impl Registers {
    pub(super) fn new(offered: u64, queue_sizes: &[u16]) -> Self {
        Self {
            offered,
            accepted: 0,
            device_features_sel: 0,
            driver_features_sel: 0,
            queue_sel: 0,
            status: 0,
            queues: queue_sizes.iter().copied().map(QueueSetup::new).collect(),
        }
    }

    pub(super) fn status(&self) -> u32 {
        self.status
    }

    pub(super) fn is_live(&self) -> bool {
        self.status & DRIVER_OK != 0
    }

    pub(super) fn accepted(&self) -> u64 {
        self.accepted
    }

    pub(super) fn queues(&self) -> &[QueueSetup] {
        &self.queues
    }

    pub(super) fn device_features(&self) -> u32 {
        half(self.offered, self.device_features_sel)
    }

    pub(super) fn select_device_features(&mut self, value: u32) {
        self.device_features_sel = value;
    }

    pub(super) fn select_driver_features(&mut self, value: u32) {
        self.driver_features_sel = value;
    }

    pub(super) fn set_driver_features(&mut self, value: u32) {
        let negotiating = self.status & (DRIVER | FEATURES_OK | FAILED) == DRIVER;
        match (negotiating, self.driver_features_sel) {
            (true, 0) => self.accepted = self.accepted >> 32 << 32 | u64::from(value),
            (true, 1) => {
                self.accepted = self.accepted & u64::from(u32::MAX) | u64::from(value) << 32;
            }
            _ => {}
        }
    }

    pub(super) fn select_queue(&mut self, value: u32) {
        self.queue_sel = value;
    }

    /// The selected queue, if there is one.
    pub(super) fn queue(&self) -> Option<&QueueSetup> {
        self.queues.get(usize::try_from(self.queue_sel).ok()?)
    }

    /// The selected queue, if it may be changed now.
    fn queue_mut(&mut self) -> Option<&mut QueueSetup> {
        let configurable = self.status & (FEATURES_OK | DRIVER_OK | FAILED) == FEATURES_OK;
        let index = usize::try_from(self.queue_sel).ok()?;
        self.queues.get_mut(index).filter(|_| configurable)
    }

    /// A size that does not fit in 16 bits is no size, and is refused at activation.
    pub(super) fn set_queue_size(&mut self, value: u32) {
        if let Some(queue) = self.queue_mut().filter(|queue| !queue.ready) {
            queue.size = u16::try_from(value).unwrap_or(0);
        }
    }

    pub(super) fn set_queue_ready(&mut self, value: u32) {
        if let Some(queue) = self.queue_mut() {
            queue.ready = value & 1 != 0;
        }
    }

    pub(super) fn set_queue_address(&mut self, ring: Ring, which: Half, value: u32) {
        let Some(queue) = self.queue_mut().filter(|queue| !queue.ready) else {
            return;
        };
        let address = match ring {
            Ring::Descriptors => &mut queue.desc_table,
            Ring::Available => &mut queue.avail_ring,
            Ring::Used => &mut queue.used_ring,
        };
        *address = match which {
            Half::Low => *address >> 32 << 32 | u64::from(value),
            Half::High => *address & u64::from(u32::MAX) | u64::from(value) << 32,
        };
    }

    pub(super) fn set_status(&mut self, value: u32) -> Transition {
        if value == 0 {
            let was_live = self.is_live();
            let sizes: Vec<u16> = self.queues.iter().map(|queue| queue.max_size).collect();
            *self = Self::new(self.offered, &sizes);
            return Transition::Reset { was_live };
        }
        // The device's own bit may be written back as it was read.
        let value = value & !NEEDS_RESET;
        let added = value & !self.status;
        // Bits are never cleared one by one, and a driver that gave up has to start over.
        if value & self.status != self.status || self.status & FAILED != 0 {
            return Transition::None;
        }
        if added & FAILED != 0 {
            self.status |= FAILED;
            return Transition::None;
        }
        let mut transition = Transition::None;
        // In order, so that one write may add several; the first that may not come ends it.
        for (bit, needed) in [
            (ACKNOWLEDGE, 0),
            (DRIVER, ACKNOWLEDGE),
            (FEATURES_OK, ACKNOWLEDGE | DRIVER),
            (DRIVER_OK, ACKNOWLEDGE | DRIVER | FEATURES_OK),
        ] {
            if added & bit == 0 {
                continue;
            }
            if self.status & needed != needed || bit == FEATURES_OK && !self.features_are_good() {
                break;
            }
            self.status |= bit;
            if bit == DRIVER_OK {
                transition = Transition::Start;
            }
        }
        transition
    }

    fn features_are_good(&self) -> bool {
        self.accepted & !self.offered == 0 && self.accepted & 1 << VIRTIO_F_VERSION_1 != 0
    }
}

fn half(value: u64, select: u32) -> u32 {
    let [l0, l1, l2, l3, h0, h1, h2, h3] = value.to_le_bytes();
    match select {
        0 => u32::from_le_bytes([l0, l1, l2, l3]),
        1 => u32::from_le_bytes([h0, h1, h2, h3]),
        _ => 0,
    }
}
