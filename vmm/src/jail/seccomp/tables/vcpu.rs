//! A vCPU: enters the guest, and passes on what it wants of the outside.

use super::arch::{KVM_KVMCLOCK_CTRL, KVM_RUN};
use crate::jail::seccomp::rule::{Rule, any, call, int, with};

pub(super) const RULES: &[Rule] = &[
    any(
        call!(SYS_read),
        "takes back kicks of the life that ended, when the driver resets a device",
    ),
    with(
        call!(SYS_ioctl),
        &[int(1, KVM_RUN)],
        "KVM_RUN: enters the guest",
    ),
    with(
        call!(SYS_ioctl),
        &[int(1, KVM_KVMCLOCK_CTRL)],
        "KVM_KVMCLOCK_CTRL: tells the guest that it was paused",
    ),
];
