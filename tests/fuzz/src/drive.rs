//! Runs a script against a device.

use std::time::Duration;

use vmm_virtio::Device;
use vmm_virtio::testing::{Buffer, Harness, guest_ram_and_disk};

use crate::Script;

/// Guest memory.
const MEMORY: usize = 1 << 20;
/// Operations of one input; what is longer would only be slower.
const MOST: usize = 200;
/// Rounds of the event loop after which a device that is still busy spins.
const ROUNDS: usize = 300;

/// A byte before an operation after which the mapped disk's file has another length.
const CUT: u8 = 0xfd;

/// The host's side of a device.
pub trait Host {
    /// Does something that a program on the host might do, as the script says.
    fn act(&mut self, script: &mut Script<'_>);
    /// Bytes that a driver of this device might begin a request with, as the script says: what is
    /// offered well-formed should sometimes mean something.
    fn request(&mut self, script: &mut Script<'_>) -> Vec<u8>;
}

/// Lets the script's driver loose on a device. It panics if the device does, or if it spins.
pub fn drive<D: Device>(device: D, host: &mut dyn Host, script: &mut Script<'_>) {
    // A disk is mapped far above memory: its addresses come up in scripts, and its file is cut short by some.
    let (memory, disk) = guest_ram_and_disk(MEMORY, 0);
    let mut harness = Harness::new(device, memory);
    let flags = script.u8();
    harness.reset_rings_with(flags & 1 == 0);
    start(&mut harness, flags);
    for _ in 0..MOST {
        if script.is_empty() {
            break;
        }
        if script.peek() == Some(CUT) {
            let _ = disk.set_len(u64::from(script.u16()));
        }
        if step(&mut harness, host, script).is_err() {
            // As the loop does with a fault: the device is stopped, and the driver resets it.
            harness.stop();
            harness.reset_rings_with(flags & 1 == 0);
            start(&mut harness, flags);
        }
    }
    let _ = harness.settle(ROUNDS);
    harness.stop();
    assert!(harness.stop().is_empty(), "queues come back once");
}

fn start<D: Device>(harness: &mut Harness<D>, flags: u8) {
    let mut features = harness.device.spec().features;
    if flags & 1 != 0 {
        features &= !(1 << 29);
    }
    if flags & 2 != 0 {
        features &= u64::from(script_features(flags)) | !0xff_ffff;
    }
    harness.start_with(features).expect("fresh rings are good");
}

fn script_features(flags: u8) -> u32 {
    u32::from(flags >> 2) << 8
}

fn step<D: Device>(
    harness: &mut Harness<D>,
    host: &mut dyn Host,
    script: &mut Script<'_>,
) -> Result<(), vmm_virtio::Fault> {
    let operation = script.u8();
    let count = harness.queues.len();
    let number = usize::from(operation >> 4) % count;
    let Some(queue) = harness.queues.get_mut(number) else {
        return Ok(());
    };
    match operation & 0xf {
        0 => {
            let index = script.u16() % 16;
            let (addr, len) = (script.address(), script.length());
            let flags = u32::from(script.u8() % 8);
            queue.write_descriptor(index, addr, len, flags, u16::from(script.u8() % 18));
        }
        1 => queue.publish(u16::from(script.u8() % 18)),
        2 => queue.set_avail_index(script.u16()),
        3 | 4 => {
            // A request that is put together as a driver would.
            let request = host.request(script);
            let at = 0x2_0000 + u64::from(script.u8()) * 64;
            let writable = script.length();
            let _ = harness.mem.write(at, &request);
            let mut buffers = Vec::new();
            let len = u32::try_from(request.len()).unwrap_or(0);
            let cut = u32::from(script.u8()).min(len);
            for (addr, len) in [(at, cut), (at + u64::from(cut), len - cut)] {
                if len > 0 {
                    buffers.push(Buffer::readable(addr, len));
                }
            }
            if writable > 0 {
                buffers.push(Buffer::writable(0x4_0000 + at, writable.min(0x2_0000)));
            }
            if operation & 0xf == 3 {
                queue.offer(&buffers);
            } else if !buffers.is_empty() {
                queue.offer_indirect(0x8_0000 + at, &buffers);
            }
            harness.kick_if_wanted();
        }
        5 => {
            let len = 64 + script.length() % 0x2000;
            for n in 0..u64::from(script.u8() % 16) {
                let addr = 0xc_0000 + n * 0x2000;
                queue.offer(&[Buffer::writable(addr, len)]);
            }
            harness.kick_if_wanted();
        }
        6 => {
            let addr = script.address();
            let _ = harness.mem.write(addr, script.bytes(64));
        }
        7 | 8 => harness.kick(number),
        9 => while queue.take_used().is_some() {},
        10 | 11 => host.act(script),
        12 => {
            harness.turn(Duration::ZERO)?;
        }
        13 => harness.expire_timers()?,
        14 => harness.settle(ROUNDS)?,
        _ => {
            let offset = script.u64();
            let config = harness.device.config();
            config.read(offset, &mut [0; 16]);
            harness.device.config_write(offset, script.bytes(16));
            if script.u8() == 0xff {
                harness.stop();
                harness.reset_rings();
                start(harness, 0);
            }
        }
    }
    harness.turn(Duration::ZERO)?;
    Ok(())
}
