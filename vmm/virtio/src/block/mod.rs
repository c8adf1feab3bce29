//! virtio-blk: a disk (virtio 1.2, section 5.2).
//!
//! Each chain is one request: sixteen bytes of header, the data, and one byte at the very end of the
//! writable part for the status. `request` turns the header and the two lengths into something that
//! is within the disk, or into the status that refuses it, and is pure. `backing` says which bytes of
//! which file a byte of the disk is. `device` joins them: data goes between the file and guest memory
//! in one system call, with no buffer in between.
//!
//! **Durability.** A completed write is in the host's page cache. It is on the medium once a flush
//! that came after it completes. A driver that did not negotiate flushes is entitled to think that
//! every write is durable, so then each one is followed by a sync.
//!
//! Those system calls block, so the device has an event loop of its own.

mod backing;
mod counters;
mod device;
mod request;
#[cfg(test)]
mod tests;

pub use backing::{Backing, BlockError, Extent, size};
pub use counters::BlockCounters;
pub use device::{Block, BlockOptions, HostErrors};
