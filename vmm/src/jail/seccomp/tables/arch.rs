//! What differs between processors.

use crate::jail::seccomp::rule::{Call, call};

/// The call that waits on an epoll descriptor.
#[cfg(target_arch = "x86_64")]
pub(super) const EPOLL_WAIT: Call = call!(SYS_epoll_wait);
/// The call that waits on an epoll descriptor.
#[cfg(not(target_arch = "x86_64"))]
pub(super) const EPOLL_WAIT: Call = call!(SYS_epoll_pwait);

/// A request of KVM without an argument (`_IO(KVMIO, number)`).
const fn kvm(number: u32) -> u32 {
    0xae << 8 | number
}

/// Enter the guest.
pub(super) const KVM_RUN: u32 = kvm(0x80);
/// Tell the guest that it was paused.
pub(super) const KVM_KVMCLOCK_CTRL: u32 = kvm(0xad);
