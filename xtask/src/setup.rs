//! `cargo xtask setup`: the Debian packages that building and testing need.
//!
//! It says what is missing before it installs anything, and never asks: as root it installs, with
//! a sudo that wants no password it uses that, and otherwise it prints the command and stops.

use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail};

use crate::guest::images;
use crate::{kvm, proc};

/// For the guest kernel, the root disks of tests, the terminals that tests type at, and the calls
/// that they watch.
const BUILD: [&str; 17] = [
    "bc",
    "bison",
    "cpio",
    "e2fsprogs",
    "erofs-utils",
    "flex",
    "gcc",
    "libelf-dev",
    "libssl-dev",
    "make",
    "binutils",
    "xz-utils",
    "busybox-static",
    "libc6-dev",
    "mmdebstrap",
    "strace",
    "tmux",
];
/// For making a Debian without being root: user namespaces.
const NOT_ROOT: [&str; 1] = ["uidmap"];
/// For the nested machine, where the host has no good KVM of its own.
const NESTED: [&str; 1] = ["qemu-system-x86"];

/// Installs what is missing.
pub(crate) fn run() -> Result<()> {
    run_with(&[])
}

/// Installs what is missing, of what one task needs on top too.
pub(crate) fn run_with(more: &[&'static str]) -> Result<()> {
    if !proc::on_path("dpkg-query") {
        bail!(
            "this is no Debian: install the equivalents of {} yourself",
            [&BUILD[..], &images::PACKAGES, &NESTED, more]
                .concat()
                .join(" ")
        );
    }
    let mut missing = missing(&[&wanted()[..], more].concat())?;
    if missing.is_empty() {
        return Ok(());
    }
    eprintln!("missing Debian packages: {}", missing.join(" "));
    install(&missing)?;
    // Only now is it known whether QEMU's package brought virtiofsd along (Debian 12) or not (13).
    if needs_nested() && kvm::find_virtiofsd().is_none() {
        missing = vec!["virtiofsd".to_owned()];
        install(&missing)?;
    }
    Ok(())
}

fn needs_nested() -> bool {
    !kvm::probe::probe().is_good()
}

fn wanted() -> Vec<&'static str> {
    let mut wanted = [&BUILD[..], &images::PACKAGES].concat();
    if !rustix::process::geteuid().is_root() {
        wanted.extend(NOT_ROOT);
    }
    if needs_nested() {
        wanted.extend(NESTED);
        if proc::on_path("qemu-system-x86_64") && kvm::find_virtiofsd().is_none() {
            wanted.push("virtiofsd");
        }
    }
    wanted
}

/// Those of the packages that are not installed.
fn missing(wanted: &[&str]) -> Result<Vec<String>> {
    // dpkg-query fails when it knows one of them not at all, and still prints the others.
    let output = Command::new("dpkg-query")
        .args(["--show", "--showformat=${Package} ${db:Status-Status}\n"])
        .args(wanted)
        .stderr(Stdio::null())
        .output()
        .context("cannot start dpkg-query")?;
    Ok(not_installed(
        wanted,
        &String::from_utf8_lossy(&output.stdout),
    ))
}

fn not_installed(wanted: &[&str], answer: &str) -> Vec<String> {
    let installed: Vec<&str> = answer
        .lines()
        .filter_map(|line| line.strip_suffix(" installed"))
        .collect();
    wanted
        .iter()
        .filter(|package| !installed.contains(package))
        .map(|package| (*package).to_owned())
        .collect()
}

fn install(packages: &[String]) -> Result<()> {
    let by_hand = format!(
        "sudo apt-get update && sudo apt-get install --no-install-recommends -y {}",
        packages.join(" ")
    );
    let prefix: &[&str] = if rustix::process::geteuid().is_root() {
        &[]
    } else if sudo_works() {
        &["sudo", "-n"]
    } else {
        bail!("installing packages needs root; run this, then repeat:\n\n    {by_hand}\n");
    };
    let apt = |args: &[&str]| {
        let mut words = prefix.iter().chain(&["apt-get"]).chain(args);
        let mut command = Command::new(words.next().unwrap_or(&"apt-get"));
        command
            .args(words)
            .env("DEBIAN_FRONTEND", "noninteractive")
            .stdin(Stdio::null());
        command
    };
    proc::run(&mut apt(&["update", "-qq"]))?;
    let mut command = apt(&["install", "--no-install-recommends", "-y", "-qq"]);
    proc::run(command.args(packages))
        .with_context(|| format!("installing failed; try it by hand:\n\n    {by_hand}\n"))
}

fn sudo_works() -> bool {
    Command::new("sudo")
        .args(["-n", "true"])
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status()
        .is_ok_and(|status| status.success())
}

#[cfg(test)]
mod tests {
    use super::not_installed;

    #[test]
    fn removed_and_unknown_packages_are_missing() {
        let answer = "bc installed\nflex config-files\n";
        assert_eq!(
            not_installed(&["bc", "flex", "gcc"], answer),
            ["flex", "gcc"]
        );
        assert!(not_installed(&["bc"], answer).is_empty());
    }
}
