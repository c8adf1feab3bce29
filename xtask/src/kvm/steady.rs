//! Machines that are held, never run, so that the nested kernel's code stays as it is.
//!
//! The kernel switches rarely used branches by rewriting its own instructions while it runs. KVM does
//! so for the first and the last machine of the host, and for the first and the last virtual processor
//! whose local APIC is absent or switched off, which means at every start of a machine. An emulator
//! with a thread for each processor does not always see such a rewriting as processors do, and the
//! nested kernel then dies of a stray breakpoint. While these machines exist, none of them is the last.

use kvm_ioctls::{Kvm, VcpuFd, VmFd};

/// What is held. Never used, only kept.
#[derive(Debug)]
pub(super) struct Steady {
    _machines: Vec<(VcpuFd, VmFd)>,
}

/// Makes one machine with local APICs and one without. Fails softly: it only makes things steadier.
pub(super) fn hold() -> Steady {
    let machines = [true, false]
        .into_iter()
        .filter_map(|apic| machine(apic).ok());
    Steady {
        _machines: machines.collect(),
    }
}

fn machine(apic: bool) -> Result<(VcpuFd, VmFd), kvm_ioctls::Error> {
    let vm = Kvm::new()?.create_vm()?;
    if apic {
        vm.create_irq_chip()?;
    }
    let vcpu = vm.create_vcpu(0)?;
    Ok((vcpu, vm))
}
