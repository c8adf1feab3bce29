//! System calls that a supervisor is refused once its VMM is there.
//!
//! This is a list of what is refused, not of what is allowed: an event loop, a catalog and logs need more of the kernel
//! than a table could name and keep true over releases of their crates and of the C library. It is one more fence
//! behind landlock, and weaker than the VMM's filters: what it does not name is allowed. A refused call fails with
//! `EPERM`; the process goes on.

use std::collections::BTreeMap;

use seccompiler::{
    BackendError, BpfProgram, SeccompAction, SeccompCmpArgLen, SeccompCmpOp, SeccompCondition,
    SeccompFilter, SeccompRule, TargetArch,
};

#[cfg(target_arch = "x86_64")]
const ARCH: TargetArch = TargetArch::x86_64;
#[cfg(target_arch = "aarch64")]
const ARCH: TargetArch = TargetArch::aarch64;

/// Calls that are refused whatever their arguments, and why.
const REFUSED: &[(&str, &[i64])] = &[
    ("no program is run", &[libc::SYS_execve, libc::SYS_execveat]),
    #[cfg(target_arch = "x86_64")]
    ("no process is made", &[libc::SYS_fork, libc::SYS_vfork]),
    (
        "no other process is looked into",
        &[
            libc::SYS_ptrace,
            libc::SYS_process_vm_readv,
            libc::SYS_process_vm_writev,
            libc::SYS_process_madvise,
            libc::SYS_pidfd_getfd,
            libc::SYS_kcmp,
        ],
    ),
    (
        "no socket gets an address: all are bound, and it calls nobody",
        &[libc::SYS_bind, libc::SYS_connect],
    ),
    (
        "what it sees of the system stays as it is",
        &[
            libc::SYS_mount,
            libc::SYS_umount2,
            libc::SYS_pivot_root,
            libc::SYS_chroot,
            libc::SYS_unshare,
            libc::SYS_setns,
            libc::SYS_open_tree,
            libc::SYS_move_mount,
            libc::SYS_fsopen,
            libc::SYS_fsconfig,
            libc::SYS_fsmount,
            libc::SYS_fspick,
            libc::SYS_mount_setattr,
        ],
    ),
    (
        "who it is stays as it is",
        &[
            libc::SYS_setuid,
            libc::SYS_setgid,
            libc::SYS_setreuid,
            libc::SYS_setregid,
            libc::SYS_setresuid,
            libc::SYS_setresgid,
            libc::SYS_setfsuid,
            libc::SYS_setfsgid,
            libc::SYS_setgroups,
            libc::SYS_capset,
            libc::SYS_personality,
        ],
    ),
    (
        "paths are not gone around by handles",
        &[libc::SYS_name_to_handle_at, libc::SYS_open_by_handle_at],
    ),
    (
        "large interfaces of the kernel that it has no use for",
        &[
            libc::SYS_bpf,
            libc::SYS_perf_event_open,
            libc::SYS_userfaultfd,
            libc::SYS_io_uring_setup,
            libc::SYS_io_uring_enter,
            libc::SYS_io_uring_register,
            libc::SYS_add_key,
            libc::SYS_request_key,
            libc::SYS_keyctl,
            libc::SYS_init_module,
            libc::SYS_finit_module,
            libc::SYS_delete_module,
            libc::SYS_kexec_load,
            libc::SYS_reboot,
            libc::SYS_swapon,
            libc::SYS_swapoff,
            libc::SYS_acct,
            libc::SYS_quotactl,
            libc::SYS_fanotify_init,
            libc::SYS_syslog,
        ],
    ),
];

/// The filters, in the order in which they are to be applied.
pub fn filters() -> Result<[BpfProgram; 2], BackendError> {
    let mut rules: BTreeMap<i64, Vec<SeccompRule>> = REFUSED
        .iter()
        .flat_map(|(_, calls)| calls.iter())
        .map(|call| (*call, Vec::new()))
        .collect();
    // No memory becomes a program.
    let executable = masked(2, libc::PROT_EXEC, libc::PROT_EXEC)?;
    for call in [libc::SYS_mmap, libc::SYS_mprotect, libc::SYS_pkey_mprotect] {
        rules.insert(call, vec![executable.clone()]);
    }
    // Threads are made, processes are not.
    rules.insert(libc::SYS_clone, vec![masked(0, libc::CLONE_THREAD, 0)?]);
    // Sockets within this host, and no others.
    let family = SeccompCondition::new(
        0,
        SeccompCmpArgLen::Dword,
        SeccompCmpOp::Ne,
        u64::from(libc::AF_UNIX.unsigned_abs()),
    )?;
    rules.insert(libc::SYS_socket, vec![SeccompRule::new(vec![family])?]);
    let refused = compile(rules, libc::EPERM)?;
    // Its arguments lie in memory, where no filter can look; the C library then makes threads by the older call.
    let newer = compile(
        BTreeMap::from([(libc::SYS_clone3, Vec::new())]),
        libc::ENOSYS,
    )?;
    Ok([refused, newer])
}

fn masked(index: u8, mask: i32, value: i32) -> Result<SeccompRule, BackendError> {
    let wide = |bits: i32| u64::from(bits.unsigned_abs());
    let operator = SeccompCmpOp::MaskedEq(wide(mask));
    let condition = SeccompCondition::new(index, SeccompCmpArgLen::Dword, operator, wide(value))?;
    SeccompRule::new(vec![condition])
}

fn compile(rules: BTreeMap<i64, Vec<SeccompRule>>, errno: i32) -> Result<BpfProgram, BackendError> {
    let refusal = SeccompAction::Errno(errno.unsigned_abs());
    SeccompFilter::new(rules, SeccompAction::Allow, refusal, ARCH)?.try_into()
}

/// Refuses them to all threads of this process, for good.
pub fn refuse() -> Result<(), seccompiler::Error> {
    for filter in filters()? {
        seccompiler::apply_filter_all_threads(&filter)?;
    }
    Ok(())
}
