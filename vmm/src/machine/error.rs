//! Why a machine could not be built, although its description was good.

use std::io;

use msb_vmapi::{ErrorKind, VmError};
use vmm_virtio::Fault;

use crate::arch::x86_64::boot::BootError;
use crate::bus::BusError;
use crate::kvm::KvmError;
use crate::memory::MapError;

/// The host did not give what the machine needs.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum MachineError {
    /// KVM refused.
    #[error("cannot use KVM")]
    Kvm(#[from] KvmError),
    /// No memory.
    #[error("cannot give the guest its memory")]
    Memory(#[from] MapError),
    /// The boot data could not be written.
    #[error("cannot prepare the boot")]
    Boot(#[from] BootError),
    /// The ACPI tables could not be written.
    #[error("cannot write the ACPI tables")]
    Acpi(#[source] Fault),
    /// The processor description is longer than KVM takes.
    #[error("cannot describe the processors")]
    Cpuid,
    /// Two devices at one address: a mistake of this program.
    #[error("cannot place a device")]
    Bus(#[from] BusError),
    /// A thread, a descriptor or the terminal.
    #[error("cannot {what}")]
    Host {
        /// What was tried.
        what: &'static str,
        /// Why not.
        #[source]
        source: io::Error,
    },
}

impl MachineError {
    pub(crate) fn host(what: &'static str) -> impl FnOnce(io::Error) -> Self {
        move |source| Self::Host { what, source }
    }

    /// What a program matches on.
    pub fn kind(&self) -> ErrorKind {
        match self {
            Self::Kvm(error) => error.kind(),
            // The file changed since it was checked, or cannot be read.
            Self::Boot(BootError::Kernel(_)) => ErrorKind::Kernel,
            Self::Boot(BootError::Initrd(_)) => ErrorKind::Initrd,
            _ => ErrorKind::Host,
        }
    }

    /// The error as it travels.
    pub fn to_vm_error(&self) -> VmError {
        VmError {
            kind: self.kind(),
            message: crate::report::chain(self),
        }
    }
}

impl KvmError {
    /// What a program matches on.
    pub fn kind(&self) -> ErrorKind {
        match self {
            Self::Absent => ErrorKind::KvmAbsent,
            Self::Forbidden(_) => ErrorKind::KvmForbidden,
            Self::NotHardware => ErrorKind::KvmNotHardware,
            Self::Version(_) | Self::Call { .. } => ErrorKind::Host,
        }
    }
}
