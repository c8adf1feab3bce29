//! A disk: moves bytes between a file and the guest's memory.

use super::arch::EPOLL_WAIT;
use crate::jail::seccomp::rule::{Rule, any, call, int, with};

/// `FALLOC_FL_KEEP_SIZE | FALLOC_FL_PUNCH_HOLE`
const PUNCH: u32 = 0x3;
/// `FALLOC_FL_KEEP_SIZE | FALLOC_FL_ZERO_RANGE`
const ZERO: u32 = 0x11;

pub(super) const RULES: &[Rule] = &[
    any(EPOLL_WAIT, "waits for the guest, and for orders"),
    any(
        call!(SYS_epoll_ctl),
        "watches the queue once the driver is ready, and no more after a reset",
    ),
    any(call!(SYS_read), "takes wake-ups and kicks"),
    any(call!(SYS_preadv), "the guest reads"),
    any(call!(SYS_pwritev), "the guest writes"),
    any(call!(SYS_fdatasync), "the guest flushes"),
    with(
        call!(SYS_fallocate),
        &[int(1, PUNCH)],
        "the guest discards, or writes zeros whose space may go",
    ),
    with(
        call!(SYS_fallocate),
        &[int(1, ZERO)],
        "the guest writes zeros whose space may not go",
    ),
];
