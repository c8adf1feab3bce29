//! A descriptor chain: the buffers of one request.
//!
//! The driver links descriptors into a chain by index. First come the buffers that the device reads,
//! then those that it writes. Instead of a buffer, the last descriptor may name an *indirect table*:
//! more descriptors, in a piece of memory of their own, whose indices start at zero again.
//!
//! `Walk` follows the links once, copies what it finds, and refuses the chain if anything is wrong
//! with it: an index beyond its table, a loop, a table that is ragged or nested, a buffer that is
//! empty or not in memory, the wrong order, too many bytes. A [`Chain`] is what is left: ranges that
//! are known to be memory, or, where they are only read, in a mapped disk. The guest can still change
//! the *contents* of the buffers at any time, so a device copies a header out and judges the copy.
//!
//! Offsets into a chain count bytes from the start of its readable part, or of its writable part, as
//! if each were one piece: no device may rely on how the driver cut them up (virtio 1.2, section
//! 2.7.4.1).

use crate::iov::Iovecs;
use crate::queue_setup::DESCRIPTOR_BYTES;
use crate::{Fault, GuestRam};
use virtio_bindings::virtio_ring::{VRING_DESC_F_INDIRECT, VRING_DESC_F_NEXT, VRING_DESC_F_WRITE};

/// Most buffers in one chain. Drivers stay within the queue size, or within what a device's
/// configuration allows them (block: a few hundred); this bounds the work that a chain can ask for.
const MAX_SEGMENTS: usize = 1024;

/// One buffer of a chain.
#[derive(Clone, Copy, Debug)]
struct Segment {
    addr: u64,
    len: u32,
}

/// The buffers of a chain, readable ones first.
#[derive(Debug, Default)]
pub(crate) struct Segments(Vec<Segment>);

/// A checked chain. It must go back to its queue, by `complete` or `undo_pop`: a chain that is
/// dropped is a buffer that the driver never sees again.
#[derive(Debug)]
#[must_use = "a chain must be given back to its queue"]
pub struct Chain {
    head: u16,
    segments: Segments,
    /// How many of the segments are readable; the rest are writable.
    readable: usize,
    readable_len: u32,
    writable_len: u32,
}

impl Chain {
    /// Index of the first descriptor: what names this chain to the driver.
    pub fn head(&self) -> u16 {
        self.head
    }

    /// Bytes that the device may read.
    pub fn readable_len(&self) -> u32 {
        self.readable_len
    }

    /// Bytes that the device may write.
    pub fn writable_len(&self) -> u32 {
        self.writable_len
    }

    /// Copies from the readable part, starting `offset` bytes into it. All of `out` is filled, or it
    /// is a fault.
    pub fn read_at(&self, mem: &GuestRam, offset: u32, out: &mut [u8]) -> Result<(), Fault> {
        let mut out = out;
        for (addr, len) in ranges(self.readable_segments(), offset, out.len()) {
            let (now, rest) = out.split_at_mut(len);
            mem.read(addr, now)?;
            out = rest;
        }
        if out.is_empty() { Ok(()) } else { Err(SHORT) }
    }

    /// Copies to the writable part, starting `offset` bytes into it. All of `bytes` fits, or it is a
    /// fault.
    pub fn write_at(&self, mem: &GuestRam, offset: u32, bytes: &[u8]) -> Result<(), Fault> {
        let mut bytes = bytes;
        for (addr, len) in ranges(self.writable_segments(), offset, bytes.len()) {
            let (now, rest) = bytes.split_at(len);
            mem.write(addr, now)?;
            bytes = rest;
        }
        if bytes.is_empty() { Ok(()) } else { Err(SHORT) }
    }

    /// Host addresses of up to `len` bytes of the readable part, for a system call that reads them.
    /// Fewer bytes are returned where the chain ends or the vector is full.
    pub(crate) fn readable_iovecs<'m>(
        &self,
        mem: &'m GuestRam,
        offset: u32,
        len: usize,
    ) -> Result<Iovecs<'m>, Fault> {
        let mut vector = Iovecs::new();
        for (addr, len) in ranges(self.readable_segments(), offset, len) {
            if !mem.gather(addr, len, &mut vector)? {
                break;
            }
        }
        Ok(vector)
    }

    /// Host addresses of up to `len` bytes of the writable part, for a system call that fills them.
    /// Fewer bytes are returned where the chain ends or the vector is full.
    pub(crate) fn writable_iovecs<'m>(
        &self,
        mem: &'m GuestRam,
        offset: u32,
        len: usize,
    ) -> Result<Iovecs<'m>, Fault> {
        let mut vector = Iovecs::new();
        for (addr, len) in ranges(self.writable_segments(), offset, len) {
            if !mem.scatter(addr, len, &mut vector)? {
                break;
            }
        }
        Ok(vector)
    }

    pub(crate) fn into_segments(self) -> Segments {
        self.segments
    }

    fn readable_segments(&self) -> &[Segment] {
        self.segments.0.get(..self.readable).unwrap_or_default()
    }

    fn writable_segments(&self) -> &[Segment] {
        self.segments.0.get(self.readable..).unwrap_or_default()
    }
}

/// A device asked for more than the chain holds without looking at its length first.
const SHORT: Fault = Fault::Malformed {
    device: "chain",
    problem: "shorter than what it must hold",
};

/// The guest ranges that make up `len` bytes from `offset`; they end early where the segments do.
fn ranges(segments: &[Segment], offset: u32, len: usize) -> impl Iterator<Item = (u64, usize)> {
    let mut skip = offset;
    let mut left = len;
    segments.iter().filter_map(move |segment| {
        if skip >= segment.len {
            skip -= segment.len;
            return None;
        }
        let addr = segment.addr + u64::from(skip);
        let here = usize::try_from(segment.len - skip)
            .unwrap_or(usize::MAX)
            .min(left);
        skip = 0;
        left -= here;
        (here > 0).then_some((addr, here))
    })
}

/// Follows the descriptors of one queue.
pub(crate) struct Walk<'m> {
    pub(crate) mem: &'m GuestRam,
    /// Index of the queue, for what a fault says.
    pub(crate) queue: u16,
    /// Guest address of the descriptor table.
    pub(crate) table: u64,
    /// Descriptors in it.
    pub(crate) size: u16,
}

/// A descriptor as the driver wrote it (virtio 1.2, section 2.7.5).
struct Descriptor {
    addr: u64,
    len: u32,
    flags: u32,
    next: u16,
}

impl Walk<'_> {
    /// Collects the chain that starts at `head` into `segments`, whose old contents are dropped.
    pub(crate) fn chain(&self, head: u16, mut segments: Segments) -> Result<Chain, Fault> {
        let queue = self.queue;
        segments.0.clear();
        let mut chain = Chain {
            head,
            segments,
            readable: 0,
            readable_len: 0,
            writable_len: 0,
        };
        let (mut table, mut size, mut indirect) = (self.table, u32::from(self.size), false);
        let mut index = head;
        // Every turn but the one that enters the indirect table adds a segment, so a loop runs into
        // this bound.
        for _ in 0..=MAX_SEGMENTS {
            let descriptor = self.descriptor(table, size, index)?;
            if descriptor.flags & VRING_DESC_F_INDIRECT != 0 {
                let len = descriptor.len;
                let problem = |problem| Fault::IndirectTable {
                    queue,
                    len,
                    problem,
                };
                if indirect {
                    return Err(problem("is inside another one"));
                }
                if descriptor.flags & VRING_DESC_F_NEXT != 0 {
                    return Err(problem("is followed by a descriptor"));
                }
                let bytes = u64::from(len);
                if bytes == 0 || !bytes.is_multiple_of(DESCRIPTOR_BYTES) {
                    return Err(problem("is not a whole number of descriptors"));
                }
                if !self.mem.contains(descriptor.addr, bytes) {
                    return Err(problem("is outside memory"));
                }
                (table, size, indirect) = (descriptor.addr, len / 16, true);
                index = 0;
                continue;
            }
            self.add(&mut chain, &descriptor)?;
            if descriptor.flags & VRING_DESC_F_NEXT == 0 {
                return Ok(chain);
            }
            index = descriptor.next;
        }
        Err(Fault::ChainLength {
            queue,
            max: MAX_SEGMENTS,
        })
    }

    /// Copies one descriptor out of a table that is known to be in memory.
    fn descriptor(&self, table: u64, size: u32, index: u16) -> Result<Descriptor, Fault> {
        if u32::from(index) >= size {
            return Err(Fault::DescriptorIndex {
                queue: self.queue,
                descriptor: index,
                size,
            });
        }
        let mut raw = [0; 16];
        self.mem
            .read(table + DESCRIPTOR_BYTES * u64::from(index), &mut raw)?;
        let [
            a0,
            a1,
            a2,
            a3,
            a4,
            a5,
            a6,
            a7,
            l0,
            l1,
            l2,
            l3,
            f0,
            f1,
            n0,
            n1,
        ] = raw;
        Ok(Descriptor {
            addr: u64::from_le_bytes([a0, a1, a2, a3, a4, a5, a6, a7]),
            len: u32::from_le_bytes([l0, l1, l2, l3]),
            flags: u32::from(u16::from_le_bytes([f0, f1])),
            next: u16::from_le_bytes([n0, n1]),
        })
    }

    fn add(&self, chain: &mut Chain, descriptor: &Descriptor) -> Result<(), Fault> {
        let queue = self.queue;
        let &Descriptor { addr, len, .. } = descriptor;
        if len == 0 {
            return Err(Fault::DescriptorEmpty { queue });
        }
        let writable = descriptor.flags & VRING_DESC_F_WRITE != 0;
        let is_there = match writable {
            true => self.mem.contains(addr, u64::from(len)),
            false => self.mem.is_readable(addr, u64::from(len)),
        };
        if !is_there {
            return Err(Fault::DescriptorRange { queue, addr, len });
        }
        if !writable && chain.readable < chain.segments.0.len() {
            return Err(Fault::DescriptorOrder { queue });
        }
        let total = if writable {
            &mut chain.writable_len
        } else {
            chain.readable += 1;
            &mut chain.readable_len
        };
        *total = total.checked_add(len).ok_or(Fault::ChainBytes { queue })?;
        if chain.readable_len.checked_add(chain.writable_len).is_none() {
            return Err(Fault::ChainBytes { queue });
        }
        chain.segments.0.push(Segment { addr, len });
        Ok(())
    }
}
