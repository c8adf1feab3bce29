//! The driver's half of a split queue (virtio 1.2, sections 2.7.13 and 2.7.14).

use std::collections::HashMap;
use std::sync::atomic::{Ordering, fence};

use virtio_bindings::virtio_ring::{VRING_DESC_F_INDIRECT, VRING_DESC_F_NEXT, VRING_DESC_F_WRITE};

use crate::{GuestRam, QueueSetup};

/// A piece of guest memory for a device.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Buffer {
    /// Guest address.
    pub addr: u64,
    /// Bytes.
    pub len: u32,
    /// The device writes it; otherwise it reads it.
    pub writable: bool,
}

impl Buffer {
    /// For the device to read.
    pub fn readable(addr: u64, len: u32) -> Self {
        Self {
            addr,
            len,
            writable: false,
        }
    }

    /// For the device to write.
    pub fn writable(addr: u64, len: u32) -> Self {
        Self {
            addr,
            len,
            writable: true,
        }
    }
}

/// Rings in guest memory, and the driver's cursors on them.
#[derive(Debug)]
pub struct DriverQueue {
    mem: GuestRam,
    setup: QueueSetup,
    event_idx: bool,
    free: Vec<u16>,
    /// Descriptors of each chain that the device has.
    out: HashMap<u16, Vec<u16>>,
    next_avail: u16,
    next_used: u16,
    /// The available index when it was last asked whether to kick.
    told: u16,
}

impl DriverQueue {
    /// Bytes that the rings of a queue take, from an address that is a multiple of 4096.
    pub const BYTES: u64 = 0x4000;

    /// Clears the memory at `base` and lays a queue of `size` descriptors out in it.
    pub fn new(mem: &GuestRam, base: u64, size: u16, event_idx: bool) -> Self {
        assert!(size <= 256, "laid out for at most 256 descriptors");
        let zeros = vec![0; usize::try_from(Self::BYTES).expect("small")];
        mem.write(base, &zeros).expect("rings are in memory");
        let mut setup = QueueSetup::new(size);
        setup.desc_table = base;
        setup.avail_ring = base + 0x1000;
        setup.used_ring = base + 0x2000;
        setup.ready = true;
        Self {
            mem: mem.clone(),
            setup,
            event_idx,
            free: (0..size).rev().collect(),
            out: HashMap::new(),
            next_avail: 0,
            next_used: 0,
            told: 0,
        }
    }

    /// The registers that describe this queue.
    pub fn setup(&self) -> QueueSetup {
        self.setup
    }

    /// Descriptors that are free.
    pub fn room(&self) -> usize {
        self.free.len()
    }

    /// Offers a chain. `None`: not enough free descriptors.
    pub fn offer(&mut self, buffers: &[Buffer]) -> Option<u16> {
        if buffers.is_empty() || buffers.len() > self.free.len() {
            return None;
        }
        let indices: Vec<u16> = buffers.iter().filter_map(|_| self.free.pop()).collect();
        for (n, (buffer, index)) in buffers.iter().zip(&indices).enumerate() {
            let mut flags = 0;
            if buffer.writable {
                flags |= VRING_DESC_F_WRITE;
            }
            let next = indices.get(n + 1).copied();
            if next.is_some() {
                flags |= VRING_DESC_F_NEXT;
            }
            self.write_descriptor(*index, buffer.addr, buffer.len, flags, next.unwrap_or(0));
        }
        let head = *indices.first()?;
        self.out.insert(head, indices);
        self.publish(head);
        Some(head)
    }

    /// Offers a chain through an indirect table, which is written at `table`.
    pub fn offer_indirect(&mut self, table: u64, buffers: &[Buffer]) -> Option<u16> {
        let index = self.free.pop()?;
        for (n, buffer) in (0u16..).zip(buffers) {
            let mut flags = 0;
            if buffer.writable {
                flags |= VRING_DESC_F_WRITE;
            }
            if usize::from(n) + 1 < buffers.len() {
                flags |= VRING_DESC_F_NEXT;
            }
            let raw = descriptor(buffer.addr, buffer.len, flags, n + 1);
            let addr = table + 16 * u64::from(n);
            self.mem.write(addr, &raw).expect("table is in memory");
        }
        let len = u32::try_from(16 * buffers.len()).expect("small");
        self.write_descriptor(index, table, len, VRING_DESC_F_INDIRECT, 0);
        self.out.insert(index, vec![index]);
        self.publish(index);
        Some(index)
    }

    /// Writes one descriptor, good or bad.
    pub fn write_descriptor(&self, index: u16, addr: u64, len: u32, flags: u32, next: u16) {
        let at = self.setup.desc_table + 16 * u64::from(index);
        let raw = descriptor(addr, len, flags, next);
        self.mem.write(at, &raw).expect("table is in memory");
    }

    /// Writes one descriptor anywhere in memory, as for an indirect table.
    pub fn write_raw(&self, at: u64, addr: u64, len: u32, flags: u32, next: u16) {
        let raw = descriptor(addr, len, flags, next);
        self.mem.write(at, &raw).expect("table is in memory");
    }

    /// Changes what the device is told about the queue; the rings stay where they are.
    pub fn edit_setup(&mut self, edit: impl FnOnce(&mut QueueSetup)) {
        edit(&mut self.setup);
    }

    /// Puts a head on the available ring and shows it to the device.
    pub fn publish(&mut self, head: u16) {
        let slot = self.next_avail % self.setup.size;
        let at = self.setup.avail_ring + 4 + 2 * u64::from(slot);
        self.write_u16(at, head);
        fence(Ordering::SeqCst);
        self.set_avail_index(self.next_avail.wrapping_add(1));
    }

    /// Moves the available index, wherever to.
    pub fn set_avail_index(&mut self, index: u16) {
        self.next_avail = index;
        self.write_u16(self.setup.avail_ring + 2, index);
        fence(Ordering::SeqCst);
    }

    /// Whether the device wants a kick for what was offered since the last call.
    pub fn needs_kick(&mut self) -> bool {
        let old = std::mem::replace(&mut self.told, self.next_avail);
        fence(Ordering::SeqCst);
        if !self.event_idx {
            return self.read_u16(self.setup.used_ring) & 1 == 0;
        }
        let event = self.read_u16(self.setup.used_ring + 4 + 8 * u64::from(self.setup.size));
        let new = self.next_avail;
        new.wrapping_sub(event).wrapping_sub(1) < new.wrapping_sub(old)
    }

    /// The next chain that the device gave back, and how many bytes it wrote. Asks for an interrupt
    /// at the one after it.
    pub fn take_used(&mut self) -> Option<(u16, u32)> {
        if self.read_u16(self.setup.used_ring + 2) == self.next_used {
            return None;
        }
        let slot = self.next_used % self.setup.size;
        let mut raw = [0; 8];
        let at = self.setup.used_ring + 4 + 8 * u64::from(slot);
        self.mem.read(at, &mut raw).expect("ring is in memory");
        let [i0, i1, i2, i3, l0, l1, l2, l3] = raw;
        let id = u32::from_le_bytes([i0, i1, i2, i3]);
        // A hostile driver may have let the device write over the ring; then this is nobody's head.
        let head = u16::try_from(id).unwrap_or(u16::MAX);
        self.next_used = self.next_used.wrapping_add(1);
        if self.event_idx {
            let at = self.setup.avail_ring + 4 + 2 * u64::from(self.setup.size);
            self.write_u16(at, self.next_used);
            fence(Ordering::SeqCst);
        }
        if let Some(indices) = self.out.remove(&head) {
            self.free.extend(indices);
        }
        Some((head, u32::from_le_bytes([l0, l1, l2, l3])))
    }

    fn write_u16(&self, at: u64, value: u16) {
        self.mem
            .write(at, &value.to_le_bytes())
            .expect("ring is in memory");
    }

    fn read_u16(&self, at: u64) -> u16 {
        let mut raw = [0; 2];
        self.mem.read(at, &mut raw).expect("ring is in memory");
        u16::from_le_bytes(raw)
    }
}

fn descriptor(addr: u64, len: u32, flags: u32, next: u16) -> [u8; 16] {
    let [a0, a1, a2, a3, a4, a5, a6, a7] = addr.to_le_bytes();
    let [l0, l1, l2, l3] = len.to_le_bytes();
    let [f0, f1, ..] = flags.to_le_bytes();
    let [n0, n1] = next.to_le_bytes();
    [
        a0, a1, a2, a3, a4, a5, a6, a7, l0, l1, l2, l3, f0, f1, n0, n1,
    ]
}
