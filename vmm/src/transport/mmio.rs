//! virtio-mmio, version 2: one page of 32-bit registers, then the device's configuration.
//!
//! The transport is all of a device that a vCPU thread touches: the register file under one small
//! lock, the configuration bytes and the interrupt bits, both of which it shares with the device.
//! Queue notifications normally do not even come here: KVM turns them into eventfd signals.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use virtio_bindings::virtio_mmio as regs;
use virtio_bindings::virtio_ring::VIRTIO_RING_F_EVENT_IDX;
use vmm_sys_util::eventfd::EventFd;
use vmm_virtio::{ConfigSpace, Device, Fault, GuestRam, Irq, Queue};

use super::DeviceControl;
use super::registers::{Half, NEEDS_RESET, Registers, Ring, Transition};
use crate::bus::BusDevice;
use crate::report::Limiter;

/// "virt"
const MAGIC: u32 = 0x7472_6976;
const VERSION: u32 = 2;
/// Whoever reads this can tell the machine apart: "MSBV".
const VENDOR: u32 = 0x5642_534d;
/// A shared-memory region that is not there has all ones as its length and address.
const NO_SHARED_MEMORY: u32 = u32::MAX;

const CONFIG: u64 = regs::VIRTIO_MMIO_CONFIG as u64;

/// A virtio device's registers.
#[derive(Debug)]
pub struct MmioTransport {
    kind: u32,
    registers: Mutex<Registers>,
    config: Arc<ConfigSpace>,
    irq: Irq,
    kicks: Vec<Arc<EventFd>>,
    ram: GuestRam,
    device: Box<dyn DeviceControl>,
    faults: Limiter,
}

impl MmioTransport {
    /// The registers of a device that is reached through `control`. `kicks` has an eventfd for each
    /// queue.
    pub fn new(
        device: &dyn Device,
        control: Box<dyn DeviceControl>,
        ram: GuestRam,
        irq: Irq,
        kicks: Vec<EventFd>,
    ) -> Self {
        let spec = device.spec();
        Self {
            kind: spec.kind,
            registers: Mutex::new(Registers::new(spec.features, &spec.queue_sizes)),
            config: device.config(),
            irq,
            kicks: kicks.into_iter().map(Arc::new).collect(),
            ram,
            device: control,
            faults: Limiter::default(),
        }
    }

    fn lock(&self) -> MutexGuard<'_, Registers> {
        // Nothing under the lock panics half way through a change.
        self.registers
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }

    fn read_register(&self, register: u32) -> Option<u32> {
        let queue =
            |value: fn(&vmm_virtio::QueueSetup) -> u32| self.lock().queue().map_or(0, value);
        Some(match register {
            regs::VIRTIO_MMIO_MAGIC_VALUE => MAGIC,
            regs::VIRTIO_MMIO_VERSION => VERSION,
            regs::VIRTIO_MMIO_DEVICE_ID => self.kind,
            regs::VIRTIO_MMIO_VENDOR_ID => VENDOR,
            regs::VIRTIO_MMIO_DEVICE_FEATURES => self.lock().device_features(),
            regs::VIRTIO_MMIO_QUEUE_NUM_MAX => queue(|queue| u32::from(queue.max_size)),
            regs::VIRTIO_MMIO_QUEUE_READY => queue(|queue| u32::from(queue.ready)),
            regs::VIRTIO_MMIO_INTERRUPT_STATUS => self.irq.status(),
            regs::VIRTIO_MMIO_STATUS => {
                let needs_reset = if self.irq.is_needs_reset() {
                    NEEDS_RESET
                } else {
                    0
                };
                self.lock().status() | needs_reset
            }
            regs::VIRTIO_MMIO_SHM_LEN_LOW
            | regs::VIRTIO_MMIO_SHM_LEN_HIGH
            | regs::VIRTIO_MMIO_SHM_BASE_LOW
            | regs::VIRTIO_MMIO_SHM_BASE_HIGH => NO_SHARED_MEMORY,
            regs::VIRTIO_MMIO_CONFIG_GENERATION => self.config.generation(),
            _ => return None,
        })
    }

    fn write_register(&self, register: u32, value: u32) {
        let address = |ring, half| self.lock().set_queue_address(ring, half, value);
        match register {
            regs::VIRTIO_MMIO_DEVICE_FEATURES_SEL => self.lock().select_device_features(value),
            regs::VIRTIO_MMIO_DRIVER_FEATURES_SEL => self.lock().select_driver_features(value),
            regs::VIRTIO_MMIO_DRIVER_FEATURES => self.lock().set_driver_features(value),
            regs::VIRTIO_MMIO_QUEUE_SEL => self.lock().select_queue(value),
            regs::VIRTIO_MMIO_QUEUE_NUM => self.lock().set_queue_size(value),
            regs::VIRTIO_MMIO_QUEUE_READY => self.lock().set_queue_ready(value),
            regs::VIRTIO_MMIO_QUEUE_NOTIFY => self.kick(value),
            regs::VIRTIO_MMIO_INTERRUPT_ACK => self.irq.acknowledge(value),
            regs::VIRTIO_MMIO_STATUS => self.set_status(value),
            regs::VIRTIO_MMIO_QUEUE_DESC_LOW => address(Ring::Descriptors, Half::Low),
            regs::VIRTIO_MMIO_QUEUE_DESC_HIGH => address(Ring::Descriptors, Half::High),
            regs::VIRTIO_MMIO_QUEUE_AVAIL_LOW => address(Ring::Available, Half::Low),
            regs::VIRTIO_MMIO_QUEUE_AVAIL_HIGH => address(Ring::Available, Half::High),
            regs::VIRTIO_MMIO_QUEUE_USED_LOW => address(Ring::Used, Half::Low),
            regs::VIRTIO_MMIO_QUEUE_USED_HIGH => address(Ring::Used, Half::High),
            _ => {}
        }
    }

    /// A notification that KVM did not take.
    fn kick(&self, queue: u32) {
        let kick = usize::try_from(queue)
            .ok()
            .and_then(|queue| self.kicks.get(queue));
        if let Some(kick) = kick {
            // It fails only when the counter is full, and then the device is awake.
            let _ = kick.write(1);
        }
    }

    fn set_status(&self, value: u32) {
        // The lock is held throughout: another vCPU must not find the device half started, or set it
        // up again while it is being stopped.
        let mut registers = self.lock();
        match registers.set_status(value) {
            Transition::None => {}
            Transition::Reset { was_live } => {
                if was_live {
                    self.device.reset();
                }
                for kick in &self.kicks {
                    // Kicks of the life that ended; it fails when there were none.
                    let _ = kick.read();
                }
                self.irq.reset();
            }
            Transition::Start => self.start(&registers),
        }
    }

    fn start(&self, registers: &Registers) {
        let started = match self.activate(registers) {
            Ok(queues) => self.device.start(registers.accepted(), queues),
            Err(fault) => {
                if let Some(faults) = self.faults.count() {
                    let cause = crate::report::chain(&fault);
                    tracing::warn!(kind = self.kind, faults, "device not started: {cause}");
                }
                false
            }
        };
        if !started {
            self.irq.needs_reset();
        }
    }

    fn activate(&self, registers: &Registers) -> Result<Vec<Queue>, Fault> {
        let event_idx = registers.accepted() & 1 << VIRTIO_RING_F_EVENT_IDX != 0;
        registers
            .queues()
            .iter()
            .zip(&self.kicks)
            .zip(0..)
            .map(|((setup, kick), index)| {
                setup.activate(index, &self.ram, Arc::clone(kick), event_idx)
            })
            .collect()
    }
}

impl BusDevice for MmioTransport {
    fn read(&self, offset: u64, out: &mut [u8]) {
        if let Some(at) = offset.checked_sub(CONFIG) {
            if is_config_access(at, out.len()) {
                self.config.read(at, out);
            }
            return;
        }
        // Anything but an aligned 32-bit access reads all ones, as `out` is already.
        if let (Some(register), Ok(out)) = (register(offset), <&mut [u8; 4]>::try_from(out))
            && let Some(value) = self.read_register(register)
        {
            *out = value.to_le_bytes();
        }
    }

    fn write(&self, offset: u64, bytes: &[u8]) {
        if let Some(at) = offset.checked_sub(CONFIG) {
            if is_config_access(at, bytes.len()) && self.lock().is_live() {
                self.device.config_write(at, bytes);
            }
            return;
        }
        if let (Some(register), Ok(bytes)) = (register(offset), <[u8; 4]>::try_from(bytes)) {
            self.write_register(register, u32::from_le_bytes(bytes));
        }
    }
}

fn register(offset: u64) -> Option<u32> {
    u32::try_from(offset).ok().filter(|at| at % 4 == 0)
}

/// Fields are 1, 2, 4 or 8 bytes wide and lie at multiples of their width.
fn is_config_access(at: u64, len: usize) -> bool {
    matches!(len, 1 | 2 | 4 | 8) && u64::try_from(len).is_ok_and(|len| at.is_multiple_of(len))
}

#[cfg(test)]
mod tests;
