//! What a guest does wrong.
//!
//! A [`Fault`] belongs to one device. Its event loop stops that device, marks it as needing a reset
//! (virtio 1.2, section 2.1.2), counts it, and goes on. It is never an error of the machine and
//! never a reason to end it.
//!
//! Not every wrong request is a fault. Where the specification has an answer for it (a block request
//! beyond the end of the disk, a packet for a port that nobody listens on), the device gives that
//! answer and stays up.

use std::io;

/// A broken rule, or a host failure that leaves the device unable to continue.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Fault {
    /// The driver's queue size is zero, above the maximum, or no power of two.
    #[error("queue {queue}: size {size} is not a power of two from 1 to {max}")]
    QueueSize {
        /// Index of the queue.
        queue: u16,
        /// What the driver wrote.
        size: u16,
        /// What the device offered.
        max: u16,
    },
    /// The driver went live without enabling a queue that the device needs.
    #[error("queue {queue}: not marked ready")]
    QueueNotReady {
        /// Index of the queue.
        queue: u16,
    },
    /// A part of a queue is not aligned as virtio 1.2, section 2.7 asks.
    #[error("queue {queue}: {part} at {addr:#x} is not aligned to {align} bytes")]
    RingAlignment {
        /// Index of the queue.
        queue: u16,
        /// Which of the three parts.
        part: &'static str,
        /// Its guest address.
        addr: u64,
        /// The alignment that it must have, in bytes.
        align: u64,
    },
    /// A part of a queue lies wholly or partly outside guest memory.
    #[error("queue {queue}: {part} at {addr:#x}, {len} bytes, is outside memory")]
    RingRange {
        /// Index of the queue.
        queue: u16,
        /// Which of the three parts.
        part: &'static str,
        /// Its guest address.
        addr: u64,
        /// Its length in bytes.
        len: u64,
    },
    /// Two parts of a queue share bytes.
    #[error("queue {queue}: {first} and {second} overlap")]
    RingOverlap {
        /// Index of the queue.
        queue: u16,
        /// One part.
        first: &'static str,
        /// The other part.
        second: &'static str,
    },
    /// The available index is more than a whole ring ahead of what the device has taken.
    #[error("queue {queue}: the available index jumped by more than the queue size")]
    AvailIndex {
        /// Index of the queue.
        queue: u16,
    },
    /// A descriptor index is not below the size of its table.
    #[error("queue {queue}: descriptor {descriptor} is beyond the table of {size}")]
    DescriptorIndex {
        /// Index of the queue.
        queue: u16,
        /// The index found.
        descriptor: u16,
        /// Number of descriptors in the table.
        size: u32,
    },
    /// A buffer lies wholly or partly outside guest memory; or one to be written lies in a mapped disk.
    #[error("queue {queue}: buffer at {addr:#x}, {len} bytes, is outside memory")]
    DescriptorRange {
        /// Index of the queue.
        queue: u16,
        /// Guest address of the buffer.
        addr: u64,
        /// Its length in bytes.
        len: u32,
    },
    /// A buffer of no bytes.
    #[error("queue {queue}: empty buffer")]
    DescriptorEmpty {
        /// Index of the queue.
        queue: u16,
    },
    /// A buffer for the device to read comes after one for it to write.
    #[error("queue {queue}: a readable buffer follows a writable one")]
    DescriptorOrder {
        /// Index of the queue.
        queue: u16,
    },
    /// The descriptors form a loop, or a chain longer than any driver needs.
    #[error("queue {queue}: the descriptor chain loops or is longer than {max}")]
    ChainLength {
        /// Index of the queue.
        queue: u16,
        /// Most descriptors that were accepted.
        max: usize,
    },
    /// The buffers of a chain are more than 2^32 bytes (virtio 1.2, section 2.7.5.2).
    #[error("queue {queue}: the buffers of a chain add up to more than 4 GiB")]
    ChainBytes {
        /// Index of the queue.
        queue: u16,
    },
    /// An indirect table that is empty, ragged, too long, nested, or followed by a descriptor.
    #[error("queue {queue}: indirect table of {len} bytes {problem}")]
    IndirectTable {
        /// Index of the queue.
        queue: u16,
        /// Length of the table in bytes.
        len: u32,
        /// What is wrong with it.
        problem: &'static str,
    },
    /// A chain whose buffers cannot hold what this kind of device puts in them.
    #[error("{device}: {problem}")]
    Malformed {
        /// Name of the device.
        device: &'static str,
        /// What is wrong.
        problem: &'static str,
    },
    /// Guest memory could not be reached at an address that was checked, or that should have been.
    #[error("cannot reach guest memory")]
    Memory(#[source] vm_memory::GuestMemoryError),
    /// The rings could not be worked.
    #[error("cannot work the queue")]
    Ring(#[source] virtio_queue::Error),
    /// The host failed in a way that this device cannot go on from.
    #[error("the host cannot serve the device")]
    Host(#[source] io::Error),
}

impl From<vm_memory::GuestMemoryError> for Fault {
    fn from(error: vm_memory::GuestMemoryError) -> Self {
        Self::Memory(error)
    }
}

impl From<virtio_queue::Error> for Fault {
    fn from(error: virtio_queue::Error) -> Self {
        Self::Ring(error)
    }
}
