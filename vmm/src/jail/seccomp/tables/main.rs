//! The main loop: control socket, vsock, console, random numbers, and the ends of all others.

use super::arch::EPOLL_WAIT;
use crate::jail::seccomp::rule::{Arg, Is, Rule, any, call, int, with};

const FIONBIO: u32 = 0x5421;
const AF_UNIX: u32 = 1;
/// `SOCK_STREAM | SOCK_CLOEXEC`
const STREAM: u32 = 0x8_0001;
const CLOEXEC: u32 = 0x8_0000;
/// `SOCK_CLOEXEC | SOCK_NONBLOCK`
const CLOEXEC_NONBLOCK: u32 = 0x8_0800;

pub(super) const RULES: &[Rule] = &[
    any(EPOLL_WAIT, "waits for everything"),
    any(
        call!(SYS_epoll_ctl),
        "watches queues, connections and clients as they come and go",
    ),
    any(
        call!(SYS_read),
        "takes wake-ups, kicks, signals, and keys that were typed",
    ),
    any(call!(SYS_readv), "console input to the guest's memory")
        .rarely("only with a console that has input"),
    any(
        call!(SYS_preadv),
        "what the guest sends from the pages of a mapped disk",
    )
    .rarely("only of a guest that gives such pages to another device as they are"),
    any(
        call!(SYS_recvmsg),
        "requests of clients; what connections send to the guest",
    ),
    any(
        call!(SYS_sendmsg),
        "replies and events to clients, a connection's descriptor beside one; what the guest sends",
    ),
    any(
        call!(SYS_recvfrom),
        "the first line of a program that connects to the guest",
    ),
    with(
        call!(SYS_accept4),
        &[int(3, CLOEXEC)],
        "programs that connect to the guest",
    ),
    with(
        call!(SYS_accept4),
        &[int(3, CLOEXEC_NONBLOCK)],
        "clients of the control socket",
    )
    .rarely("only of a machine with a control socket in the file system"),
    any(
        call!(SYS_shutdown),
        "one direction of a connection, when the guest ends it",
    ),
    with(
        call!(SYS_socketpair),
        &[int(0, AF_UNIX), int(1, STREAM), int(2, 0)],
        "a connection that the guest makes: one end is the supervisor's",
    ),
    with(
        call!(SYS_ioctl),
        &[int(1, FIONBIO)],
        "makes the own end of such a connection one that does not wait",
    ),
    any(
        call!(SYS_getrandom),
        "random numbers for the guest, and for hash tables",
    ),
    with(
        call!(SYS_tgkill),
        &[
            Arg {
                index: 0,
                is: Is::OwnPid,
            },
            Arg {
                index: 2,
                is: Is::Kick,
            },
        ],
        "takes vCPUs out of their guest",
    ),
];
