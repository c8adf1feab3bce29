//! The guest kernel: the distribution's own source of Linux 6.12 LTS with our small configuration,
//! as an uncompressed ELF that is entered through its PVH note.
//!
//! A build takes some minutes on two processors, so it is kept in the cache by what it was made of:
//! source version, fragment, recipe. The source version is looked up once and then kept, or else
//! every security update of the distribution would be a rebuild at a moment nobody chose;
//! `guest --update` looks again.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::thread;

use anyhow::{Context, Result, bail};

use super::kconfig;
use crate::progress::Progress;
use crate::{apt, cache, proc};

/// What we ask of the kernel's configuration.
pub(crate) const FRAGMENT: &str = include_str!("../../guest/kernel.config");
const PACKAGE: &str = "linux-source-6.12";
/// Changes when the steps below change in a way that changes the bytes.
const RECIPE: &str = "1: allnoconfig, vmlinux, strip";
/// How many lines a build prints, to draw a bar with.
const USUAL_LINES: u64 = 1900;
const VERSION_NOTE: &str = "source-version";

/// The kernel in the cache, built first when it is not there.
pub(crate) fn build(update: bool) -> Result<PathBuf> {
    let kind = cache::Kind::open("kernel")?;
    let version = source_version(&kind, update)?;
    let dir = kind.get_or_make(&key(&version), |made| make(&version, made))?;
    Ok(dir.join("vmlinux"))
}

/// The kernel in the cache, if a build has put it there.
pub(crate) fn cached() -> Result<Option<PathBuf>> {
    let kind = cache::Kind::open("kernel")?;
    let Ok(version) = fs::read_to_string(kind.dir().join(VERSION_NOTE)) else {
        return Ok(None);
    };
    Ok(kind
        .get(&key(version.trim()))
        .map(|dir| dir.join("vmlinux")))
}

fn key(version: &str) -> String {
    cache::key(&[
        RECIPE.as_bytes(),
        PACKAGE.as_bytes(),
        version.as_bytes(),
        FRAGMENT.as_bytes(),
    ])
}

fn source_version(kind: &cache::Kind, update: bool) -> Result<String> {
    let note = kind.dir().join(VERSION_NOTE);
    if !update && let Ok(version) = fs::read_to_string(&note) {
        return Ok(version.trim().to_owned());
    }
    let mut version = apt::candidate(PACKAGE)?;
    if version.is_none() {
        apt::refresh()?;
        version = apt::candidate(PACKAGE)?;
    }
    let version = version.with_context(|| {
        format!("apt knows no package {PACKAGE}: Debian 12 has it in bookworm-security, Debian 13 in main")
    })?;
    cache::write_atomically(&note, version.as_bytes())?;
    Ok(version)
}

fn make(version: &str, made: &Path) -> Result<()> {
    let scratch = made
        .parent()
        .context("the build has no scratch directory")?;
    let source = unpack_source(version, scratch)?;
    let fragment = scratch.join("fragment");
    fs::write(&fragment, FRAGMENT)?;

    proc::lines(
        kernel_make(&source)
            .arg(format!("KCONFIG_ALLCONFIG={}", fragment.display()))
            .arg("allnoconfig"),
        |_| {},
    )?;
    check_config(&source)?;

    let jobs = thread::available_parallelism().map_or(1, usize::from);
    let mut progress = Progress::new(&format!("building the guest kernel {version}"), USUAL_LINES);
    proc::lines(
        kernel_make(&source).arg(format!("-j{jobs}")).arg("vmlinux"),
        |_| progress.step(),
    )?;
    progress.finish();
    check_config(&source)?;

    // Symbols go; the notes stay, for the PVH entry point is one of them.
    proc::output(
        Command::new("strip")
            .arg("-o")
            .arg(made.join("vmlinux"))
            .arg(source.join("vmlinux")),
    )?;
    fs::copy(source.join(".config"), made.join("config"))?;
    fs::write(made.join("version"), version)?;
    Ok(())
}

/// The source tree, unpacked in `scratch`.
fn unpack_source(version: &str, scratch: &Path) -> Result<PathBuf> {
    let mut progress = Progress::new("fetching and unpacking the kernel source", 2);
    let package = scratch.join("package");
    fs::create_dir(&package)?;
    if apt::unpack(&format!("{PACKAGE}={version}"), &package).is_err() {
        bail!(
            "cannot download {PACKAGE} {version}: the archive keeps only the newest; \
             run `cargo xtask guest --update` to move to that"
        );
    }
    progress.step();
    let tarball = package.join("usr/src").join(format!("{PACKAGE}.tar.xz"));
    proc::output(
        Command::new("tar")
            .arg("--extract")
            .args(["--use-compress-program", "xz -T0"])
            .arg("--directory")
            .arg(scratch)
            .arg("--file")
            .arg(&tarball),
    )?;
    progress.finish();
    Ok(scratch.join(PACKAGE))
}

/// `make` in the source tree, with everything fixed that would otherwise make the bytes differ.
fn kernel_make(source: &Path) -> Command {
    let mut make = Command::new("make");
    make.arg("-C")
        .arg(source)
        .env("LC_ALL", "C")
        .env("KBUILD_BUILD_TIMESTAMP", "1970-01-01")
        .env("KBUILD_BUILD_USER", "msb")
        .env("KBUILD_BUILD_HOST", "msb")
        .env("KBUILD_BUILD_VERSION", "1")
        .env_remove("MAKEFLAGS")
        .env_remove("ARCH")
        .env_remove("CROSS_COMPILE");
    make
}

fn check_config(source: &Path) -> Result<()> {
    let config =
        fs::read_to_string(source.join(".config")).context("the kernel left no configuration")?;
    let unmet = kconfig::unmet(FRAGMENT, &config);
    if !unmet.is_empty() {
        bail!(
            "the kernel's configuration is not what xtask/guest/kernel.config asks for \
             (a dependency is missing, or something selects it):\n  {}",
            unmet.join("\n  ")
        );
    }
    Ok(())
}
