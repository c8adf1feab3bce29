//! A virtual processor: its state at power-on, and one entry into the guest.

use kvm_bindings::CpuId;
use kvm_ioctls::{VcpuExit, VcpuFd};

use super::{KvmError, Vm};
use crate::arch::x86_64::{cpuid, msrs, regs};

/// A virtual processor. Only the thread that runs it touches it after it was made.
#[derive(Debug)]
pub struct Vcpu {
    fd: VcpuFd,
    id: u8,
}

/// Why the guest was left.
#[derive(Debug)]
pub enum Exit<'a> {
    /// It reads from this port; fill the bytes.
    PortRead(u64, &'a mut [u8]),
    /// It writes to this port.
    PortWrite(u64, &'a [u8]),
    /// It reads from an address without memory; fill the bytes.
    MmioRead(u64, &'a mut [u8]),
    /// It writes to an address without memory.
    MmioWrite(u64, &'a [u8]),
    /// A signal came.
    Interrupted,
    /// A triple fault.
    TripleFault,
    /// The host cannot give the guest a page of its memory, at this address where KVM says it: a file of a mapped
    /// disk has lost it, or the host's memory is failing.
    MemoryLost(Option<u64>),
    /// The processor cannot go on.
    Failed(String),
    /// Nothing that matters.
    Other,
}

impl Vcpu {
    /// Makes vCPU `id` as it is at power-on, waiting to be started by vCPU 0 unless it is that.
    pub fn new(vm: &Vm, id: u8, machine: &CpuId) -> Result<Self, KvmError> {
        let fd = vm.create_vcpu(id)?;
        let mut cpuid = machine.clone();
        // 0 where KVM does not know it, which is what the leaf says then too.
        cpuid::number(&mut cpuid, id, fd.get_tsc_khz().unwrap_or(0));
        fd.set_cpuid2(&cpuid)
            .map_err(KvmError::call("accept the processor's features"))?;
        let msrs = msrs::at_power_on().map_err(|_| KvmError::Call {
            what: "hold the processor's registers",
            source: std::io::ErrorKind::OutOfMemory.into(),
        })?;
        fd.set_msrs(&msrs)
            .map_err(KvmError::call("set model-specific registers"))?;
        Ok(Self { fd, id })
    }

    /// Puts the processor at a kernel's PVH entry.
    pub fn enter_at(&self, entry: u32) -> Result<(), KvmError> {
        let mut sregs = self
            .fd
            .get_sregs()
            .map_err(KvmError::call("read segment registers"))?;
        regs::enter_protected_mode(&mut sregs);
        self.fd
            .set_sregs(&sregs)
            .map_err(KvmError::call("set segment registers"))?;
        self.fd
            .set_regs(&regs::at_entry(entry))
            .map_err(KvmError::call("set registers"))
    }

    /// Its number.
    pub fn id(&self) -> u8 {
        self.id
    }

    /// The descriptor, for what is done to it from a signal handler.
    pub(crate) fn fd(&mut self) -> &mut VcpuFd {
        &mut self.fd
    }

    /// Runs the guest until something is wanted of the host.
    pub fn run(&mut self) -> Exit<'_> {
        match self.fd.run() {
            Ok(VcpuExit::IoIn(port, data)) => Exit::PortRead(u64::from(port), data),
            Ok(VcpuExit::IoOut(port, data)) => Exit::PortWrite(u64::from(port), data),
            Ok(VcpuExit::MmioRead(address, data)) => Exit::MmioRead(address, data),
            Ok(VcpuExit::MmioWrite(address, data)) => Exit::MmioWrite(address, data),
            Ok(VcpuExit::Shutdown) => Exit::TripleFault,
            Ok(VcpuExit::FailEntry(reason, cpu)) => Exit::Failed(format!(
                "KVM_EXIT_FAIL_ENTRY: hardware reason {reason:#x} on processor {cpu}"
            )),
            Ok(VcpuExit::InternalError) => {
                let why = "KVM_EXIT_INTERNAL_ERROR, mostly an instruction that it cannot emulate";
                Exit::Failed(why.to_owned())
            }
            Ok(VcpuExit::Intr) => Exit::Interrupted,
            // Kernels before 6.8 say no more than the error.
            Ok(VcpuExit::MemoryFault { gpa, .. }) => Exit::MemoryLost(Some(gpa)),
            Ok(VcpuExit::Hlt | VcpuExit::IrqWindowOpen) => Exit::Other,
            Ok(exit) => Exit::Failed(format!("KVM exit that this machine never causes: {exit:?}")),
            Err(error) => match error.errno() {
                libc::EINTR | libc::EAGAIN => Exit::Interrupted,
                libc::EFAULT | libc::EHWPOISON => Exit::MemoryLost(None),
                _ => Exit::Failed(format!("KVM_RUN: {error}")),
            },
        }
    }

    /// Sets the flag in this processor's page of the guest's clock that says "I was stopped": the
    /// guest's watchdogs then do not take the time that passed for a lock-up. The clock itself needs
    /// nothing: it went on.
    pub(super) fn tell_of_pause(&self) {
        match self.fd.kvmclock_ctrl() {
            Ok(()) => {}
            // The guest has no such clock, or not yet.
            Err(error) if error.errno() == libc::EINVAL => {}
            Err(error) => tracing::debug!(
                vcpu = self.id,
                "the guest does not know of its pause: {error}"
            ),
        }
    }

    /// Takes back what a kick asked for, so that the guest can be entered again.
    pub(super) fn clear_kick(&mut self) {
        self.fd.set_kvm_immediate_exit(0);
    }
}
