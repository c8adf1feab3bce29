#![allow(unsafe_code)]

use std::collections::BTreeSet;
use std::io::Read;
use std::os::fd::{AsFd, AsRawFd};
use std::os::unix::net::UnixStream;
use std::process::ExitStatus;

use msb_vmapi::{Event, ExitCode, FromVmm, Outcome};

use super::*;
use crate::jail::violation;

const VMM: [Role; 3] = [Role::Main, Role::Vcpu, Role::Block];

/// Runs `what` in a process of its own, which is told of violations. How it ended, and what it said.
fn in_child(what: impl FnOnce()) -> (ExitStatus, String) {
    use std::os::unix::process::ExitStatusExt;
    let (mut ours, theirs) = UnixStream::pair().unwrap();
    // SAFETY: the child runs on with what this thread has; it ends by `_exit`.
    let pid = unsafe { libc::fork() };
    if pid == 0 {
        drop(ours);
        violation::install(Some(theirs.as_fd())).unwrap();
        what();
        // SAFETY: it ends this process.
        unsafe { libc::_exit(0) };
    }
    assert!(pid > 0);
    drop(theirs);
    let mut said = String::new();
    ours.read_to_string(&mut said).unwrap();
    let mut status = 0;
    // SAFETY: the child is this process's own, and `status` is written to only.
    assert_eq!(unsafe { libc::waitpid(pid, &raw mut status, 0) }, pid);
    (ExitStatus::from_raw(status), said)
}

/// A raw call, with zeros for arguments that are not given.
fn raw(number: i64, args: &[u64]) -> i64 {
    let arg = |index: usize| args.get(index).copied().unwrap_or(0);
    // SAFETY: none of the calls here is given an address to write to that is not there: the kernel refuses
    // null, and what the filter refuses is not carried out.
    unsafe { libc::syscall(number, arg(0), arg(1), arg(2), arg(3), arg(4), arg(5)) }
}

fn locked(role: Role, what: impl FnOnce()) -> (ExitStatus, String) {
    in_child(|| {
        let filter = Filter::compile(role, Process::own(), false, Denial::Violation).unwrap();
        filter.apply().unwrap();
        what();
    })
}

/// Refuses a machine whose thread of this role could make the call.
fn assert_forbidden(role: Role, name: &str, number: i64, args: &[u64]) {
    let (status, said) = locked(role, || {
        raw(number, args);
    });
    let code = i32::from(ExitCode::Violation.code());
    assert_eq!(
        status.code(),
        Some(code),
        "{role:?} {name}: {status} {said}"
    );
    match serde_json::from_str(&said).unwrap() {
        FromVmm::Event(Event::Ended(Outcome::Violation(violation))) => {
            assert_eq!(violation.thread.as_str(), role.as_str());
            assert_eq!(violation.syscall, name);
        }
        other => panic!("{other:?}"),
    }
}

#[test]
fn nothing_that_leads_out_is_in_any_table() {
    let names: BTreeSet<&str> = Role::ALL
        .into_iter()
        .flat_map(rules)
        .map(|rule| rule.call.name)
        // Builds for debugging have the standard library look at flags.
        .filter(|name| !(cfg!(debug_assertions) && *name == "fcntl"))
        .collect();
    // By what they begin with, so that later kernels' cousins are meant too.
    for forbidden in [
        "exec",
        "open",
        "creat",
        "fork",
        "vfork",
        "clone",
        "bind",
        "listen",
        "ptrace",
        "bpf",
        "io_uring",
        "io_setup",
        "io_submit",
        "userfaultfd",
        "mount",
        "umount",
        "move_mount",
        "fs",
        "pivot_root",
        "chroot",
        "chdir",
        "unshare",
        "setns",
        "keyctl",
        "add_key",
        "request_key",
        "perf_event",
        "process_",
        "pidfd",
        "kexec",
        "init_module",
        "finit_module",
        "delete_module",
        "mprotect",
        "pkey",
        "memfd",
        "remap",
        "shm",
        "sem",
        "msg",
        "mq_",
        "set",
        "cap",
        "prctl",
        "arch_prctl",
        "seccomp",
        "landlock",
        "kill",
        "tkill",
        "rt_sigaction",
        "rt_sigqueue",
        "rt_tgsigqueue",
        "fcntl",
        "flock",
        "dup",
        "splice",
        "tee",
        "vmsplice",
        "copy_file_range",
        "sendfile",
        "ftruncate",
        "truncate",
        "rename",
        "link",
        "symlink",
        "mknod",
        "mkdir",
        "chmod",
        "chown",
        "fchmod",
        "getdents",
        "readlink",
        "inotify",
        "fanotify",
        "name_to_handle",
        "quotactl",
        "reboot",
        "swap",
        "syslog",
        "iopl",
        "ioperm",
        "modify_ldt",
        "personality",
        "prlimit",
        "ptrace",
        "migrate_pages",
        "move_pages",
        "mbind",
        "sched_set",
        "wait",
        "timer_",
        "clock_set",
        "clock_adj",
        "adjtimex",
        "uselib",
        "acct",
        "nfs",
        "lookup_dcookie",
    ] {
        // What only the porter may do, which is outside.
        let found = names
            .iter()
            .find(|name| name.starts_with(forbidden) && !forbidden.starts_with("unlink"));
        assert_eq!(found, None, "{forbidden}");
    }
    for role in VMM {
        for rule in rules(role) {
            let never = [
                "socket",
                "connect",
                "unlink",
                "statx",
                "stat",
                "newfstatat",
                "mprotect",
            ];
            assert!(
                !never.contains(&rule.call.name),
                "{role:?} {}",
                rule.call.name
            );
            let checked = [
                "fcntl",
                "mmap",
                "mremap",
                "madvise",
                "ioctl",
                "socketpair",
                "tgkill",
                "futex",
            ];
            if checked.contains(&rule.call.name) {
                assert!(!rule.args.is_empty(), "{role:?} {}", rule.call.name);
            }
        }
    }
}

#[test]
fn every_filter_compiles_with_a_terminal_and_without() {
    for role in Role::ALL {
        for terminal in [false, true] {
            for denial in [Denial::Violation, Denial::Kill] {
                Filter::compile(role, Process::own(), terminal, denial).unwrap();
            }
        }
    }
}

#[test]
fn what_each_role_needs_it_may_do() {
    for role in VMM {
        let (mut from, to) = UnixStream::pair().unwrap();
        let (status, said) = locked(role, || {
            // Allocation, small and large, growing; locks and channels; the clock; a message.
            let mut large = vec![1u8; 1 << 20];
            large.resize(1 << 22, 2);
            let (sender, receiver) = std::sync::mpsc::sync_channel(1);
            sender.send(large.len()).unwrap();
            assert_eq!(receiver.recv().unwrap(), 1 << 22);
            drop(large);
            let _ = std::time::Instant::now();
            rustix::io::write(&to, b"done").unwrap();
        });
        drop(to);
        let mut heard = String::new();
        from.read_to_string(&mut heard).unwrap();
        assert!(status.success(), "{role:?}: {status} {said}");
        assert_eq!((said.as_str(), heard.as_str()), ("", "done"));
    }
}

#[test]
fn calls_that_no_role_may_make_end_it_by_name() {
    for role in VMM {
        for (name, number) in [
            ("execve", libc::SYS_execve),
            ("openat", libc::SYS_openat),
            ("socket", libc::SYS_socket),
            ("connect", libc::SYS_connect),
            ("clone", libc::SYS_clone),
            ("clone3", libc::SYS_clone3),
            ("ptrace", libc::SYS_ptrace),
            ("kill", libc::SYS_kill),
            ("mprotect", libc::SYS_mprotect),
            ("rt_sigaction", libc::SYS_rt_sigaction),
            ("io_uring_setup", libc::SYS_io_uring_setup),
            ("bpf", libc::SYS_bpf),
            ("userfaultfd", libc::SYS_userfaultfd),
            ("unshare", libc::SYS_unshare),
            ("process_vm_readv", libc::SYS_process_vm_readv),
            ("prctl", libc::SYS_prctl),
            ("seccomp", libc::SYS_seccomp),
            // No call of that number.
            ("unknown", 600),
        ] {
            assert_forbidden(role, name, number, &[]);
        }
    }
}

#[test]
fn arguments_that_no_role_may_use_end_it() {
    const EXECUTABLE: u64 = 7;
    for role in VMM {
        let own = u64::from(std::process::id());
        let fresh = 0x22;
        for (name, number, args) in [
            ("mmap", libc::SYS_mmap, &[0, 4096, EXECUTABLE, fresh][..]),
            ("mmap", libc::SYS_mmap, &[0, 4096, 5, fresh]),
            // Shared; at a fixed place.
            ("mmap", libc::SYS_mmap, &[0, 4096, 3, 0x21]),
            ("mmap", libc::SYS_mmap, &[0, 4096, 3, fresh | 0x10]),
            // KVM_CREATE_VM, TIOCSTI.
            ("ioctl", libc::SYS_ioctl, &[0, 0xae01]),
            ("ioctl", libc::SYS_ioctl, &[0, 0x5412]),
            // The parent of this process, and one of its threads.
            ("tgkill", libc::SYS_tgkill, &[own, own, 9]),
            // FUTEX_LOCK_PI, FUTEX_REQUEUE.
            ("futex", libc::SYS_futex, &[0, 6]),
            ("futex", libc::SYS_futex, &[0, 3]),
            // To an address.
            ("sendto", libc::SYS_sendto, &[0, 0, 0, 0x4040, 1]),
            ("sendto", libc::SYS_sendto, &[0, 0, 0, 0, 0]),
        ] {
            assert_forbidden(role, name, number, args);
        }
    }
    // What one role may do, others may not.
    for (role, name, number, args) in [
        (Role::Vcpu, "epoll_wait", libc::SYS_epoll_wait, &[][..]),
        (Role::Vcpu, "accept4", libc::SYS_accept4, &[]),
        (Role::Vcpu, "recvmsg", libc::SYS_recvmsg, &[]),
        (Role::Vcpu, "preadv", libc::SYS_preadv, &[]),
        (Role::Block, "recvmsg", libc::SYS_recvmsg, &[]),
        (
            Role::Block,
            "socketpair",
            libc::SYS_socketpair,
            &[1, 0x8_0001],
        ),
        // KVM_RUN; to allocate, which makes the file longer.
        (Role::Block, "ioctl", libc::SYS_ioctl, &[0, 0xae80]),
        (Role::Block, "fallocate", libc::SYS_fallocate, &[0, 0]),
        (Role::Main, "ioctl", libc::SYS_ioctl, &[0, 0xae80]),
        (Role::Main, "pwritev", libc::SYS_pwritev, &[]),
        // Of a network; a pair of packet sockets.
        (
            Role::Main,
            "socketpair",
            libc::SYS_socketpair,
            &[2, 0x8_0001],
        ),
        (
            Role::Main,
            "socketpair",
            libc::SYS_socketpair,
            &[1, 0x8_0005],
        ),
        (Role::Main, "exit", libc::SYS_exit, &[]),
    ] {
        assert_forbidden(role, name, number, args);
    }
}

#[test]
fn a_thread_that_blocks_the_signal_is_killed_for_it() {
    use std::os::unix::process::ExitStatusExt;
    let (status, said) = locked(Role::Vcpu, || {
        // SAFETY: all bits of the set are values.
        let mut all: libc::sigset_t = unsafe { std::mem::zeroed() };
        // SAFETY: it is written to only.
        unsafe { libc::sigfillset(&raw mut all) };
        // SAFETY: the set is read only.
        let blocked =
            unsafe { libc::pthread_sigmask(libc::SIG_BLOCK, &raw const all, std::ptr::null_mut()) };
        assert_eq!(blocked, 0);
        raw(libc::SYS_execve, &[]);
    });
    assert_eq!(status.signal(), Some(libc::SIGSYS), "{status}");
    assert!(said.is_empty(), "{said}");
}

#[test]
fn who_has_no_supervisor_is_told_on_standard_error() {
    let (mut from, to) = std::io::pipe().unwrap();
    let (status, _) = in_child(|| {
        // SAFETY: both are open; this process is this test's own.
        assert_eq!(unsafe { libc::dup2(to.as_raw_fd(), 2) }, 2);
        violation::install(None).unwrap();
        let filter =
            Filter::compile(Role::Block, Process::own(), false, Denial::Violation).unwrap();
        filter.apply().unwrap();
        raw(libc::SYS_open_tree, &[]);
    });
    drop(to);
    let mut said = String::new();
    from.read_to_string(&mut said).unwrap();
    assert_eq!(
        said,
        "msb-vmm: VIOLATION: a block thread called open_tree, which the jail forbids\n"
    );
    assert_eq!(status.code(), Some(13));
}

#[test]
fn calls_of_another_processor_mode_kill() {
    use std::os::unix::process::ExitStatusExt;
    let (status, _) = locked(Role::Main, || {
        // SAFETY: getpid, as 32-bit programs call it.
        unsafe {
            std::arch::asm!("int 0x80", inout("eax") 20 => _, options(nostack));
        }
    });
    // Where the kernel has no such calls, the instruction itself is the end.
    assert!(
        [Some(libc::SIGSYS), Some(libc::SIGSEGV)].contains(&status.signal()),
        "{status}"
    );
    // The x32 numbers are numbers that no rule has.
    assert_forbidden(Role::Main, "unknown", 0x4000_0000, &[]);
}

#[test]
fn panics_end_as_ever() {
    use std::os::unix::process::ExitStatusExt;
    for role in VMM {
        let (status, said) = locked(role, || std::process::abort());
        assert_eq!(
            status.signal(),
            Some(libc::SIGABRT),
            "{role:?}: {status} {said}"
        );
    }
}

#[test]
fn conditions_mean_what_the_filter_makes_of_them() {
    let process = Process { pid: 7, kick: 34 };
    let high = 1 << 32;
    assert!(Is::Equal(3).holds(3, process) && !Is::Equal(3).holds(3 | high, process));
    assert!(Is::Int(3).holds(3 | high, process) && !Is::Int(3).holds(2, process));
    let masked = Is::Masked {
        mask: 0x7f,
        bits: 9,
    };
    assert!(masked.holds(0x189, process) && !masked.holds(0x8a, process));
    assert!(Is::OwnPid.holds(7, process) && !Is::OwnPid.holds(8, process));
    assert!(Is::Kick.holds(34, process) && !Is::Kick.holds(9, process));
}
