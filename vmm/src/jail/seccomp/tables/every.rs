//! What every thread of a machine needs: memory, locks, signals, a last word, an end.

use crate::jail::seccomp::Role::{Main, Vcpu};
use crate::jail::seccomp::rule::{Arg, Is, Rule, any, call, equal, int, with};

const ALLOCATOR: &str = "whether the allocator needs it depends on what is asked of it";
const PANIC: &str = "only on the way of a panic";
const CONTENTION: &str = "a disk's thread waits for nobody, unless two threads meet by chance";
const VIOLATION: &str = "only after a violation";

/// Readable and writable, never executable.
const READ_WRITE: u64 = 0x3;
/// Private, anonymous: not of a file, not shared, at no given place.
const FRESH: u64 = 0x22;
const MREMAP_MAYMOVE: u64 = 0x1;
/// `MSG_DONTWAIT | MSG_NOSIGNAL`
const AT_ONCE: u32 = 0x4040;
const SIGABRT: u32 = 6;

/// Builds for debugging only.
#[cfg(debug_assertions)]
pub(super) const CLOSE_CHECK: Rule = with(
    call!(SYS_fcntl),
    &[int(1, F_GETFD)],
    "the standard library looks whether what it closes is open",
);
#[cfg(debug_assertions)]
const F_GETFD: u32 = 1;

/// A futex operation, private to the process or not, with either clock.
const fn futex(operation: u32) -> Arg {
    let is = Is::Masked {
        mask: 0x7f,
        bits: operation,
    };
    Arg { index: 1, is }
}
const FUTEX_WAIT: u32 = 0;
const FUTEX_WAKE: u32 = 1;
const FUTEX_WAIT_BITSET: u32 = 9;

/// Of every role but the porter's.
pub(super) const RULES: &[Rule] = &[
    any(
        call!(SYS_write),
        "wake-ups by eventfd, interrupts by irqfd, the console's pipe or file, log lines",
    ),
    any(
        call!(SYS_close),
        "connections that end, and all descriptors at the end",
    ),
    #[cfg(debug_assertions)]
    CLOSE_CHECK,
    with(
        call!(SYS_mmap),
        &[equal(2, READ_WRITE), equal(3, FRESH)],
        "large blocks of the allocator",
    )
    .rarely(ALLOCATOR),
    with(
        call!(SYS_mremap),
        &[equal(3, MREMAP_MAYMOVE)],
        "large blocks that grow",
    )
    .rarely(ALLOCATOR),
    any(call!(SYS_brk), "the heap").rarely(ALLOCATOR),
    any(
        call!(SYS_munmap),
        "large blocks, signal stacks, and at the end the guest's memory and the vCPUs' pages",
    ),
    with(
        call!(SYS_futex),
        &[futex(FUTEX_WAKE)],
        "locks, channels, the end of threads",
    )
    .rarely_but(&[Main, Vcpu], CONTENTION),
    with(
        call!(SYS_futex),
        &[futex(FUTEX_WAIT_BITSET)],
        "locks, channels, orders, the end of threads",
    )
    .rarely_but(&[Main, Vcpu], CONTENTION),
    with(
        call!(SYS_futex),
        &[futex(FUTEX_WAIT)],
        "locks of the C library",
    )
    .rarely("these locks are hardly ever taken when another holds them"),
    any(
        call!(SYS_sched_yield),
        "channels, while another thread is in the middle of something",
    )
    .rarely("two threads must meet within nanoseconds"),
    any(
        call!(SYS_clock_gettime),
        "the vCPUs' CPU time; deadlines and timers, where the clock cannot be read without a call",
    )
    .rarely_but(&[Main], "most kernels let the clock be read without a call"),
    any(
        call!(SYS_sigaltstack),
        "a thread gives its signal stack back when it ends",
    ),
    any(
        call!(SYS_rt_sigprocmask),
        "a thread that ends, or sends a signal, is not to be interrupted",
    ),
    any(
        call!(SYS_rt_sigreturn),
        "the end of the handlers of kicks and of SIGTERM",
    )
    .rarely_but(
        &[Vcpu],
        "SIGTERM reaches whichever thread the kernel chooses",
    ),
    any(
        call!(SYS_restart_syscall),
        "the kernel's own way on after a stop and a continue",
    )
    .rarely("only when the process was stopped by a signal or a debugger"),
    with(
        call!(SYS_ppoll),
        &[],
        "consoles and connections, whether one can be read or written without waiting",
    )
    .rarely_but(&[Main], "a serial port's output; and after a violation"),
    with(
        call!(SYS_sendto),
        &[int(3, AT_ONCE), equal(4, 0)],
        "the last word after a violation; errands of the porter; a console that is a socket",
    )
    .rarely(VIOLATION),
    any(call!(SYS_exit_group), "the end").rarely_but(&[Main], VIOLATION),
    any(call!(SYS_getpid), "abort, and kicks").rarely_but(&[Main], PANIC),
    any(call!(SYS_gettid), "abort").rarely(PANIC),
    with(
        call!(SYS_tgkill),
        &[
            Arg {
                index: 0,
                is: Is::OwnPid,
            },
            int(2, SIGABRT),
        ],
        "abort",
    )
    .rarely(PANIC),
];

const MADV_DONTNEED: u32 = 4;

/// Of threads that end before the process does.
pub(super) const THREAD: &[Rule] = &[
    any(call!(SYS_exit), "the end of the thread"),
    with(
        call!(SYS_madvise),
        &[int(2, MADV_DONTNEED)],
        "the C library gives the memory of the thread's stack back",
    ),
];

/// While a person's terminal is raw.
pub(super) const TERMINAL: &[Rule] = &[with(
    call!(SYS_ioctl),
    &[int(1, 0x402c_542b)],
    "TCSETS2: makes the terminal as it was, at the end or when the VMM panics",
)
.rarely("only with a console on a terminal")];
