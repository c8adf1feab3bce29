//! How a device reaches the guest: one interrupt line, and the bits that say why.
//!
//! On virtio-mmio all queues of a device share a line, and the driver reads `InterruptStatus` to
//! learn whether a queue or the configuration changed, then clears what it saw by `InterruptACK`
//! (virtio 1.2, section 4.2.2). The bit is set before the line is raised, so whoever takes the
//! interrupt finds the reason.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};

use virtio_bindings::virtio_mmio::{VIRTIO_MMIO_INT_CONFIG, VIRTIO_MMIO_INT_VRING};
use vmm_sys_util::eventfd::EventFd;

/// A device's interrupt; clones share it. The transport reads and acknowledges, the device raises.
#[derive(Clone, Debug)]
pub struct Irq(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    line: EventFd,
    status: AtomicU32,
    needs_reset: AtomicBool,
}

impl Irq {
    /// An interrupt that is raised by writing to `line` (an irqfd, non-blocking).
    pub fn new(line: EventFd) -> Self {
        Self(Arc::new(Shared {
            line,
            status: AtomicU32::new(0),
            needs_reset: AtomicBool::new(false),
        }))
    }

    /// Queue `n` has used buffers.
    pub fn queue(&self, n: u16) {
        // All queues share the line here; a transport with one vector for each would look at `n`.
        let _ = n;
        self.raise(VIRTIO_MMIO_INT_VRING);
    }

    /// The configuration changed.
    pub fn config(&self) {
        self.raise(VIRTIO_MMIO_INT_CONFIG);
    }

    /// The device cannot go on until the driver resets it.
    pub fn needs_reset(&self) {
        self.0.needs_reset.store(true, Ordering::SeqCst);
        self.config();
    }

    /// The `InterruptStatus` register.
    pub fn status(&self) -> u32 {
        self.0.status.load(Ordering::SeqCst)
    }

    /// A write to the `InterruptACK` register.
    pub fn acknowledge(&self, bits: u32) {
        self.0.status.fetch_and(!bits, Ordering::SeqCst);
    }

    /// Whether the device status register shows `DEVICE_NEEDS_RESET`.
    pub fn is_needs_reset(&self) -> bool {
        self.0.needs_reset.load(Ordering::SeqCst)
    }

    /// Back to how it was at first: the driver reset the device.
    pub fn reset(&self) {
        self.0.needs_reset.store(false, Ordering::SeqCst);
        self.0.status.store(0, Ordering::SeqCst);
    }

    fn raise(&self, bit: u32) {
        self.0.status.fetch_or(bit, Ordering::SeqCst);
        // It fails only when the counter is full, and then the line is raised already.
        let _ = self.0.line.write(1);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use vmm_sys_util::eventfd::EFD_NONBLOCK;

    #[test]
    fn reasons_accumulate_until_acknowledged() {
        let line = EventFd::new(EFD_NONBLOCK).unwrap();
        let irq = Irq::new(line.try_clone().unwrap());
        irq.queue(0);
        irq.needs_reset();
        assert_eq!(irq.status(), 3);
        assert_eq!(line.read().unwrap(), 2);
        irq.acknowledge(VIRTIO_MMIO_INT_VRING);
        assert_eq!(irq.status(), VIRTIO_MMIO_INT_CONFIG);
        assert!(irq.is_needs_reset());
        irq.reset();
        assert_eq!(irq.status(), 0);
        assert!(!irq.is_needs_reset());
    }
}
