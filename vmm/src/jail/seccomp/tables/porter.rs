//! The porter: connects to sockets in the file system for a machine that has no path, and removes
//! the machine's own at the end.

use crate::jail::seccomp::rule::{Rule, any, call, equal, int, with};

const AF_UNIX: u32 = 1;
/// `SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK`
const STREAM: u32 = 0x8_0801;

pub(super) const RULES: &[Rule] = &[
    any(call!(SYS_recvfrom), "errands"),
    any(call!(SYS_sendmsg), "what came of one, and the connection"),
    with(
        call!(SYS_socket),
        &[int(0, AF_UNIX), int(1, STREAM), int(2, 0)],
        "the guest connects to the host",
    ),
    any(call!(SYS_connect), "the guest connects to the host"),
    any(
        call!(SYS_close),
        "a connection, once it is the machine's; all at the end",
    ),
    #[cfg(debug_assertions)]
    super::every::CLOSE_CHECK,
    any(
        call!(SYS_statx),
        "whether a socket is still the one that was made",
    ),
    any(call!(SYS_unlink), "removes the machine's sockets"),
    with(
        call!(SYS_mmap),
        &[equal(2, 0x3), equal(3, 0x22)],
        "the allocator",
    )
    .rarely("names are short"),
    any(call!(SYS_brk), "the allocator").rarely("names are short"),
    any(call!(SYS_munmap), "the allocator").rarely("names are short"),
    any(call!(SYS_exit_group), "the end"),
];
