//! Drivers of a few instructions: guests that use virtio devices, written as 32-bit machine code.
//!
//! There is no paging, so memory and registers are at their addresses. Each queue has 64 KiB to itself: tables
//! first, then data.

use super::{out, store};

/// Where a device's registers are.
pub const fn device(slot: u32) -> u32 {
    0xd000_0000 + slot * 0x1000
}

pub const RNG: u32 = device(1);
pub const CONSOLE: u32 = device(0);
pub const VSOCK: u32 = device(2);
pub const DISK: u32 = device(3);
/// A second disk, which is only read.
pub const PARTS: u32 = device(4);

const QUEUES: u32 = 0x40_0000;
const AVAILABLE: u32 = 0x1000;
const USED: u32 = 0x2000;
const DATA: u32 = 0x3000;
/// Entries in a queue.
const SIZE: u32 = 16;

/// Flush, discard, write zeros.
const DISK_FEATURES: u32 = 1 << 9 | 1 << 13 | 1 << 14;

/// A queue, as its driver sees it.
#[derive(Clone, Copy, Debug)]
pub struct Queue {
    device: u32,
    index: u32,
    base: u32,
    offered: u32,
    descriptors: u32,
}

/// A buffer: where, how long, and whether the device writes to it.
pub type Piece = (u32, u32, bool);

/// A guest in the making.
#[derive(Default)]
pub struct Program {
    code: Vec<u8>,
    queues: u32,
}

impl Program {
    pub fn store(&mut self, address: u32, value: u32) {
        self.code.extend(store(address, value));
    }

    pub fn store_all(&mut self, address: u32, words: &[u32]) {
        for (at, word) in (address..).step_by(4).zip(words) {
            self.store(at, *word);
        }
    }

    /// Waits until memory has this value.
    pub fn wait(&mut self, address: u32, value: u32) {
        // mov eax, address; 1: cmp dword [eax], value; jne 1b
        self.code.push(0xb8);
        self.code.extend(address.to_le_bytes());
        self.code.extend([0x81, 0x38]);
        self.code.extend(value.to_le_bytes());
        self.code.extend([0x75, 0xf8]);
    }

    /// Negotiates these features, and sets so many queues up.
    pub fn start(&mut self, device: u32, features: u32, count: u32) -> Vec<Queue> {
        // ACKNOWLEDGE, DRIVER; VIRTIO_F_VERSION_1; FEATURES_OK.
        for (register, value) in [
            (0x70, 0),
            (0x70, 1),
            (0x70, 3),
            (0x24, 1),
            (0x20, 1),
            (0x24, 0),
            (0x20, features),
            (0x70, 11),
        ] {
            self.store(device + register, value);
        }
        let queues: Vec<Queue> = (0..count).map(|index| self.queue(device, index)).collect();
        self.store(device + 0x70, 15);
        queues
    }

    fn queue(&mut self, device: u32, index: u32) -> Queue {
        let base = QUEUES + self.queues * 0x1_0000;
        self.queues += 1;
        for (register, value) in [
            (0x30, index),
            (0x38, SIZE),
            (0x80, base),
            (0x84, 0),
            (0x90, base + AVAILABLE),
            (0x94, 0),
            (0xa0, base + USED),
            (0xa4, 0),
            (0x44, 1),
        ] {
            self.store(device + register, value);
        }
        Queue {
            device,
            index,
            base,
            offered: 0,
            descriptors: 0,
        }
    }

    /// Gives the device a chain of buffers, and kicks it.
    pub fn offer(&mut self, queue: &mut Queue, pieces: &[Piece]) {
        let first = queue.descriptors % SIZE;
        for (number, (address, len, writable)) in (1..).zip(pieces) {
            let at = queue.descriptors % SIZE;
            queue.descriptors += 1;
            let more = u32::from(number < pieces.len());
            let flags = more | u32::from(*writable) << 1;
            let next = queue.descriptors % SIZE;
            self.store_all(
                queue.base + at * 16,
                &[*address, 0, *len, flags | next << 16],
            );
        }
        // Ring entries are 16 bits wide; what a store takes along is the next one, which is yet to come.
        let entry = queue.base + AVAILABLE + 4 + 2 * (queue.offered % SIZE);
        self.store(entry, first);
        queue.offered += 1;
        self.store(queue.base + AVAILABLE, queue.offered << 16);
        self.store(queue.device + 0x50, queue.index);
    }

    /// Waits until the device has given all chains back.
    pub fn finish(&mut self, queue: &Queue) {
        self.wait(queue.base + USED, queue.offered << 16);
    }

    /// Ends there.
    pub fn power_off(mut self) -> Vec<u8> {
        self.code.extend(out(0x600, 0x34));
        self.code
    }

    /// Goes on for ever.
    pub fn stay(mut self) -> Vec<u8> {
        self.code.extend(super::SLEEP);
        self.code
    }
}

impl Queue {
    /// Memory for data of this queue.
    pub fn data(&self, offset: u32) -> u32 {
        self.base + DATA + offset
    }
}

/// A request to a disk: its kind, its sector, its bytes of data, and which way they go.
pub fn disk_request(program: &mut Program, queue: &mut Queue, kind: u32, sector: u32, data: Piece) {
    let header = queue.data(0);
    program.store_all(header, &[kind, 0, sector, 0]);
    let status = (queue.data(64), 1, true);
    if data.1 == 0 {
        program.offer(queue, &[(header, 16, false), status]);
    } else {
        program.offer(queue, &[(header, 16, false), data, status]);
    }
    program.finish(queue);
}

/// Random numbers, a line on the console, and each request that a disk knows; the console's line is `yes`.
pub fn use_devices(program: &mut Program) {
    let mut rng = program.start(RNG, 0, 1).remove(0);
    let buffer = rng.data(0);
    program.offer(&mut rng, &[(buffer, 64, true)]);
    program.finish(&rng);

    let mut console = program.start(CONSOLE, 0, 2).remove(1);
    let line = console.data(0);
    program.store(line, u32::from_le_bytes(*b"yes\n"));
    program.offer(&mut console, &[(line, 4, false)]);
    program.finish(&console);

    let mut disk = program.start(DISK, DISK_FEATURES, 1).remove(0);
    let data = disk.data(0x400);
    program.store_all(data, &[0x6c6c_6548, 0x0000_006f]);
    let none = (0, 0, false);
    // Write, flush, read, serial.
    disk_request(program, &mut disk, 1, 1, (data, 512, false));
    disk_request(program, &mut disk, 4, 0, none);
    disk_request(program, &mut disk, 0, 1, (data + 0x400, 512, true));
    disk_request(program, &mut disk, 8, 0, (data + 0x400, 20, true));
    // Discard; zeros that keep their space, and zeros that need not.
    for (kind, flags) in [(11, 0), (13, 0), (13, 1)] {
        program.store_all(data, &[8, 0, 8, flags]);
        disk_request(program, &mut disk, kind, 0, (data, 16, false));
    }
}

/// Reads the first three sectors of the second disk, and writes them to sectors 4 to 6 of the first.
pub fn copy_parts(program: &mut Program) {
    let mut parts = program.start(PARTS, 0, 1).remove(0);
    let data = parts.data(0x400);
    disk_request(program, &mut parts, 0, 0, (data, 3 * 512, true));
    let mut disk = program.start(DISK, DISK_FEATURES, 1).remove(0);
    disk_request(program, &mut disk, 1, 4, (data, 3 * 512, false));
}

/// Connects to the host at this port, sends four bytes, waits for `word`, and ends it in both directions.
pub fn connect(program: &mut Program, port: u32) {
    let mut queues = program.start(VSOCK, 0, 3);
    let (mut to_host, mut to_guest) = (queues.remove(1), queues.remove(0));
    let packet = |op, flags, len| Packet {
        from: 77,
        to: port,
        op,
        flags,
        len,
    };
    for buffer in 0..4 {
        let at = to_guest.data(0x200 * buffer);
        program.offer(&mut to_guest, &[(at, 0x200, true)]);
    }
    // Request; then the host's response takes the first buffer.
    send_packet(program, &mut to_host, packet(1, 0, 0));
    program.wait(to_guest.data(28), 1 | 2 << 16);
    send_packet(program, &mut to_host, packet(5, 0, 4));
    // What the host says is in the second one.
    program.wait(to_guest.data(0x200 + 44), u32::from_le_bytes(*b"word"));
    send_packet(program, &mut to_host, packet(4, 2, 0));
    send_packet(program, &mut to_host, packet(4, 3, 0));
}

/// A vsock packet of the guest's.
#[derive(Clone, Copy, Debug)]
pub struct Packet {
    pub from: u32,
    pub to: u32,
    pub op: u32,
    pub flags: u32,
    pub len: u32,
}

/// Sends one; its payload, of zeros, is in the same buffer.
pub fn send_packet(program: &mut Program, queue: &mut Queue, packet: Packet) {
    let at = queue.data(0x100);
    let words = [
        3,
        0,
        2,
        0,
        packet.from,
        packet.to,
        packet.len,
        1 | packet.op << 16,
    ];
    program.store_all(at, &words);
    program.store_all(at + 32, &[packet.flags, 1 << 16, 0]);
    program.offer(queue, &[(at, 44 + packet.len, false)]);
    program.finish(queue);
}
