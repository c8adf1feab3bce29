//! A virtual machine: its memory, interrupt controllers and doorbells.
#![allow(unsafe_code)]

use std::os::fd::{FromRawFd, RawFd};

use kvm_bindings::{KVM_MEM_READONLY, kvm_userspace_memory_region};
use kvm_ioctls::{IoEventAddress, Kvm, VcpuFd, VmFd};
use vmm_sys_util::eventfd::{EFD_CLOEXEC, EFD_NONBLOCK, EventFd};
use vmm_virtio::GuestRam;

use super::{KvmError, System};
use crate::arch::x86_64::layout;
use crate::memory;

/// A machine in the kernel. It keeps its memory mapped for as long as it lives.
#[derive(Debug)]
pub struct Vm {
    fd: VmFd,
    ram: GuestRam,
}

impl Vm {
    /// Creates a machine with this memory, a local APIC for each vCPU to come and one I/O APIC, all
    /// emulated in the kernel. There is no interval timer: nothing that is described needs one.
    pub fn new(system: &System, ram: GuestRam) -> Result<Self, KvmError> {
        let fd = system.create_vm()?;
        let vm = Self { fd, ram };
        vm.map_memory()?;
        vm.fd
            .set_tss_address(layout::KVM_TSS)
            .map_err(KvmError::call("place its task state"))?;
        vm.fd
            .create_irq_chip()
            .map_err(KvmError::call("create interrupt controllers"))?;
        Ok(vm)
    }

    /// The machine's memory.
    pub fn ram(&self) -> &GuestRam {
        &self.ram
    }

    fn map_memory(&self) -> Result<(), KvmError> {
        for (slot, mapping) in (0..).zip(memory::mappings(&self.ram)) {
            // A write to what is read-only becomes one to an address without memory.
            let (flags, what) = match mapping.read_only {
                true => (KVM_MEM_READONLY, "map a disk into guest memory"),
                false => (0, "map guest memory"),
            };
            let region = kvm_userspace_memory_region {
                slot,
                flags,
                guest_phys_addr: mapping.guest,
                memory_size: mapping.len,
                userspace_addr: mapping.host,
            };
            // SAFETY: the mapping is `mapping.len` bytes long, is kept by `self.ram`, and `fd` is
            // closed with it; nothing holds a Rust reference into it.
            unsafe { self.fd.set_user_memory_region(region) }.map_err(KvmError::call(what))?;
        }
        Ok(())
    }

    /// An eventfd that raises this interrupt, once for each write.
    pub fn irq_line(&self, gsi: u32) -> Result<EventFd, KvmError> {
        let line = eventfd()?;
        self.fd
            .register_irqfd(&line, gsi)
            .map_err(KvmError::call("connect an interrupt"))?;
        Ok(line)
    }

    /// Makes a 32-bit write of `value` to a guest address signal `event`, without leaving the kernel.
    pub fn ring_on_write(&self, event: &EventFd, address: u64, value: u32) -> Result<(), KvmError> {
        self.fd
            .register_ioevent(event, &IoEventAddress::Mmio(address), value)
            .map_err(KvmError::call("connect a doorbell"))
    }

    pub(super) fn create_vcpu(&self, id: u8) -> Result<VcpuFd, KvmError> {
        self.fd
            .create_vcpu(u64::from(id))
            .map_err(KvmError::call("create a vCPU"))
    }
}

/// A non-blocking eventfd that no child inherits.
pub(crate) fn eventfd() -> Result<EventFd, KvmError> {
    EventFd::new(EFD_NONBLOCK | EFD_CLOEXEC).map_err(|source| KvmError::Call {
        what: "make an eventfd",
        source,
    })
}

/// Takes an open /dev/kvm.
pub(super) fn adopt(fd: RawFd) -> Kvm {
    // SAFETY: the caller has just taken `fd` out of the file that owned it.
    unsafe { Kvm::from_raw_fd(fd) }
}
