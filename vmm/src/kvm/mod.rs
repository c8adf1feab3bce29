//! KVM, thinly: each call of it that the machine makes, with an error that says which it was.

pub mod kick;
mod system;
mod vcpu;
mod vm;

use std::io;

pub use system::System;
pub use vcpu::{Exit, Vcpu};
pub use vm::Vm;
pub(crate) use vm::eventfd;

/// KVM cannot be used, or refused something.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum KvmError {
    /// There is no /dev/kvm.
    #[error(
        "there is no /dev/kvm; load the kernel's KVM module (modprobe kvm_intel or kvm_amd), \
         and in a virtual machine enable nested virtualization"
    )]
    Absent,
    /// /dev/kvm may not be opened.
    #[error("/dev/kvm may not be opened by this user; add the user to the group that owns it")]
    Forbidden(#[source] io::Error),
    /// /dev/kvm works by other means than the processor's.
    #[error(
        "/dev/kvm is there, but this processor offers no hardware virtualization (neither vmx nor \
         svm); enable it in the firmware, or nested virtualization on the outer host"
    )]
    NotHardware,
    /// /dev/kvm is something else, or of another version.
    #[error("/dev/kvm speaks version {0} of its interface, not 12; use a kernel of this decade")]
    Version(i32),
    /// A call failed.
    #[error("KVM refused to {what}")]
    Call {
        /// What was asked.
        what: &'static str,
        /// What KVM answered.
        #[source]
        source: io::Error,
    },
}

impl KvmError {
    fn call(what: &'static str) -> impl FnOnce(kvm_ioctls::Error) -> Self {
        move |error| Self::Call {
            what,
            source: io::Error::from_raw_os_error(error.errno()),
        }
    }
}
