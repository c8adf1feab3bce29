//! The devices of the machine, and the queues that they speak through.
//!
//! A virtio device and its driver share memory. The driver writes *descriptors* (an address and a
//! length) into a table, links them into *chains*, and puts the head of each chain on the
//! *available ring*; the device takes chains off that ring, reads or fills the buffers that they
//! describe, and puts the head on the *used ring* with the number of bytes that it wrote. A *kick*
//! tells the device to look at the available ring, an interrupt tells the driver to look at the
//! used one. That is all; a device type is what the buffers mean.
//!
//! Everything in that memory was written by the guest, which is hostile and may rewrite it while it
//! is being read. So each layer hands the next one something that can be relied on:
//!
//! ```text
//! QueueSetup   registers as the guest left them      (the transport holds this)
//!   activate   size, alignment, range, overlap: once
//! Queue        rings that are inside guest memory    (the device holds this)
//!   pop        head, links, ranges, order, total length: once for each chain, copied out
//! Chain        buffers that are inside guest memory
//! ```
//!
//! What breaks the rules is a [`Fault`]: the device stops and asks to be reset, and nothing else in
//! the machine notices.
//!
//! This crate does not know KVM, epoll or how to open a file. A [`Device`] is given descriptors that
//! are open already, and an event loop behind [`Register`]; so every device can be driven by a test
//! or a fuzzer with nothing but memory (see `testing`, behind the feature of that name).

pub mod block;
pub mod chain;
pub mod config_space;
pub mod console;
pub mod device;
pub mod fault;
mod iov;
pub mod irq;
pub mod memory;
pub mod pmem;
pub mod queue;
pub mod queue_setup;
pub mod rng;
#[cfg(any(test, feature = "testing"))]
pub mod testing;
pub mod vsock;
pub mod window;

pub use chain::Chain;
pub use config_space::ConfigSpace;
pub(crate) use device::Pace;
pub use device::{Device, Interest, Live, Placement, Register, Spec, StartError, Tag};
pub use fault::Fault;
pub use irq::Irq;
pub use memory::GuestRam;
pub use queue::Queue;
pub use queue_setup::QueueSetup;
pub use window::Window;

/// Feature bits that every device here offers: the modern interface, notification suppression by
/// index, and indirect descriptor tables.
pub const COMMON_FEATURES: u64 = (1 << virtio_bindings::virtio_config::VIRTIO_F_VERSION_1)
    | (1 << virtio_bindings::virtio_ring::VIRTIO_RING_F_EVENT_IDX)
    | (1 << virtio_bindings::virtio_ring::VIRTIO_RING_F_INDIRECT_DESC);
