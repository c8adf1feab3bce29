//! Rings, chains and notifications, with the driver's half of the queue.

use vm_memory::GuestMemoryMmap;
use vmm_sys_util::eventfd::EFD_NONBLOCK;

use super::*;
use crate::testing::{Buffer, DriverQueue, guest_ram};

const DATA: u64 = 0x1_0000;

fn pair(size: u16, event_idx: bool) -> (GuestRam, DriverQueue, Queue) {
    let mem = guest_ram(1 << 20);
    let driver = DriverQueue::new(&mem, 0, size, event_idx);
    let kick = EventFd::new(EFD_NONBLOCK).unwrap();
    let queue = driver.setup().activate(0, &mem, kick, event_idx).unwrap();
    (mem, driver, queue)
}

#[test]
fn chains_come_in_order_and_go_back_in_any() {
    let (mem, mut driver, mut queue) = pair(8, true);
    let heads: Vec<u16> = (1..=3)
        .map(|len| driver.offer(&[Buffer::readable(DATA, len)]).unwrap())
        .collect();
    let first = queue.pop(&mem).unwrap().unwrap();
    let second = queue.pop(&mem).unwrap().unwrap();
    assert_eq!((first.readable_len(), second.readable_len()), (1, 2));
    queue.undo_pop(second);
    let second = queue.pop(&mem).unwrap().unwrap();
    assert_eq!((second.head(), second.readable_len()), (heads[1], 2));
    queue.complete(&mem, second, 7).unwrap();
    queue.complete(&mem, first, 9).unwrap();
    assert_eq!(driver.take_used(), Some((heads[1], 7)));
    assert_eq!(driver.take_used(), Some((heads[0], 9)));
    assert_eq!(driver.take_used(), None);
    let third = queue.pop(&mem).unwrap().unwrap();
    assert_eq!(third.readable_len(), 3);
    queue.complete(&mem, third, 0).unwrap();
    assert!(queue.pop(&mem).unwrap().is_none());
}

#[test]
fn indices_wrap() {
    let (mem, mut driver, mut queue) = pair(4, true);
    for n in 0..70_000u32 {
        driver
            .offer(&[Buffer::readable(DATA, 1 + n % 100)])
            .unwrap();
        let chain = queue.pop(&mem).unwrap().unwrap();
        assert_eq!(chain.readable_len(), 1 + n % 100);
        queue.complete(&mem, chain, n).unwrap();
        assert!(
            queue.needs_interrupt(&mem).unwrap(),
            "the driver waits for each"
        );
        assert_eq!(driver.take_used().unwrap().1, n);
    }
}

#[test]
fn one_batch_is_one_interrupt_and_one_kick() {
    let (mem, mut driver, mut queue) = pair(64, true);
    let mut interrupts = 0;
    let mut kicks = 0;
    for _ in 0..100 {
        for _ in 0..20 {
            driver.offer(&[Buffer::readable(DATA, 8)]).unwrap();
        }
        kicks += usize::from(driver.needs_kick());
        loop {
            while let Some(chain) = queue.pop(&mem).unwrap() {
                queue.complete(&mem, chain, 0).unwrap();
            }
            if !queue.enable_kicks(&mem).unwrap() {
                break;
            }
        }
        interrupts += usize::from(queue.needs_interrupt(&mem).unwrap());
        assert!(!queue.needs_interrupt(&mem).unwrap(), "nothing new");
        while driver.take_used().is_some() {}
    }
    assert_eq!((interrupts, kicks), (100, 100));
}

#[test]
fn a_chain_that_comes_while_kicks_go_on_is_not_missed() {
    for event_idx in [false, true] {
        let (mem, mut driver, mut queue) = pair(8, event_idx);
        queue.disable_kicks(&mem).unwrap();
        assert!(queue.pop(&mem).unwrap().is_none());
        driver.offer(&[Buffer::readable(DATA, 8)]).unwrap();
        driver.needs_kick();
        assert!(queue.enable_kicks(&mem).unwrap());
        let chain = queue.pop(&mem).unwrap().unwrap();
        queue.complete(&mem, chain, 0).unwrap();
        assert!(!queue.enable_kicks(&mem).unwrap());
        driver.offer(&[Buffer::readable(DATA, 8)]).unwrap();
        assert!(driver.needs_kick());
    }
}

#[test]
fn without_event_indices_the_flag_decides() {
    let (mem, mut driver, mut queue) = pair(8, false);
    for (flags, wanted) in [(0u16, true), (1, false)] {
        mem.write(driver.setup().avail_ring, &flags.to_le_bytes())
            .unwrap();
        driver.offer(&[Buffer::readable(DATA, 8)]).unwrap();
        let chain = queue.pop(&mem).unwrap().unwrap();
        queue.complete(&mem, chain, 0).unwrap();
        assert_eq!(queue.needs_interrupt(&mem).unwrap(), wanted);
    }
}

#[test]
fn an_indirect_table_may_follow_plain_descriptors() {
    let (mem, mut driver, mut queue) = pair(8, true);
    driver.write_descriptor(0, DATA, 10, 1, 1);
    driver.write_descriptor(1, DATA + 0x1000, 48, 4, 0);
    driver.write_raw(DATA + 0x1000, DATA + 10, 20, 1, 2);
    driver.write_raw(DATA + 0x1020, DATA + 30, 5, 2, 0);
    driver.publish(0);
    let chain = queue.pop(&mem).unwrap().unwrap();
    assert_eq!((chain.readable_len(), chain.writable_len()), (30, 5));
    queue.complete(&mem, chain, 0).unwrap();
}

#[test]
fn a_chain_has_a_longest_length() {
    for (count, good) in [(1024u16, true), (1025, false)] {
        let (mem, mut driver, mut queue) = pair(8, true);
        let table = DATA + 0x1000;
        for n in 0..count {
            let flags = u32::from(n + 1 < count);
            driver.write_raw(table + 16 * u64::from(n), DATA, 1, flags, n + 1);
        }
        driver.write_descriptor(0, table, 16 * u32::from(count), 4, 0);
        driver.publish(0);
        match queue.pop(&mem) {
            Ok(chain) => {
                assert!(good);
                queue.complete(&mem, chain.unwrap(), 0).unwrap();
            }
            Err(Fault::ChainLength { .. }) => assert!(!good),
            Err(other) => panic!("{other}"),
        }
    }
}

#[test]
fn bytes_cross_buffers_and_regions() {
    let inner = GuestMemoryMmap::from_ranges(&[
        (GuestAddress(0), 0x1_1000),
        (GuestAddress(0x1_1000), 0x1000),
    ]);
    let mem = GuestRam::new(inner.unwrap());
    let mut driver = DriverQueue::new(&mem, 0, 8, true);
    let kick = EventFd::new(EFD_NONBLOCK).unwrap();
    let mut queue = driver.setup().activate(0, &mem, kick, true).unwrap();
    let across = 0x1_0ffe;
    mem.write(DATA, b"ab").unwrap();
    mem.write(across, b"cdef").unwrap();
    driver
        .offer(&[
            Buffer::readable(DATA, 2),
            Buffer::readable(across, 4),
            Buffer::writable(across, 4),
            Buffer::writable(DATA, 1),
        ])
        .unwrap();
    let chain = queue.pop(&mem).unwrap().unwrap();
    for (offset, wanted) in [(0, &b"abcdef"[..]), (1, b"bcd"), (2, b"cdef"), (6, b"")] {
        let mut bytes = vec![0; wanted.len()];
        chain.read_at(&mem, offset, &mut bytes).unwrap();
        assert_eq!(bytes, wanted);
    }
    assert!(chain.read_at(&mem, 0, &mut [0; 7]).is_err());
    assert!(chain.read_at(&mem, u32::MAX, &mut [0]).is_err());
    assert_eq!(chain.readable_iovecs(&mem, 1, 100).unwrap().bytes(), 5);
    assert_eq!(chain.writable_iovecs(&mem, 1, 2).unwrap().bytes(), 2);
    chain.write_at(&mem, 1, b"wxyz").unwrap();
    assert!(chain.write_at(&mem, 1, b"vwxyz").is_err());
    let mut bytes = [0; 4];
    mem.read(across, &mut bytes).unwrap();
    assert_eq!(&bytes[1..], b"vwx");
    queue.complete(&mem, chain, 5).unwrap();
}

#[test]
fn the_setup_comes_back_as_it_was() {
    let (_, driver, queue) = pair(8, true);
    assert_eq!(queue.setup(), driver.setup());
    assert_eq!(queue.index(), 0);
}
