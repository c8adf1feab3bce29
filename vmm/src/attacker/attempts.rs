//! What an attacker tries, from inside of a VMM that it owns.
//!
//! An attempt that *reaches* would get at something outside of the process: a file, another process, a network,
//! a right. Those fail by more than one layer. The others would only be of use for a further step: new code, new
//! processes, kernel interfaces with a long list of past errors. For those the filters are there.

use rustix::io::Errno;

use super::Plan;
use super::calls::{Arg, Outcome, call, connect, fork, open, path, tcp_address, unix_address};

/// One attempt.
pub(super) struct Attempt {
    pub(super) what: &'static str,
    /// It would get at something outside.
    pub(super) reaches: bool,
    pub(super) make: fn(&Plan) -> Result<(), Errno>,
}

const fn reaching(what: &'static str, make: fn(&Plan) -> Result<(), Errno>) -> Attempt {
    Attempt {
        what,
        reaches: true,
        make,
    }
}

const fn inward(what: &'static str, make: fn(&Plan) -> Result<(), Errno>) -> Attempt {
    Attempt {
        what,
        reaches: false,
        make,
    }
}

/// Numbers as arguments.
fn numbers<const N: usize>(values: [i64; N]) -> [Arg; N] {
    values.map(Arg::from)
}

fn done(outcome: Outcome) -> Result<(), Errno> {
    outcome.map(|_| ())
}

/// All of them; their numbers are their places.
pub(super) const ALL: &[Attempt] = &[
    reaching("open /etc/passwd", |_| {
        done(open(&path("/etc/passwd"), libc::O_RDONLY))
    }),
    reaching("list /", list_root),
    reaching("open another sandbox's disk", |plan| {
        done(open(&path(&plan.file), libc::O_RDWR))
    }),
    reaching("create a file", |_| {
        done(open(
            &path("/tmp/msb-attacker"),
            libc::O_CREAT | libc::O_WRONLY,
        ))
    }),
    reaching("open another sandbox's memory", |plan| {
        let name = format!("/proc/{}/mem", plan.pid);
        done(open(&path(name), libc::O_RDONLY))
    }),
    reaching("read another process's memory", |plan| {
        let mut bytes = [0u8; 8];
        let at = bytes.as_mut_ptr().expose_provenance() as u64;
        let ours = [at, 8];
        let theirs = [0x40_0000u64, 8];
        let (pid, one) = (i64::from(plan.pid), Arg::from(1i64));
        let args = [pid.into(), ours[..].into(), one, theirs[..].into(), one];
        done(call(libc::SYS_process_vm_readv, &args))
    }),
    reaching("open /proc of another process", |plan| {
        let name = format!("/proc/{}/environ", plan.pid);
        done(open(&path(name), libc::O_RDONLY))
    }),
    reaching("reopen own descriptors through /proc", |_| {
        done(open(&path("/proc/self/fd/0"), libc::O_RDWR))
    }),
    reaching("connect to a socket in the file system", |plan| {
        let mut name = path(&plan.socket).into_bytes();
        name.push(0);
        done(connect(libc::AF_UNIX.into(), &unix_address(&name)))
    }),
    reaching("connect to an abstract socket", |_| {
        done(connect(
            libc::AF_UNIX.into(),
            &unix_address(b"\0msb-attacker-victim"),
        ))
    }),
    reaching("connect to 127.0.0.1", |plan| {
        done(connect(libc::AF_INET.into(), &tcp_address(plan.tcp)))
    }),
    reaching("open a raw socket", |_| {
        done(call(
            libc::SYS_socket,
            &numbers([i64::from(libc::AF_PACKET), 3, 0]),
        ))
    }),
    reaching("trace the parent", |plan| {
        let pid = i64::from(plan.parent);
        done(call(libc::SYS_ptrace, &numbers([0x4206, pid, 0, 0])))
    }),
    reaching("signal the parent", |plan| {
        let pid = i64::from(plan.parent);
        done(call(
            libc::SYS_kill,
            &numbers([pid, i64::from(libc::SIGCONT)]),
        ))
    }),
    reaching("signal another sandbox", |plan| {
        let pid = i64::from(plan.pid);
        done(call(
            libc::SYS_tgkill,
            &numbers([pid, pid, i64::from(libc::SIGCONT)]),
        ))
    }),
    reaching("open the parent by its number", |plan| {
        let pidfd = call(libc::SYS_pidfd_open, &numbers([i64::from(plan.parent), 0]))?;
        let args = [pidfd.into(), Arg::from(0i64), Arg::from(0i64)];
        done(call(libc::SYS_pidfd_getfd, &args))
    }),
    reaching("execute /bin/true", |_| {
        let name = path("/bin/true");
        done(call(
            libc::SYS_execve,
            &[(&name).into(), 0i64.into(), 0i64.into()],
        ))
    }),
    reaching("mount", |_| {
        let (none, root, kind) = (path("none"), path("/"), path("tmpfs"));
        let args = [(&none).into(), (&root).into(), (&kind).into()];
        done(call(libc::SYS_mount, &args))
    }),
    reaching("change the root", |_| {
        done(call(libc::SYS_chroot, &[(&path("/")).into()]))
    }),
    reaching("open a file by its handle", |_| {
        let handle = [8u32, 1, 2, 0, 0, 0];
        let args = [0i64.into(), handle[..].into(), 0i64.into()];
        done(call(libc::SYS_open_by_handle_at, &args))
    }),
    reaching("become root", |_| {
        done(call(libc::SYS_setuid, &numbers([0])))
    }),
    reaching("take capabilities", |_| {
        let (header, all) = ([0x2008_0522u32, 0], [u32::MAX; 6]);
        done(call(libc::SYS_capset, &[header[..].into(), all[..].into()]))
    }),
    reaching("load a kernel", |_| {
        done(call(libc::SYS_kexec_load, &numbers([0, 0, 0, 0])))
    }),
    reaching("load a module", |_| {
        let empty = path("");
        done(call(
            libc::SYS_init_module,
            &[(&empty).into(), 0i64.into(), (&empty).into()],
        ))
    }),
    reaching("use the ports of the host", |_| {
        done(call(libc::SYS_iopl, &numbers([3])))
    }),
    reaching("set the clock", |_| {
        let time = [0u64, 0];
        done(call(
            libc::SYS_clock_settime,
            &[0i64.into(), time[..].into()],
        ))
    }),
    inward("load a program into the kernel", |_| {
        // BPF_MAP_CREATE, of an array with one entry.
        let attributes = [2u32, 4, 4, 1, 0, 0, 0, 0];
        done(call(
            libc::SYS_bpf,
            &[0i64.into(), attributes[..].into(), 32i64.into()],
        ))
    }),
    reaching("measure the kernel", |_| {
        // PERF_TYPE_TRACEPOINT of everybody.
        let mut attributes = [0u32; 32];
        let [kind, size, ..] = &mut attributes;
        (*kind, *size) = (2, 128);
        let all = numbers([-1, 0, -1, 0]);
        let mut args = vec![Arg::from(&attributes[..])];
        args.extend(all);
        done(call(libc::SYS_perf_event_open, &args))
    }),
    inward("make executable memory", |_| {
        done(call(libc::SYS_mmap, &numbers([0, 4096, 7, 0x22, -1, 0])))
    }),
    inward("make memory executable", |_| {
        let page = call(libc::SYS_mmap, &numbers([0, 4096, 3, 0x22, -1, 0]))?;
        let args = [page.into(), 4096i64.into(), 5i64.into()];
        done(call(libc::SYS_mprotect, &args))
    }),
    inward("make a file of memory", |_| {
        done(call(
            libc::SYS_memfd_create,
            &[(&path("x")).into(), 0i64.into()],
        ))
    }),
    inward("fork", |_| done(fork(libc::SYS_fork, &[]))),
    inward("clone", |_| {
        done(fork(
            libc::SYS_clone,
            &numbers([i64::from(libc::SIGCHLD), 0, 0, 0, 0]),
        ))
    }),
    inward("clone3", |_| {
        let mut arguments = [0u64; 8];
        if let Some(signal) = arguments.get_mut(4) {
            *signal = 17;
        }
        done(fork(
            libc::SYS_clone3,
            &[arguments[..].into(), 64i64.into()],
        ))
    }),
    inward("make a namespace", |_| {
        done(call(
            libc::SYS_unshare,
            &numbers([i64::from(libc::CLONE_NEWUTS)]),
        ))
    }),
    inward("look into the keyring", |_| {
        // KEYCTL_GET_KEYRING_ID of the session, made if it is not there.
        done(call(libc::SYS_keyctl, &numbers([0, -3, 1])))
    }),
    inward("add a key", |_| {
        let (kind, name) = (path("user"), path("msb-attacker"));
        let args = [
            (&kind).into(),
            (&name).into(),
            b"x"[..].into(),
            1i64.into(),
            Arg::from(-2i64),
        ];
        done(call(libc::SYS_add_key, &args))
    }),
    inward("io_uring", |_| {
        let mut parameters = [0u32; 30];
        let args = [1i64.into(), (&mut parameters[..]).into()];
        done(call(libc::SYS_io_uring_setup, &args))
    }),
    inward("userfaultfd", |_| {
        // UFFD_USER_MODE_ONLY
        done(call(libc::SYS_userfaultfd, &numbers([1])))
    }),
    inward("replace the handler of violations", |_| {
        let ignore = [1u64, 0, 0, 0];
        let args = [
            i64::from(libc::SIGSYS).into(),
            ignore[..].into(),
            0i64.into(),
            8i64.into(),
        ];
        done(call(libc::SYS_rt_sigaction, &args))
    }),
    inward("make the process visible again", |_| {
        done(call(
            libc::SYS_prctl,
            &numbers([i64::from(libc::PR_SET_DUMPABLE), 1]),
        ))
    }),
    inward("let go of the disk's lock", |_| {
        let lock = [2u64, 0, 0, 0];
        let command = i64::from(libc::F_OFD_SETLK);
        done(call(
            libc::SYS_fcntl,
            &[0i64.into(), command.into(), lock[..].into()],
        ))
    }),
    inward("make another machine", |_| {
        // KVM_CREATE_VCPU on whatever is there.
        done(call(libc::SYS_ioctl, &numbers([3, 0xae41, 200])))
    }),
    inward("type at the terminal", |_| {
        let key = b"x"[..].into();
        let command = Arg::from(0x5412i64);
        done(call(libc::SYS_ioctl, &[0i64.into(), command, key]))
    }),
];

/// Succeeds if there is anything in it.
fn list_root(_: &Plan) -> Result<(), Errno> {
    let root = open(&path("/"), libc::O_RDONLY | libc::O_DIRECTORY)?;
    let mut entries = [0u8; 4096];
    let args = [root.into(), (&mut entries[..]).into(), 4096i64.into()];
    let bytes = call(libc::SYS_getdents64, &args)?;
    // "." and ".." take 24 bytes each.
    if bytes > 48 {
        Ok(())
    } else {
        Err(Errno::NOENT)
    }
}
