//! What every device must survive: a driver that breaks the rules, one at a time.
//!
//! After each offence the device has either raised a [`Fault`], or answered as the specification
//! says, or noticed nothing because it had no use for that queue. It has not panicked, and its loop
//! is quiet again. Then it is stopped, its rings are made anew, and it starts again, as if nothing
//! had happened.

use virtio_bindings::virtio_ring::{VRING_DESC_F_INDIRECT, VRING_DESC_F_NEXT, VRING_DESC_F_WRITE};

use super::{Buffer, DISK, DriverQueue, Harness, guest_ram_and_disk};
use crate::{Device, Fault, QueueSetup, StartError};

/// Rounds of the loop after which a device that is still busy spins.
const ROUNDS: usize = 500;
/// Guest memory, from address 0.
const MEMORY: u64 = 16 << 20;
/// An address with no memory.
const NOWHERE: u64 = 1 << 40;

/// Runs every offence against `device`, on every queue.
///
/// `looks_at` are the queues that the device takes chains from in this test: an offence there must be
/// noticed. `stimulate` gives the device a reason to, such as input from the host; it is called after
/// every start.
pub fn conformance(device: &mut dyn Device, looks_at: &[u16], stimulate: &mut dyn FnMut()) {
    let (memory, disk) = guest_ram_and_disk(usize::try_from(MEMORY).expect("64-bit"), 0);
    let mut harness = Harness::new(device, memory);
    configuration(&mut harness);
    let count = u16::try_from(harness.queues.len()).expect("few");
    for queue in 0..count {
        for (name, offence) in SETUP_OFFENCES {
            bad_setup(&mut harness, queue, name, *offence);
        }
        for (name, offence) in FAULTS {
            let noticed = offend(&mut harness, queue, stimulate, *offence);
            assert!(
                noticed || !looks_at.contains(&queue),
                "queue {queue}: {name} went unnoticed"
            );
        }
        for (_, offence) in ODDITIES {
            offend(&mut harness, queue, stimulate, *offence);
        }
    }
    cycles(&mut harness, stimulate);
    without_event_indices(&mut harness, stimulate);
    disk.set_len(0).expect("a memfd has any size");
    for queue in 0..count {
        a_disk_that_is_gone(&mut harness, queue, stimulate);
    }
}

/// Reads and writes anywhere and of any length.
fn configuration(harness: &mut Harness<&mut dyn Device>) {
    let config = harness.device.config();
    for offset in [0, 1, 7, 59, 60, 255, 4096, u64::from(u32::MAX), u64::MAX] {
        for len in [0, 1, 2, 3, 4, 8, 300] {
            let mut out = vec![0xaa; len];
            config.read(offset, &mut out);
            if offset >= u64::try_from(config.len()).expect("64-bit") {
                assert!(
                    out.iter().all(|byte| *byte == 0),
                    "beyond the end are zeros"
                );
            }
            harness.device.config_write(offset, &out);
        }
    }
}

type SetupOffence = fn(&mut QueueSetup);

const SETUP_OFFENCES: &[(&str, SetupOffence)] = &[
    ("not ready", |s| s.ready = false),
    ("size zero", |s| s.size = 0),
    ("size no power of two", |s| s.size = s.max_size - 1),
    ("size above the maximum", |s| s.size = s.max_size * 2),
    ("size of 65535", |s| s.size = u16::MAX),
    ("table misaligned", |s| s.desc_table += 8),
    ("available ring misaligned", |s| s.avail_ring += 1),
    ("used ring misaligned", |s| s.used_ring += 2),
    ("table outside", |s| s.desc_table = NOWHERE),
    ("available ring outside", |s| s.avail_ring = NOWHERE),
    ("used ring outside", |s| s.used_ring = NOWHERE),
    ("table across the end", |s| s.desc_table = MEMORY - 16),
    ("available ring across the end", |s| {
        s.avail_ring = MEMORY - 2
    }),
    ("used ring across the end", |s| s.used_ring = MEMORY - 4),
    ("table wraps", |s| s.desc_table = u64::MAX - 15),
    ("available ring wraps", |s| s.avail_ring = u64::MAX - 1),
    ("used ring wraps", |s| s.used_ring = u64::MAX - 3),
    ("table in a mapped disk", |s| s.desc_table = DISK),
    ("available ring in a mapped disk", |s| s.avail_ring = DISK),
    ("used ring in a mapped disk", |s| s.used_ring = DISK),
    ("rings on the table", |s| s.avail_ring = s.desc_table),
    ("used ring on the table", |s| {
        s.used_ring = s.desc_table + 16
    }),
    ("rings on each other", |s| s.used_ring = s.avail_ring + 4),
];

fn bad_setup(
    harness: &mut Harness<&mut dyn Device>,
    queue: u16,
    name: &str,
    offence: SetupOffence,
) {
    harness.reset_rings();
    let rings = harness.queues.get_mut(usize::from(queue)).expect("a queue");
    rings.edit_setup(offence);
    let result = harness.start();
    assert!(
        matches!(result, Err(StartError::Fault(_))),
        "queue {queue}: {name} went unnoticed"
    );
    harness.stop();
}

/// A driver that misbehaves, on one queue; the number is where its memory is free.
type Offence = fn(&mut DriverQueue, u64);

const NEXT: u32 = VRING_DESC_F_NEXT;
const WRITE: u32 = VRING_DESC_F_WRITE;
const INDIRECT: u32 = VRING_DESC_F_INDIRECT;

/// Offences for which there is no answer but a fault.
const FAULTS: &[(&str, Offence)] = &[
    ("a chain of two that loops", |q, data| {
        q.write_descriptor(0, data, 64, NEXT, 1);
        q.write_descriptor(1, data, 64, NEXT, 0);
        q.publish(0);
    }),
    ("a descriptor that is its own next", |q, data| {
        q.write_descriptor(0, data, 64, NEXT | WRITE, 0);
        q.publish(0);
    }),
    ("a next beyond the table", |q, data| {
        q.write_descriptor(0, data, 64, NEXT, q.setup().size);
        q.publish(0);
    }),
    ("a next of 65535", |q, data| {
        q.write_descriptor(0, data, 64, NEXT, u16::MAX);
        q.publish(0);
    }),
    ("a head beyond the table", |q, _| q.publish(q.setup().size)),
    ("a head of 65535", |q, _| q.publish(u16::MAX)),
    ("a buffer outside memory", |q, _| one(q, NOWHERE, 64, 0)),
    ("a writable buffer outside memory", |q, _| {
        one(q, NOWHERE, 64, WRITE)
    }),
    ("a buffer across the end of memory", |q, _| {
        one(q, MEMORY - 8, 64, WRITE)
    }),
    ("a buffer to be written in a mapped disk", |q, _| {
        one(q, DISK, 64, WRITE)
    }),
    ("a buffer across the end of a mapped disk", |q, _| {
        one(q, DISK + (2 << 20) - 8, 64, 0)
    }),
    ("a buffer across the beginning of a mapped disk", |q, _| {
        one(q, DISK - 8, 64, 0)
    }),
    ("an indirect table in a mapped disk", |q, _| {
        one(q, DISK, 32, INDIRECT)
    }),
    ("a buffer across the end of addresses", |q, _| {
        one(q, u64::MAX - 8, 64, WRITE)
    }),
    ("a buffer of four gigabytes", |q, data| {
        one(q, data, u32::MAX, WRITE)
    }),
    ("a readable buffer of four gigabytes", |q, data| {
        one(q, data, u32::MAX, 0)
    }),
    ("an empty buffer", |q, data| one(q, data, 0, 0)),
    ("an empty writable buffer", |q, data| one(q, data, 0, WRITE)),
    ("a readable buffer after a writable one", |q, data| {
        q.write_descriptor(0, data, 64, NEXT | WRITE, 1);
        q.write_descriptor(1, data + 64, 64, 0, 0);
        q.publish(0);
    }),
    ("an available index that jumps by half", |q, _| {
        q.set_avail_index(0x8000)
    }),
    ("an available index that goes back", |q, _| {
        q.set_avail_index(u16::MAX)
    }),
    ("an available index one ring and one ahead", |q, _| {
        q.set_avail_index(q.setup().size + 1);
    }),
    ("an empty indirect table", |q, data| {
        one(q, data, 0, INDIRECT)
    }),
    ("a ragged indirect table", |q, data| {
        one(q, data, 24, INDIRECT)
    }),
    ("an indirect table outside memory", |q, _| {
        one(q, NOWHERE, 32, INDIRECT)
    }),
    ("an indirect table of four gigabytes", |q, data| {
        one(q, data, 0xffff_fff0, INDIRECT)
    }),
    ("an indirect table that is followed", |q, data| {
        table(q, data, &[(data + 0x1000, 64, 0, 0)]);
        one(q, data, 16, INDIRECT | NEXT);
    }),
    ("an indirect table in an indirect table", |q, data| {
        table(q, data, &[(data, 16, INDIRECT, 0)]);
        one(q, data, 16, INDIRECT);
    }),
    ("an indirect table that loops", |q, data| {
        let buffer = data + 0x1000;
        table(q, data, &[(buffer, 64, NEXT, 1), (buffer, 64, NEXT, 0)]);
        one(q, data, 32, INDIRECT);
    }),
    ("an indirect next beyond its table", |q, data| {
        table(q, data, &[(data + 0x1000, 64, NEXT, 1)]);
        one(q, data, 16, INDIRECT);
    }),
    ("buffers of more than four gigabytes together", |q, data| {
        let entries: Vec<_> = (1..=300).map(|n| (0, 16 << 20, NEXT | WRITE, n)).collect();
        table(q, data, &entries);
        one(q, data, 16 * 300, INDIRECT);
    }),
];

/// Strange, but not against the rules of a queue: a device may make of it what it likes.
const ODDITIES: &[(&str, Offence)] = &[
    ("the same buffer to read and to write", |q, data| {
        q.write_descriptor(0, data, 4096, NEXT, 1);
        q.write_descriptor(1, data, 4096, WRITE, 0);
        q.publish(0);
    }),
    ("overlapping buffers to write", |q, data| {
        q.write_descriptor(0, data, 4096, NEXT | WRITE, 1);
        q.write_descriptor(1, data + 1, 4096, WRITE, 0);
        q.publish(0);
    }),
    ("the descriptor table as the buffer", |q, _| {
        one(q, q.setup().desc_table, 4096, WRITE);
    }),
    ("the used ring as the buffer", |q, _| {
        one(q, q.setup().used_ring, 4096, WRITE)
    }),
    ("the available ring as the buffer", |q, _| {
        one(q, q.setup().avail_ring, 512, WRITE)
    }),
    ("all of memory to read", |q, _| {
        one(q, 0, u32::try_from(MEMORY).expect("small"), 0);
    }),
    ("a mapped disk to read", |q, _| one(q, DISK, 2 << 20, 0)),
    ("a mapped disk to read, and to write", |q, data| {
        q.write_descriptor(0, DISK + 8, 8192, NEXT, 1);
        q.write_descriptor(1, data, 4096, WRITE, 0);
        q.publish(0);
    }),
    ("one byte to read", |q, data| one(q, data, 1, 0)),
    ("one byte to write", |q, data| one(q, data, 1, WRITE)),
    ("the same chain a whole ring long", |q, data| {
        q.write_descriptor(0, data, 64, 0, 0);
        for _ in 0..q.setup().size {
            q.publish(0);
        }
    }),
    ("the same chain to write a whole ring long", |q, data| {
        q.write_descriptor(0, data, 64, WRITE, 0);
        for _ in 0..q.setup().size {
            q.publish(0);
        }
    }),
    ("unknown flags", |q, data| one(q, data, 64, 0xfff8)),
];

fn one(queue: &mut DriverQueue, addr: u64, len: u32, flags: u32) {
    queue.write_descriptor(0, addr, len, flags, 0);
    queue.publish(0);
}

fn table(queue: &DriverQueue, at: u64, entries: &[(u64, u32, u32, u16)]) {
    for (n, (addr, len, flags, next)) in (0u64..).zip(entries) {
        queue.write_raw(at + 16 * n, *addr, *len, *flags, *next);
    }
}

/// Commits one offence on a running device. `true`: it ended in a fault.
fn offend(
    harness: &mut Harness<&mut dyn Device>,
    queue: u16,
    stimulate: &mut dyn FnMut(),
    offence: Offence,
) -> bool {
    harness.reset_rings();
    let data = harness.data();
    harness.start().expect("a reset device starts");
    stimulate();
    let n = usize::from(queue);
    offence(harness.queues.get_mut(n).expect("a queue"), data);
    harness.kick(n);
    let result = harness.settle(ROUNDS);
    let queues = harness.queues.len();
    assert_eq!(harness.stop().len(), queues, "all queues come back");
    assert_eq!(harness.stop().len(), 0, "once");
    match result {
        Ok(()) => false,
        Err(Fault::Host(error)) => panic!("the guest's doing was blamed on the host: {error}"),
        Err(_) => true,
    }
}

/// A request in a mapped disk whose file was cut short: the device may stop, and nothing else happens. It is the
/// host's doing, not the guest's, and may be called that.
fn a_disk_that_is_gone(
    harness: &mut Harness<&mut dyn Device>,
    queue: u16,
    stimulate: &mut dyn FnMut(),
) {
    harness.reset_rings();
    let data = harness.data();
    harness.start().expect("a reset device starts");
    stimulate();
    let n = usize::from(queue);
    let rings = harness.queues.get_mut(n).expect("a queue");
    rings.write_descriptor(0, DISK, 4096, NEXT, 1);
    rings.write_descriptor(1, data, 4096, WRITE, 0);
    rings.publish(0);
    harness.kick(n);
    let _ = harness.settle(ROUNDS);
    harness.stop();
}

/// Starts and stops, with and without work in the queues.
fn cycles(harness: &mut Harness<&mut dyn Device>, stimulate: &mut dyn FnMut()) {
    let queues = harness.queues.len();
    for round in 0..8 {
        harness.reset_rings();
        harness.start().expect("a stopped device starts");
        if round % 2 == 1 {
            stimulate();
            let data = harness.data();
            for n in 0..queues {
                let queue = harness.queues.get_mut(n).expect("a queue");
                queue.offer(&[Buffer::writable(data, 4096)]);
                harness.kick(n);
            }
        }
        if round % 4 == 3 {
            // In the middle: some of what is ready was served, some was not. A fault is fine.
            let _ = harness.turn(std::time::Duration::ZERO);
        }
        assert_eq!(harness.stop().len(), queues, "all queues come back");
        assert_eq!(harness.stop().len(), 0, "once");
    }
}

/// A driver that did not negotiate event indices is served as well.
fn without_event_indices(harness: &mut Harness<&mut dyn Device>, stimulate: &mut dyn FnMut()) {
    harness.reset_rings_with(false);
    let event_idx = 1 << virtio_bindings::virtio_ring::VIRTIO_RING_F_EVENT_IDX;
    let features = harness.device.spec().features & !event_idx;
    harness.start_with(features).expect("it starts");
    stimulate();
    harness.settle(ROUNDS).expect("nothing to complain about");
    harness.stop();
}
