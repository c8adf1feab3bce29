//! A driver that pokes registers, politely and otherwise.

use std::sync::atomic::{AtomicUsize, Ordering};

use proptest::prelude::*;
use virtio_bindings::virtio_config::VIRTIO_F_VERSION_1;
use vmm_sys_util::eventfd::EFD_NONBLOCK;
use vmm_virtio::console::Console;
use vmm_virtio::testing::guest_ram;
use vmm_virtio::{QueueSetup, rng::Rng};

use super::*;

const ACKNOWLEDGE: u32 = 1;
const DRIVER: u32 = 2;
const DRIVER_OK: u32 = 4;
const FEATURES_OK: u32 = 8;
const FAILED: u32 = 128;
const READY: u32 = ACKNOWLEDGE | DRIVER | FEATURES_OK;
const LIVE: u32 = READY | DRIVER_OK;

/// The device's side: writes down what it was told.
#[derive(Debug, Default)]
struct Told {
    starts: Mutex<Vec<(u64, Vec<QueueSetup>)>>,
    resets: AtomicUsize,
    config: Mutex<Vec<(u64, Vec<u8>)>>,
}

impl DeviceControl for Arc<Told> {
    fn start(&self, features: u64, queues: Vec<Queue>) -> bool {
        let setups = queues.iter().map(Queue::setup).collect();
        self.starts.lock().unwrap().push((features, setups));
        true
    }
    fn reset(&self) {
        self.resets.fetch_add(1, Ordering::SeqCst);
    }
    fn config_write(&self, offset: u64, bytes: &[u8]) {
        self.config.lock().unwrap().push((offset, bytes.to_vec()));
    }
}

struct Driver {
    transport: MmioTransport,
    told: Arc<Told>,
    irq: Irq,
}

impl Driver {
    fn of(device: &dyn Device) -> Self {
        let told = Arc::new(Told::default());
        let irq = Irq::new(EventFd::new(EFD_NONBLOCK).unwrap());
        let kicks = device
            .spec()
            .queue_sizes
            .iter()
            .map(|_| EventFd::new(EFD_NONBLOCK).unwrap())
            .collect();
        let control = Box::new(Arc::clone(&told));
        let ram = guest_ram(1 << 20);
        Self {
            transport: MmioTransport::new(device, control, ram, irq.clone(), kicks),
            told,
            irq,
        }
    }

    fn new() -> Self {
        Self::of(&Rng::new())
    }

    fn read(&self, register: u32) -> u32 {
        let mut out = [0xff; 4];
        self.transport.read(u64::from(register), &mut out);
        u32::from_le_bytes(out)
    }

    fn write(&self, register: u32, value: u32) {
        self.transport
            .write(u64::from(register), &value.to_le_bytes());
    }

    fn status(&self) -> u32 {
        self.read(regs::VIRTIO_MMIO_STATUS)
    }

    fn set_status(&self, value: u32) -> u32 {
        self.write(regs::VIRTIO_MMIO_STATUS, value);
        self.status()
    }

    fn accept(&self, features: u64) {
        for (select, half) in [(0, features & 0xffff_ffff), (1, features >> 32)] {
            self.write(regs::VIRTIO_MMIO_DRIVER_FEATURES_SEL, select);
            let half = u32::try_from(half).unwrap();
            self.write(regs::VIRTIO_MMIO_DRIVER_FEATURES, half);
        }
    }

    fn negotiate(&self) {
        self.set_status(0);
        self.set_status(ACKNOWLEDGE);
        self.set_status(ACKNOWLEDGE | DRIVER);
        self.accept(1 << VIRTIO_F_VERSION_1);
        assert_eq!(self.set_status(READY), READY);
    }

    fn set_up_queue(&self, queue: u32, base: u32) {
        self.write(regs::VIRTIO_MMIO_QUEUE_SEL, queue);
        self.write(regs::VIRTIO_MMIO_QUEUE_NUM, 16);
        self.write(regs::VIRTIO_MMIO_QUEUE_DESC_LOW, base);
        self.write(regs::VIRTIO_MMIO_QUEUE_DESC_HIGH, 0);
        self.write(regs::VIRTIO_MMIO_QUEUE_AVAIL_LOW, base + 0x400);
        self.write(regs::VIRTIO_MMIO_QUEUE_AVAIL_HIGH, 0);
        self.write(regs::VIRTIO_MMIO_QUEUE_USED_LOW, base + 0x800);
        self.write(regs::VIRTIO_MMIO_QUEUE_USED_HIGH, 0);
        self.write(regs::VIRTIO_MMIO_QUEUE_READY, 1);
    }

    fn live() -> Self {
        let driver = Self::new();
        driver.negotiate();
        driver.set_up_queue(0, 0x1000);
        assert_eq!(driver.set_status(LIVE), LIVE);
        driver
    }

    fn starts(&self) -> usize {
        self.told.starts.lock().unwrap().len()
    }

    fn resets(&self) -> usize {
        self.told.resets.load(Ordering::SeqCst)
    }
}

#[test]
fn a_polite_driver_starts_the_device_once() {
    let driver = Driver::live();
    assert_eq!(driver.read(regs::VIRTIO_MMIO_MAGIC_VALUE), MAGIC);
    assert_eq!(driver.read(regs::VIRTIO_MMIO_VERSION), 2);
    assert_eq!(driver.read(regs::VIRTIO_MMIO_DEVICE_ID), 4);
    driver.set_status(LIVE);
    let starts = driver.told.starts.lock().unwrap();
    let [(features, queues)] = starts.as_slice() else {
        panic!("{starts:?}");
    };
    assert_eq!(*features, 1 << VIRTIO_F_VERSION_1);
    assert_eq!((queues[0].desc_table, queues[0].size), (0x1000, 16));
}

#[test]
fn a_live_queue_is_frozen() {
    let driver = Driver::live();
    let before = driver.read(regs::VIRTIO_MMIO_QUEUE_READY);
    driver.write(regs::VIRTIO_MMIO_QUEUE_NUM, 64);
    driver.write(regs::VIRTIO_MMIO_QUEUE_READY, 0);
    driver.write(regs::VIRTIO_MMIO_QUEUE_DESC_LOW, 0xffff_f000);
    assert_eq!(driver.read(regs::VIRTIO_MMIO_QUEUE_READY), before);
    let registers = driver.transport.lock();
    let queue = registers.queue().unwrap();
    assert_eq!((queue.size, queue.desc_table), (16, 0x1000));
    drop(registers);
    assert_eq!(driver.starts(), 1);
}

#[test]
fn a_ready_queue_and_chosen_features_are_frozen_too() {
    let driver = Driver::new();
    driver.negotiate();
    driver.set_up_queue(0, 0x1000);
    driver.write(regs::VIRTIO_MMIO_QUEUE_NUM, 64);
    assert_eq!(driver.transport.lock().queue().unwrap().size, 16);
    driver.accept(0);
    assert_eq!(driver.transport.lock().accepted(), 1 << VIRTIO_F_VERSION_1);
}

#[test]
fn queues_cannot_be_set_up_before_features_are_settled() {
    let driver = Driver::new();
    driver.set_status(ACKNOWLEDGE | DRIVER);
    driver.set_up_queue(0, 0x1000);
    assert_eq!(driver.read(regs::VIRTIO_MMIO_QUEUE_READY), 0);
}

#[test]
fn status_bits_come_in_order_and_are_not_cleared() {
    let driver = Driver::new();
    assert_eq!(driver.set_status(DRIVER), 0, "not acknowledged");
    assert_eq!(driver.set_status(DRIVER_OK), 0);
    assert_eq!(driver.set_status(ACKNOWLEDGE | DRIVER), 3);
    assert_eq!(driver.set_status(DRIVER), 3, "a bit was left out");
    assert_eq!(driver.set_status(3 | DRIVER_OK), 3, "features not settled");
    assert_eq!(driver.set_status(READY), 3, "VERSION_1 not accepted");
    driver.accept(1 << VIRTIO_F_VERSION_1 | 1 << 60);
    assert_eq!(driver.set_status(READY), 3, "a feature not offered");
    driver.accept(1 << VIRTIO_F_VERSION_1);
    assert_eq!(driver.set_status(READY), READY);
    assert_eq!(driver.set_status(READY | FAILED), READY | FAILED);
    assert_eq!(driver.set_status(LIVE | FAILED), READY | FAILED, "gave up");
    assert_eq!(driver.set_status(0), 0);
    assert_eq!(driver.starts(), 0);
}

#[test]
fn a_reset_reaches_a_live_device_and_forgets_everything() {
    let driver = Driver::live();
    driver.write(regs::VIRTIO_MMIO_QUEUE_NOTIFY, 0);
    driver.irq.queue(0);
    assert_eq!(driver.set_status(0), 0);
    assert_eq!(driver.resets(), 1);
    assert_eq!(driver.read(regs::VIRTIO_MMIO_INTERRUPT_STATUS), 0);
    assert_eq!(driver.read(regs::VIRTIO_MMIO_QUEUE_READY), 0);
    assert!(driver.transport.kicks[0].read().is_err(), "old kick");
    driver.set_status(0);
    assert_eq!(driver.resets(), 1, "nothing to reset");
    driver.negotiate();
    driver.set_up_queue(0, 0x2000);
    driver.set_status(LIVE);
    assert_eq!(driver.starts(), 2);
}

#[test]
fn bad_queues_ask_for_a_reset_and_start_nothing() {
    for (register, value) in [
        (regs::VIRTIO_MMIO_QUEUE_NUM, 0),
        (regs::VIRTIO_MMIO_QUEUE_NUM, 3),
        (regs::VIRTIO_MMIO_QUEUE_NUM, 0x1_0010),
        (regs::VIRTIO_MMIO_QUEUE_NUM, 32768),
        (regs::VIRTIO_MMIO_QUEUE_DESC_LOW, 0x1001),
        (regs::VIRTIO_MMIO_QUEUE_DESC_HIGH, 0xffff_ffff),
        (regs::VIRTIO_MMIO_QUEUE_USED_LOW, 0x1000),
        (regs::VIRTIO_MMIO_QUEUE_READY, 0),
    ] {
        let driver = Driver::new();
        driver.negotiate();
        driver.set_up_queue(0, 0x1000);
        driver.write(regs::VIRTIO_MMIO_QUEUE_READY, 0);
        driver.write(regs::VIRTIO_MMIO_QUEUE_READY, 1);
        if register != regs::VIRTIO_MMIO_QUEUE_READY {
            driver.write(regs::VIRTIO_MMIO_QUEUE_READY, 0);
            driver.write(register, value);
            driver.write(regs::VIRTIO_MMIO_QUEUE_READY, 1);
        } else {
            driver.write(register, value);
        }
        assert_eq!(driver.set_status(LIVE), LIVE | NEEDS_RESET, "{register:#x}");
        assert_eq!(driver.starts(), 0);
        assert_eq!(driver.set_status(LIVE | NEEDS_RESET), LIVE | NEEDS_RESET);
        assert_eq!(driver.set_status(0), 0);
    }
}

#[test]
fn odd_widths_and_places_do_nothing() {
    let driver = Driver::new();
    for len in [0, 1, 2, 3, 5, 8, 16] {
        let mut out = vec![0xff; len];
        driver.transport.read(0, &mut out);
        assert_eq!(out, vec![0xff; len]);
        driver.transport.write(
            u64::from(regs::VIRTIO_MMIO_STATUS),
            &vec![ACKNOWLEDGE.to_le_bytes()[0]; len],
        );
    }
    for offset in [1, 2, 3, 0x71, 0x08c, 0xfff8] {
        let mut out = [0xff; 4];
        driver.transport.write(offset, &[1; 4]);
        if offset < 0x100 {
            driver.transport.read(offset, &mut out);
            assert_eq!(out, [0xff; 4], "{offset:#x}");
        }
    }
    assert_eq!(driver.status(), 0);
    for register in [
        regs::VIRTIO_MMIO_SHM_LEN_LOW,
        regs::VIRTIO_MMIO_SHM_BASE_HIGH,
    ] {
        assert_eq!(driver.read(register), u32::MAX);
    }
}

#[test]
fn a_queue_that_is_not_there() {
    let driver = Driver::new();
    driver.negotiate();
    driver.set_up_queue(1, 0x1000);
    driver.set_up_queue(u32::MAX, 0x1000);
    assert_eq!(driver.read(regs::VIRTIO_MMIO_QUEUE_NUM_MAX), 0);
    assert_eq!(driver.read(regs::VIRTIO_MMIO_QUEUE_READY), 0);
    driver.write(regs::VIRTIO_MMIO_QUEUE_NOTIFY, 1);
    driver.write(regs::VIRTIO_MMIO_QUEUE_NOTIFY, u32::MAX);
    assert!(driver.transport.kicks[0].read().is_err());
}

#[test]
fn the_configuration_takes_its_own_widths() {
    let (_, sink) = rustix::pipe::pipe().unwrap();
    let driver = Driver::of(&Console::new(None, sink));
    for (at, len, good) in [
        (0, 1, true),
        (1, 1, true),
        (1, 2, false),
        (2, 4, false),
        (4, 4, true),
        (0, 8, true),
        (4, 8, false),
        (0, 3, false),
        (0x8000, 4, true),
    ] {
        let mut out = vec![0xff; len];
        driver.transport.read(CONFIG + at, &mut out);
        let expected = if good { 0 } else { 0xff };
        assert_eq!(out, vec![expected; len], "{at} {len}");
    }
    driver.transport.write(CONFIG, &[1; 4]);
    assert!(driver.told.config.lock().unwrap().is_empty(), "not live");
}

#[derive(Clone, Debug)]
enum Poke {
    Read(u64, usize),
    Write(u64, Vec<u8>),
}

fn poke() -> impl Strategy<Value = Poke> {
    let offset = prop_oneof![
        (0u64..0x120).prop_map(|o| o & !3),
        0u64..0x1000,
        Just(0x70),
        Just(0x44)
    ];
    let value = prop_oneof![
        prop::collection::vec(any::<u8>(), 0..9),
        (0u32..0x20).prop_map(|v| v.to_le_bytes().to_vec()),
    ];
    prop_oneof![
        (offset.clone(), 0usize..9).prop_map(|(o, n)| Poke::Read(o, n)),
        (offset, value).prop_map(|(o, v)| Poke::Write(o, v)),
    ]
}

proptest! {
    /// Whatever is poked: no panic, and the device is started and reset in turns.
    #[test]
    fn no_poking_breaks_the_order(pokes in prop::collection::vec(poke(), 0..300)) {
        let driver = Driver::new();
        driver.negotiate();
        for poke in pokes {
            match poke {
                Poke::Read(offset, len) => driver.transport.read(offset, &mut vec![0; len]),
                Poke::Write(offset, bytes) => driver.transport.write(offset, &bytes),
            }
            let live = usize::from(driver.transport.lock().is_live());
            let failed = usize::from(driver.irq.is_needs_reset());
            let (starts, resets) = (driver.starts(), driver.resets());
            // A start that was refused is followed by a reset all the same.
            prop_assert!(starts <= resets + live);
            prop_assert!(failed <= live);
        }
    }
}
