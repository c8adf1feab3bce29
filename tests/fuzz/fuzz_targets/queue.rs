#![no_main]
//! A queue by itself: any registers, any rings, and a device that takes, returns and completes.

use libfuzzer_sys::fuzz_target;
use msb_fuzz::Script;
use vmm_sys_util::eventfd::{EFD_NONBLOCK, EventFd};
use vmm_virtio::testing::{DriverQueue, guest_ram};
use vmm_virtio::{Fault, GuestRam, Queue, QueueSetup};

fn setup(good: QueueSetup, script: &mut Script<'_>) -> QueueSetup {
    let mut setup = good;
    match script.u8() % 8 {
        0 => setup.size = script.u16(),
        1 => setup.desc_table = script.address(),
        2 => setup.avail_ring = script.address(),
        3 => setup.used_ring = script.address(),
        4 => setup.ready = false,
        _ => {}
    }
    setup
}

fn work(queue: &mut Queue, mem: &GuestRam, script: &mut Script<'_>) -> Result<(), Fault> {
    let mut held = Vec::new();
    for _ in 0..8 {
        if let Some(chain) = queue.pop(mem)? {
            let mut bytes = vec![0; usize::from(script.u8())];
            let readable = chain.read_at(mem, u32::from(script.u8()), &mut bytes);
            let fits = u64::from(chain.readable_len()) >= bytes.len() as u64;
            assert!(readable.is_err() || fits || bytes.is_empty());
            let _ = chain.write_at(mem, u32::from(script.u8()), &bytes);
            if script.u8() % 4 == 0 && held.is_empty() {
                queue.undo_pop(chain);
            } else {
                held.push(chain);
            }
        }
        if script.u8() % 2 == 0
            && let Some(chain) = held.pop()
        {
            let written = chain.writable_len();
            queue.complete(mem, chain, written)?;
        }
        queue.needs_interrupt(mem)?;
        if script.u8() % 2 == 0 {
            queue.enable_kicks(mem)?;
        } else {
            queue.disable_kicks(mem)?;
        }
    }
    for chain in held {
        queue.complete(mem, chain, 0)?;
    }
    Ok(())
}

fuzz_target!(|bytes: &[u8]| {
    let mut script = Script::new(bytes);
    let mem = guest_ram(1 << 20);
    let flags = script.u8();
    let event_idx = flags & 1 == 0;
    let mut driver = DriverQueue::new(&mem, 0x1000, 16, event_idx);
    let kick = EventFd::new(EFD_NONBLOCK).expect("eventfd");
    let Ok(mut queue) = setup(driver.setup(), &mut script).activate(0, &mem, kick, event_idx)
    else {
        return;
    };
    for _ in 0..100 {
        if script.is_empty() {
            break;
        }
        match script.u8() % 8 {
            0..=2 => {
                let index = u16::from(script.u8() % 16);
                let (addr, len) = (script.address(), script.length());
                let flags = u32::from(script.u8() % 8);
                driver.write_descriptor(index, addr, len, flags, u16::from(script.u8() % 18));
            }
            3 | 4 => driver.publish(u16::from(script.u8() % 18)),
            5 => driver.set_avail_index(script.u16()),
            6 => {
                let addr = script.address();
                let _ = mem.write(addr, script.bytes(64));
            }
            _ => {
                if work(&mut queue, &mem, &mut script).is_err() {
                    return;
                }
            }
        }
    }
});
