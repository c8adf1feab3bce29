//! A small Debian as a root disk, for the tests and benchmarks that want a guest as people have
//! them: with Python, pip, an ssh server, and systemd.
//!
//! mmdebstrap makes the tree, from the archive that apt uses on this host and of the release that is
//! installed here. It goes into a tar file, since that is what an ordinary user can have of it
//! (files of many owners), and mke2fs makes a disk of what is unpacked. Both steps work in memory
//! where they can, which halves the time: dpkg writes thousands of small files.
//!
//! Names and contents follow the archive of the day on which it is made; tests rely on neither.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result};

use crate::progress::Progress;
use crate::{apt, cache, proc};

/// Tells tests where the disk is.
pub(crate) const VARIABLE: &str = "MSB_TEST_DEBIAN";

/// Changes when the steps below do, beyond what is hashed anyway.
const RECIPE: &str = "1: variant apt, main";
/// With what they depend on, and apt itself.
const PACKAGES: [&str; 6] = [
    "dbus",
    "openssh-server",
    "python3",
    "python3-pip",
    "socat",
    "systemd-sysv",
];
/// What no test reads. `force-unsafe-io` goes without a sync after each file.
const DPKG_OPTIONS: [&str; 5] = [
    "force-unsafe-io",
    "path-exclude=/usr/share/doc/*",
    "path-exclude=/usr/share/info/*",
    "path-exclude=/usr/share/locale/*",
    "path-exclude=/usr/share/man/*",
];
const APT_OPTIONS: [&str; 2] = [
    r#"APT::Install-Recommends "false""#,
    r#"Acquire::Languages "none""#,
];
/// Half of it is in use.
const DISK: &str = "448M";
/// How many lines mmdebstrap writes, to draw a bar with.
const USUAL_LINES: u64 = 1000;

/// Runs a command with its temporary files in memory. `$0` is a directory to mount that on.
const IN_MEMORY: &str = r#"mount -t tmpfs -o mode=755 tmpfs "$0" 2> /dev/null || true
TMPDIR="$0" exec "$@""#;

/// Makes the disk `$2` of the size `$3` from the tar file `$1`. `$0` is a directory to unpack in.
///
/// Device files are left out, which only root could unpack; the agent mounts a /dev. So are the
/// host's name and name servers, and the keys of an ssh server that many copies would share.
const TO_DISK: &str = r#"set -e
mount -t tmpfs -o mode=755 tmpfs "$0" 2> /dev/null || true
tar --extract --file "$1" --directory "$0" --same-owner --same-permissions --exclude './dev/*'
rm -f "$0"/etc/hostname "$0"/etc/resolv.conf "$0"/etc/ssh/ssh_host_*
mke2fs -q -t ext4 -b 4096 -i 16384 -O ^has_journal -E root_owner=0:0,lazy_itable_init=1 -d "$0" "$2" "$3"
"#;

/// The disk in the cache, made first when it is not there.
pub(crate) fn build() -> Result<PathBuf> {
    let kind = cache::Kind::open("debian")?;
    let (archive, suite) = apt::archive()?;
    let dir = kind.get_or_make(&key(&suite), |made| make(&archive, &suite, made))?;
    Ok(dir.join("root.ext4"))
}

fn key(suite: &str) -> String {
    cache::key(&[
        RECIPE.as_bytes(),
        suite.as_bytes(),
        PACKAGES.join(" ").as_bytes(),
        DPKG_OPTIONS.join("\n").as_bytes(),
        APT_OPTIONS.join("\n").as_bytes(),
        DISK.as_bytes(),
        TO_DISK.as_bytes(),
    ])
}

fn make(archive: &str, suite: &str, made: &Path) -> Result<()> {
    let scratch = made
        .parent()
        .context("the build has no scratch directory")?;
    let tar = scratch.join("root.tar");
    let memory = scratch.join("memory");
    fs::create_dir(&memory)?;
    let sources = scratch.join("sources.list");
    fs::write(&sources, format!("deb {archive} {suite} main\n"))?;
    let reach = scratch.join("apt.conf");
    fs::write(&reach, apt::reach()?)?;

    let mut progress = Progress::new(&format!("making a Debian {suite} for tests"), USUAL_LINES);
    let mut command = mmdebstrap(&memory);
    command
        .args(["--verbose", "--variant=apt", "--format=tar"])
        .arg(format!("--include={}", PACKAGES.join(",")))
        .args(DPKG_OPTIONS.map(|option| format!("--dpkgopt={option}")))
        .args(APT_OPTIONS.map(|option| format!("--aptopt={option}")))
        .arg(format!("--aptopt={}", reach.display()))
        .arg(suite)
        .arg(&tar)
        .arg(&sources);
    proc::lines(&mut command, |_| progress.step())?;
    proc::output(
        as_root(&memory, TO_DISK)
            .arg(&tar)
            .arg(made.join("root.ext4"))
            .arg(DISK),
    )?;
    progress.finish();
    Ok(())
}

/// As root it works in memory. An ordinary user's mmdebstrap makes a namespace of its own, in
/// which nothing of the caller's is mounted.
fn mmdebstrap(memory: &Path) -> Command {
    if !rustix::process::geteuid().is_root() {
        return Command::new("mmdebstrap");
    }
    let mut command = as_root(memory, IN_MEMORY);
    command.arg("mmdebstrap");
    command
}

/// A shell script that may mount, with nobody else seeing it: for root in a mount namespace, for
/// others in a user namespace too, with the users that /etc/subuid gives them. Root of a container
/// may have no namespaces; then it cannot mount either, and works where it is.
fn as_root(memory: &Path, script: &str) -> Command {
    let root = rustix::process::geteuid().is_root();
    let mut command = Command::new("unshare");
    command.arg("--mount");
    if !root {
        command.args(["--user", "--map-root-user", "--map-auto"]);
    } else if proc::output(Command::new("unshare").args(["--mount", "true"])).is_err() {
        command = Command::new("env");
    }
    command
        .args(["sh", "-c", script])
        .arg(memory)
        .env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin");
    command
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_release_has_a_disk_of_its_own() {
        assert_ne!(key("bookworm"), key("trixie"));
        assert_eq!(key("trixie"), key("trixie"));
    }
}
