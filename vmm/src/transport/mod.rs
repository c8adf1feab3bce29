//! How the guest's driver reaches a device: registers, without knowing what device it is.

mod mmio;
mod registers;

use std::fmt;

use vmm_virtio::Queue;

pub use mmio::MmioTransport;

/// A device, as its transport sees it. Called by vCPU threads.
pub trait DeviceControl: Send + Sync + fmt::Debug {
    /// The driver is ready. Posted, not awaited; `false` if nobody is there to do it.
    fn start(&self, features: u64, queues: Vec<Queue>) -> bool;
    /// Makes the device let go of guest memory, and waits until it has: the guest may reuse that
    /// memory as soon as its write returns.
    fn reset(&self);
    /// The driver wrote to the configuration. Posted, not awaited.
    fn config_write(&self, offset: u64, bytes: &[u8]);
}
