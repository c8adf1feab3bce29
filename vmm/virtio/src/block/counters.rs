//! What a disk has served, for whoever wants to know: counted by the device's loop, read by any
//! thread at any time, with no lock between them.

use std::sync::atomic::{AtomicU64, Ordering};

use super::request::Request;

/// The counters of one disk.
///
/// Each only grows, and counts what was served with success. They are read one after the other: two
/// of them may be a request apart.
#[derive(Debug, Default)]
pub struct BlockCounters {
    read_bytes: AtomicU64,
    write_bytes: AtomicU64,
    read_ops: AtomicU64,
    write_ops: AtomicU64,
    flushes: AtomicU64,
}

// The counters order nothing else, so `Relaxed` does.
impl BlockCounters {
    /// Bytes read by the guest.
    pub fn read_bytes(&self) -> u64 {
        self.read_bytes.load(Ordering::Relaxed)
    }

    /// Bytes written by the guest, without ranges that it discarded or zeroed.
    pub fn write_bytes(&self) -> u64 {
        self.write_bytes.load(Ordering::Relaxed)
    }

    /// Requests to read.
    pub fn read_ops(&self) -> u64 {
        self.read_ops.load(Ordering::Relaxed)
    }

    /// Requests to write.
    pub fn write_ops(&self) -> u64 {
        self.write_ops.load(Ordering::Relaxed)
    }

    /// Requests to flush.
    pub fn flushes(&self) -> u64 {
        self.flushes.load(Ordering::Relaxed)
    }

    /// Counts a request that was served.
    pub(super) fn count(&self, request: Request) {
        let (ops, bytes) = match request {
            Request::Read { len, .. } => (&self.read_ops, Some((&self.read_bytes, len))),
            Request::Write { len, .. } => (&self.write_ops, Some((&self.write_bytes, len))),
            Request::Flush => (&self.flushes, None),
            Request::GetId | Request::Discard { .. } | Request::WriteZeroes { .. } => return,
        };
        ops.fetch_add(1, Ordering::Relaxed);
        if let Some((bytes, len)) = bytes {
            bytes.fetch_add(u64::from(len), Ordering::Relaxed);
        }
    }
}
