//! The Debian as a tar file.
//!
//! mmdebstrap makes it, from the archive that apt uses on this host and of the release that is
//! installed here. A tar file is what an ordinary user can have of a tree with files of many owners. The
//! work is done in memory where it can be, which halves the time: dpkg writes thousands of small files.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result};

use crate::progress::Progress;
use crate::{apt, cache, proc};

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
/// How many lines mmdebstrap writes, to draw a bar with.
const USUAL_LINES: u64 = 1000;

/// Runs a command with its temporary files in memory. `$0` is a directory to mount that on.
const IN_MEMORY: &str = r#"mount -t tmpfs -o mode=755 tmpfs "$0" 2> /dev/null || true
TMPDIR="$0" exec "$@""#;

/// How the tree is made on this host.
#[derive(Debug)]
pub(crate) struct Recipe {
    archive: String,
    suite: String,
    key: String,
}

/// The tree, made.
#[derive(Debug)]
pub(crate) struct Tree {
    dir: PathBuf,
}

impl Tree {
    /// The tar file.
    pub(crate) fn tar(&self) -> PathBuf {
        self.dir.join("root.tar")
    }
}

impl Recipe {
    /// From the archive that apt uses here.
    pub(crate) fn of_this_host() -> Result<Self> {
        let (archive, suite) = apt::archive()?;
        let key = key(&suite);
        Ok(Self {
            archive,
            suite,
            key,
        })
    }

    /// Names what comes of it.
    pub(crate) fn key(&self) -> &str {
        &self.key
    }

    /// The tree in the cache, made first when it is not there.
    pub(crate) fn build(&self) -> Result<Tree> {
        let kind = cache::Kind::open("debian-tree")?;
        let dir = kind.get_or_make(&self.key, |made| self.make(made))?;
        Ok(Tree { dir })
    }

    fn make(&self, made: &Path) -> Result<()> {
        let scratch = made
            .parent()
            .context("the build has no scratch directory")?;
        let memory = scratch.join("memory");
        fs::create_dir(&memory)?;
        let sources = scratch.join("sources.list");
        fs::write(
            &sources,
            format!("deb {} {} main\n", self.archive, self.suite),
        )?;
        let reach = scratch.join("apt.conf");
        fs::write(&reach, apt::reach()?)?;

        let title = format!("making a Debian {} for tests", self.suite);
        let mut progress = Progress::new(&title, USUAL_LINES);
        let mut command = mmdebstrap(&memory);
        command
            .args(["--verbose", "--variant=apt", "--format=tar"])
            .arg(format!("--include={}", PACKAGES.join(",")))
            .args(DPKG_OPTIONS.map(|option| format!("--dpkgopt={option}")))
            .args(APT_OPTIONS.map(|option| format!("--aptopt={option}")))
            .arg(format!("--aptopt={}", reach.display()))
            .arg(&self.suite)
            .arg(made.join("root.tar"))
            .arg(&sources);
        proc::lines(&mut command, |_| progress.step())?;
        progress.finish();
        Ok(())
    }
}

fn key(suite: &str) -> String {
    cache::key(&[
        RECIPE.as_bytes(),
        suite.as_bytes(),
        PACKAGES.join(" ").as_bytes(),
        DPKG_OPTIONS.join("\n").as_bytes(),
        APT_OPTIONS.join("\n").as_bytes(),
    ])
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
/// may have no namespaces; then it cannot mount either, and works where it is. Its `$0` is `memory`.
pub(super) fn as_root(memory: &Path, script: &str) -> Command {
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
    fn each_release_has_a_tree_of_its_own() {
        assert_ne!(key("bookworm"), key("trixie"));
        assert_eq!(key("trixie"), key("trixie"));
    }
}
