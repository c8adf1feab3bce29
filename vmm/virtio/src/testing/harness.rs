//! A device, its driver and its event loop, in one hand.

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::sync::Arc;
use std::time::{Duration, Instant};

use rustix::fs::{MemfdFlags, memfd_create};

use vm_memory::{GuestAddress, GuestMemoryMmap};
use vmm_sys_util::eventfd::{EFD_NONBLOCK, EventFd};

use super::{DriverQueue, TestLoop};
use crate::block::Backing;
use crate::{COMMON_FEATURES, Device, Fault, GuestRam, Irq, Live, StartError, Tag, Window};

/// Where the rings start; each queue has [`DriverQueue::BYTES`].
const RINGS: u64 = 0x1000;

/// Where the mapped disk of [`guest_ram_and_disk`] begins.
pub const DISK: u64 = 1 << 33;
/// Bytes of that disk that are those of a file; behind them are zeros.
pub const DISK_BYTES: u64 = 8192;

/// `bytes` of guest memory from address 0.
pub fn guest_ram(bytes: usize) -> GuestRam {
    GuestRam::new(from_zero(bytes))
}

/// The same, and far above it a mapped disk. Its file, which is returned too, is full of the byte `fill`.
pub fn guest_ram_and_disk(bytes: usize, fill: u8) -> (GuestRam, File) {
    let file = File::from(memfd_create("disk", MemfdFlags::CLOEXEC).expect("memfd"));
    let content = vec![fill; usize::try_from(DISK_BYTES).expect("small")];
    file.write_all_at(&content, 0).expect("memfd");
    let backing = Backing::whole(file.try_clone().expect("descriptor")).expect("a disk");
    let window = Window::map(DISK, backing).expect("a mapping");
    let ram = GuestRam::with_windows(from_zero(bytes), vec![window]);
    (ram, file)
}

fn from_zero(bytes: usize) -> GuestMemoryMmap<()> {
    GuestMemoryMmap::from_ranges(&[(GuestAddress(0), bytes)]).expect("memory")
}

fn rings(mem: &GuestRam, sizes: &[u16], event_idx: bool) -> Vec<DriverQueue> {
    (0u64..)
        .zip(sizes)
        .map(|(n, size)| DriverQueue::new(mem, RINGS + n * DriverQueue::BYTES, *size, event_idx))
        .collect()
}

/// Drives one device.
#[derive(Debug)]
pub struct Harness<D> {
    /// The device.
    pub device: D,
    /// The guest's memory; [`Harness::data`] says where it is free.
    pub mem: GuestRam,
    /// The device's event loop.
    pub events: TestLoop,
    /// The driver's side of each queue.
    pub queues: Vec<DriverQueue>,
    /// The transport's side of the interrupt.
    pub irq: Irq,
    line: EventFd,
    kicks: Vec<Arc<EventFd>>,
    /// Calls of `ready` so far.
    pub calls: usize,
}

impl<D: Device> Harness<D> {
    /// A device that is not started, and fresh rings for it.
    pub fn new(device: D, mem: GuestRam) -> Self {
        let line = EventFd::new(EFD_NONBLOCK).expect("eventfd");
        let irq = Irq::new(line.try_clone().expect("eventfd"));
        let sizes = device.spec().queue_sizes.clone();
        let queues = rings(&mem, &sizes, true);
        Self {
            device,
            mem,
            events: TestLoop::default(),
            queues,
            irq,
            line,
            kicks: Vec::new(),
            calls: 0,
        }
    }

    /// The first guest address after the rings.
    pub fn data(&self) -> u64 {
        RINGS + DriverQueue::BYTES * u64::try_from(self.queues.len()).expect("few")
    }

    /// Makes the rings anew, as a driver does after a reset.
    pub fn reset_rings(&mut self) {
        self.reset_rings_with(true);
    }

    /// The same, with or without event indices negotiated.
    pub fn reset_rings_with(&mut self, event_idx: bool) {
        let sizes = self.device.spec().queue_sizes.clone();
        self.queues = rings(&self.mem, &sizes, event_idx);
        self.irq.reset();
    }

    /// Activates the queues and starts the device, as the transport and the loop do at DRIVER_OK.
    pub fn start(&mut self) -> Result<(), StartError> {
        let features = self.device.spec().features;
        self.start_with(features)
    }

    /// The same, with these features negotiated.
    pub fn start_with(&mut self, features: u64) -> Result<(), StartError> {
        let event_idx = features
            & (1 << virtio_bindings::virtio_ring::VIRTIO_RING_F_EVENT_IDX)
            & COMMON_FEATURES
            != 0;
        self.kicks.clear();
        let mut queues = Vec::new();
        for (n, queue) in (0u16..).zip(&self.queues) {
            let kick = Arc::new(EventFd::new(EFD_NONBLOCK).expect("eventfd"));
            self.kicks.push(Arc::clone(&kick));
            queues.push(queue.setup().activate(n, &self.mem, kick, event_idx)?);
        }
        let live = Live {
            mem: self.mem.clone(),
            irq: self.irq.clone(),
            features,
            queues,
        };
        self.device.start(live, &mut self.events)?;
        for n in (0u16..)
            .zip(&self.queues)
            .map(|(n, _)| n)
            .collect::<Vec<_>>()
        {
            self.call(Tag::queue(n))?;
        }
        Ok(())
    }

    /// Stops the device.
    pub fn stop(&mut self) -> Vec<crate::Queue> {
        self.events.clear();
        self.device.stop()
    }

    /// Kicks a queue whether the device wants it or not.
    pub fn kick(&self, queue: usize) {
        self.kicks
            .get(queue)
            .expect("a live queue")
            .write(1)
            .expect("kick");
    }

    /// Kicks every queue for which the device asked to be kicked.
    pub fn kick_if_wanted(&mut self) {
        for (queue, kick) in self.queues.iter_mut().zip(&self.kicks) {
            if queue.needs_kick() {
                kick.write(1).expect("kick");
            }
        }
    }

    /// One round of the loop: waits for at most `timeout`, serves what is ready. Returns how many
    /// events that was.
    pub fn turn(&mut self, timeout: Duration) -> Result<usize, Fault> {
        let tags = self.events.wait(timeout);
        for tag in &tags {
            self.call(*tag)?;
        }
        Ok(tags.len())
    }

    /// Rounds without waiting, until nothing is ready. More than `most` of them is a spin.
    pub fn settle(&mut self, most: usize) -> Result<(), Fault> {
        for _ in 0..most {
            if self.turn(Duration::ZERO)? == 0 {
                return Ok(());
            }
        }
        panic!("still busy after {most} rounds: the device spins");
    }

    /// Lets all timers expire at once.
    pub fn expire_timers(&mut self) -> Result<(), Fault> {
        for tag in self.events.expire_timers() {
            self.call(tag)?;
        }
        Ok(())
    }

    /// Rounds until `done`, or a panic after `limit`.
    pub fn run_until(&mut self, limit: Duration, mut done: impl FnMut(&mut Self) -> bool) {
        let end = Instant::now() + limit;
        while !done(self) {
            assert!(Instant::now() < end, "not done in {limit:?}");
            self.turn(Duration::from_millis(20)).expect("no fault");
        }
    }

    /// Whether the device interrupted since the last call.
    pub fn take_interrupt(&self) -> bool {
        let raised = self.line.read().is_ok();
        self.irq.acknowledge(self.irq.status());
        raised
    }

    fn call(&mut self, tag: Tag) -> Result<(), Fault> {
        self.calls += 1;
        self.device.ready(tag, &mut self.events)
    }
}
