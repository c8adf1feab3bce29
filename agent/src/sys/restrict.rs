//! What a command of the restricted profile gives up before it runs. Every call here is a bare
//! system call, for this happens between `fork` and `execve`.

use rustix::io::Errno;
use rustix::thread::{
    CapabilitySet, capabilities, clear_ambient_capability_set, remove_capability_from_bounding_set,
    set_capabilities, set_no_new_privs,
};

/// Administration, and whatever would give it back:
///
/// - `SYS_MODULE`, `SYS_RAWIO`, `BPF`, `PERFMON`: code in the kernel, or its memory;
/// - `SYS_PTRACE`: the memory of a process that has it, the agent's first of all;
/// - `SYS_BOOT`: another kernel;
/// - `SYS_RESOURCE`: the limit of user namespaces, in which one has everything;
/// - `MAC_ADMIN`, `MAC_OVERRIDE`: the rules of a security module;
/// - `CHECKPOINT_RESTORE`, `SYSLOG`: parts of it under names of their own.
pub(crate) const GIVEN_UP: CapabilitySet = CapabilitySet::SYS_ADMIN
    .union(CapabilitySet::SYS_MODULE)
    .union(CapabilitySet::SYS_RAWIO)
    .union(CapabilitySet::BPF)
    .union(CapabilitySet::PERFMON)
    .union(CapabilitySet::SYS_PTRACE)
    .union(CapabilitySet::SYS_BOOT)
    .union(CapabilitySet::SYS_RESOURCE)
    .union(CapabilitySet::MAC_ADMIN)
    .union(CapabilitySet::MAC_OVERRIDE)
    .union(CapabilitySet::CHECKPOINT_RESTORE)
    .union(CapabilitySet::SYSLOG);

/// Gives it up, for good.
pub(super) fn restrict() -> Result<(), Errno> {
    set_no_new_privs(true)?;
    clear_ambient_capability_set()?;
    let mut left = GIVEN_UP;
    while !left.is_empty() {
        let lowest = CapabilitySet::from_bits_retain(1 << left.bits().trailing_zeros());
        match remove_capability_from_bounding_set(lowest) {
            // A kernel that does not know it.
            Ok(()) | Err(Errno::INVAL) => {}
            Err(error) => return Err(error),
        }
        left.remove(lowest);
    }
    let mut sets = capabilities(None)?;
    for set in [
        &mut sets.effective,
        &mut sets.permitted,
        &mut sets.inheritable,
    ] {
        set.remove(GIVEN_UP);
    }
    set_capabilities(None, sets)
}

#[cfg(test)]
mod tests {
    use rustix::thread::{capability_is_in_bounding_set, no_new_privs};

    use super::*;

    /// In a thread of its own: what is given up does not come back.
    #[test]
    fn what_was_given_up_is_not_even_roots_again() {
        let thread = std::thread::spawn(|| {
            match restrict() {
                Err(Errno::PERM) => return eprintln!("skipped: not permitted to give it up"),
                other => other.unwrap(),
            }
            assert!(no_new_privs().unwrap());
            let admin = CapabilitySet::SYS_ADMIN;
            assert!(!capability_is_in_bounding_set(admin).unwrap());
            assert!(capability_is_in_bounding_set(CapabilitySet::CHOWN).unwrap());
            let ours = capabilities(None).unwrap();
            for set in [ours.effective, ours.permitted, ours.inheritable] {
                assert!(!set.intersects(GIVEN_UP), "{set:?}");
            }
            // A program that root executes has all that the bounding set leaves.
            let status = std::process::Command::new("cat")
                .arg("/proc/self/status")
                .output();
            let status = String::from_utf8(status.unwrap().stdout).unwrap();
            let sets: Vec<_> = status
                .lines()
                .filter(|line| line.starts_with("Cap"))
                .collect();
            assert_eq!(sets.len(), 5, "{status}");
            for line in sets {
                let set = u64::from_str_radix(line.rsplit('\t').next().unwrap(), 16).unwrap();
                assert_eq!(set & GIVEN_UP.bits(), 0, "{line}");
            }
        });
        thread.join().unwrap();
    }
}
