//! The single findings.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use rustix::process::{Resource, getrlimit};

use super::{Finding, jail};
use crate::kvm::probe;
use crate::{guest, kvm, paths, proc, sys};

/// Every finding, the most important first.
pub(super) fn all() -> Vec<Finding> {
    let mut findings = vec![
        kvm(probe::probe()),
        file(
            "kernel",
            "MSB_KERNEL_PATH",
            "lib/vmlinux",
            guest::kernel::cached().ok().flatten(),
        ),
        file(
            "initramfs",
            "MSB_INITRAMFS_PATH",
            "lib/initramfs.cpio",
            None,
        ),
        file(
            "template of writable layers",
            guest::upper::VARIABLE,
            "lib/upper.ext4",
            None,
        ),
        file("supervisor", "MSB_RUNTIME_PATH", "bin/msb-runtime", None),
        file("VMM", "MSB_VMM_PATH", "bin/msb-vmm", None),
        mke2fs(),
    ];
    // The VMM knows best, as it tries; without one, what the kernel says of itself.
    findings.extend(jail::layers().unwrap_or_else(|| vec![user_namespaces(), landlock()]));
    findings.extend([cgroup2(), open_files(), locked_memory(), space()]);
    if !probe::probe().is_good() {
        findings.push(nested());
    }
    findings
}

fn kvm(finding: probe::Finding) -> Finding {
    const WHAT: &str = "KVM";
    const NESTED: &str = "for development, `cargo xtask kvm -- CMD` runs a command in a machine that \
                          has KVM by emulation";
    match finding {
        probe::Finding::Good { nanoseconds } => Finding::good(
            WHAT,
            format!("runs guests in hardware ({nanoseconds:.1} ns a turn)"),
        ),
        probe::Finding::Absent => Finding::needed(
            WHAT,
            "there is no /dev/kvm",
            format!(
                "load the module (`sudo modprobe kvm_intel` or `kvm_amd`), switch virtualization on \
                 in the firmware, or allow nested virtualization for this virtual machine; {NESTED}"
            ),
        ),
        probe::Finding::Forbidden => Finding::needed(
            WHAT,
            "/dev/kvm is there, but this user may not open it",
            "run `sudo usermod -aG kvm $USER`, then log in again",
        ),
        probe::Finding::Broken(error) => Finding::needed(
            WHAT,
            format!("/dev/kvm opens, but a machine cannot be run with it: {error:#}"),
            format!("look at `sudo dmesg` for what KVM says; {NESTED}"),
        ),
        probe::Finding::NoHardware { flags, nanoseconds } => {
            let flags = if flags {
                ""
            } else {
                "the processor has neither vmx nor svm, and "
            };
            Finding::needed(
                WHAT,
                format!(
                    "/dev/kvm has no hardware virtualization behind it: {flags}a guest kernel's \
                     loop takes {nanoseconds:.0} ns a turn (hardware stays under {:.0})",
                    probe::SLOWEST_NS
                ),
                format!("use a host with hardware or nested virtualization; {NESTED}"),
            )
        }
    }
}

/// A file that the library looks for: by a variable, then in `MSB_HOME`. A build in this checkout or
/// its cache serves `cargo xtask`, not other programs.
fn file(what: &'static str, variable: &str, in_home: &str, cached: Option<PathBuf>) -> Finding {
    if let Some(path) = std::env::var_os(variable).map(PathBuf::from) {
        return if path.is_file() {
            Finding::good(what, format!("{} (by {variable})", path.display()))
        } else {
            Finding::needed(
                what,
                format!("{variable} names {}, which is no file", path.display()),
                format!("unset {variable}, or set it to the file"),
            )
        };
    }
    let installed = paths::msb_home()
        .map(|home| home.join(in_home))
        .unwrap_or_default();
    if installed.is_file() {
        return Finding::good(what, installed.display().to_string());
    }
    if let Some(name) = in_home.strip_prefix("bin/")
        && let Some(path) = proc::find_on_path(name)
    {
        return Finding::good(what, path.display().to_string());
    }
    let built = cached.map_or_else(String::new, |path| format!(" (built: {})", path.display()));
    Finding::needed(
        what,
        format!(
            "not installed: no {} and no {variable}{built}",
            installed.display()
        ),
        "run `cargo xtask install`; `demo` and `test` build their own and need no installation",
    )
}

fn mke2fs() -> Finding {
    match proc::find_on_path("mke2fs") {
        Some(path) => Finding::good("mke2fs", path.display().to_string()),
        None => Finding::missed(
            "mke2fs",
            "not found; root disks cannot be made here",
            "install the package e2fsprogs (`cargo xtask setup`)",
        ),
    }
}

fn user_namespaces() -> Finding {
    const WHAT: &str = "user namespaces";
    let read = |path: &str| {
        fs::read_to_string(path)
            .ok()
            .map(|text| text.trim().to_owned())
    };
    let advice = "the VMM's jail does without; to allow them: ";
    if read("/proc/sys/user/max_user_namespaces").is_none_or(|max| max == "0") {
        let advice = format!("{advice}`sudo sysctl user.max_user_namespaces=10000`");
        return Finding::missed(WHAT, "none allowed", advice);
    }
    if rustix::process::geteuid().is_root() {
        return Finding::good(WHAT, "allowed");
    }
    for (knob, wanted) in [
        ("kernel.unprivileged_userns_clone", "1"),
        ("kernel.apparmor_restrict_unprivileged_userns", "0"),
    ] {
        let path = format!("/proc/sys/{}", knob.replace('.', "/"));
        if read(&path).is_some_and(|value| value != wanted) {
            let advice = format!("{advice}`sudo sysctl {knob}={wanted}`");
            return Finding::missed(WHAT, "only for root", advice);
        }
    }
    Finding::good(WHAT, "allowed")
}

fn landlock() -> Finding {
    match sys::landlock_abi() {
        Ok(abi) => Finding::good("Landlock", format!("ABI {abi}")),
        Err(error) => Finding::missed(
            "Landlock",
            format!("not available: {error}"),
            "the VMM's jail is one layer thinner; use Linux 5.13 or later with `landlock` in `lsm=`",
        ),
    }
}

fn cgroup2() -> Finding {
    const WHAT: &str = "cgroup 2";
    let own = fs::read_to_string("/proc/self/cgroup").unwrap_or_default();
    let Some(group) = unified_group(&own) else {
        return Finding::missed(
            WHAT,
            "not mounted",
            "limits on whole sandboxes cannot be set; boot with the unified hierarchy",
        );
    };
    let dir = Path::new("/sys/fs/cgroup").join(group.trim_start_matches('/'));
    let controllers = fs::read_to_string(dir.join("cgroup.controllers")).unwrap_or_default();
    let delegated = rustix::fs::access(&dir, rustix::fs::Access::WRITE_OK).is_ok();
    if controllers.trim().is_empty() || !delegated {
        return Finding::missed(
            WHAT,
            format!("this session's group {group} is not delegated to this user"),
            "limits on whole sandboxes cannot be set; start under \
             `systemd-run --user --scope -p Delegate=yes`",
        );
    }
    Finding::good(WHAT, format!("delegated: {}", controllers.trim()))
}

/// The path of the unified hierarchy in /proc/self/cgroup.
fn unified_group(text: &str) -> Option<&str> {
    text.lines().find_map(|line| line.strip_prefix("0::"))
}

fn open_files() -> Finding {
    const WHAT: &str = "open files";
    const ENOUGH: u64 = 4096;
    match getrlimit(Resource::Nofile).current {
        Some(limit) if limit < ENOUGH => Finding::missed(
            WHAT,
            format!("at most {limit} in a process"),
            format!("many sandboxes in one program need more: `ulimit -n {ENOUGH}`"),
        ),
        Some(limit) => Finding::good(WHAT, format!("at most {limit} in a process")),
        None => Finding::good(WHAT, "no limit"),
    }
}

fn locked_memory() -> Finding {
    match getrlimit(Resource::Memlock).current {
        Some(limit) => Finding::good("locked memory", format!("at most {} KiB", limit / 1024)),
        None => Finding::good("locked memory", "no limit"),
    }
}

fn space() -> Finding {
    const WHAT: &str = "free space";
    const ENOUGH_MIB: u64 = 2048;
    let Ok(home) = paths::msb_home() else {
        return Finding::needed(WHAT, "there is no MSB_HOME and no HOME", "set one of them");
    };
    // The directory itself may not be there yet.
    let place = home
        .ancestors()
        .find(|dir| dir.exists())
        .unwrap_or(Path::new("/"));
    let Ok(stat) = rustix::fs::statvfs(place) else {
        return Finding::missed(
            WHAT,
            format!("unknown at {}", place.display()),
            "look with `df`",
        );
    };
    let mib = stat.f_bavail.saturating_mul(stat.f_frsize) >> 20;
    let found = format!("{mib} MiB at {}", home.display());
    if fs::metadata(place).is_ok_and(|meta| meta.uid() != rustix::process::geteuid().as_raw())
        && rustix::fs::access(place, rustix::fs::Access::WRITE_OK).is_err()
    {
        let advice = "set MSB_HOME to a directory that this user may write";
        return Finding::needed(WHAT, format!("{found}, not writable"), advice);
    }
    if mib < ENOUGH_MIB {
        return Finding::missed(WHAT, found, "make room, or set MSB_HOME to a larger disk");
    }
    Finding::good(WHAT, found)
}

/// Whether the nested machine can be had instead.
fn nested() -> Finding {
    let qemu = proc::on_path("qemu-system-x86_64");
    if qemu && kvm::find_virtiofsd().is_some() && proc::on_path("busybox") {
        return Finding::good("nested machine", "QEMU, virtiofsd and busybox are there");
    }
    Finding::missed(
        "nested machine",
        "QEMU, virtiofsd or busybox is missing",
        "run `cargo xtask setup` to have a machine with emulated KVM",
    )
}

#[cfg(test)]
mod tests {
    use super::super::Weight;
    use super::*;

    #[test]
    fn the_four_states_of_kvm_are_told_apart() {
        let broken = anyhow::anyhow!("no VM");
        let slow = probe::Finding::NoHardware {
            flags: false,
            nanoseconds: 1160.0,
        };
        let texts: Vec<String> = [
            probe::Finding::Absent,
            probe::Finding::Forbidden,
            probe::Finding::Broken(broken),
            slow,
        ]
        .map(kvm)
        .into_iter()
        .map(|finding| {
            assert_eq!(finding.weight, Weight::Needed);
            assert!(!finding.advice.is_empty());
            finding.found
        })
        .collect();
        assert!(texts[0].contains("no /dev/kvm"));
        assert!(texts[1].contains("may not open"));
        assert!(texts[2].contains("no VM"));
        assert!(texts[3].contains("neither vmx nor svm") && texts[3].contains("1160 ns"));
        let good = kvm(probe::Finding::Good { nanoseconds: 1.0 });
        assert_eq!(good.weight, Weight::Good);
    }

    #[test]
    fn the_unified_group_is_found_among_others() {
        assert_eq!(
            unified_group("1:name=systemd:/x\n0::/user.slice\n"),
            Some("/user.slice")
        );
        assert_eq!(unified_group("1:cpu:/\n"), None);
    }
}
