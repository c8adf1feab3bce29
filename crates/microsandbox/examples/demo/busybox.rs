//! A small root disk from Debian's static busybox.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail, ensure};

/// Makes the raw ext4 disk image `disk` of `mebibytes` MiB with busybox as its only program.
///
/// Needs `busybox` (statically linked) and `mke2fs`; no root.
pub(crate) fn make_disk(disk: &Path, mebibytes: u32) -> Result<()> {
    let staging = tempfile::tempdir().context("cannot make a temporary directory")?;
    let root = staging.path();
    make_tree(root)?;
    let output = Command::new("mke2fs")
        .args([
            "-q",
            "-t",
            "ext4",
            "-E",
            "root_owner=0:0,lazy_itable_init=1",
            "-O",
            "^has_journal",
        ])
        .arg("-d")
        .arg(root)
        .arg(disk)
        .arg(format!("{mebibytes}M"))
        .env("PATH", "/usr/sbin:/sbin:/usr/bin:/bin")
        .output()
        .context("cannot run mke2fs; install the package e2fsprogs")?;
    ensure!(
        output.status.success(),
        "mke2fs failed: {}",
        String::from_utf8_lossy(&output.stderr).trim()
    );
    Ok(())
}

/// Fills the empty directory `root` with busybox and the few files around it.
pub(crate) fn make_tree(root: &Path) -> Result<()> {
    for directory in [
        "bin", "dev", "etc", "home", "proc", "root", "run", "sys", "tmp", "usr", "var",
    ] {
        fs::create_dir(root.join(directory))?;
    }
    symlink("/bin", root.join("usr/bin"))?;
    symlink("/bin", root.join("sbin"))?;
    fs::write(
        root.join("etc/passwd"),
        "root:x:0:0:root:/root:/bin/sh\nuser:x:1000:1000::/home:/bin/sh\n",
    )?;
    fs::write(
        root.join("etc/group"),
        "root:x:0:\nuser:x:1000:\nstaff:x:50:user\n",
    )?;

    let busybox = find_busybox()?;
    fs::copy(&busybox, root.join("bin/busybox")).context("cannot copy busybox")?;
    let applets = Command::new(&busybox)
        .arg("--list")
        .output()
        .context("cannot run busybox")?;
    for applet in String::from_utf8(applets.stdout)?
        .lines()
        .filter(|name| *name != "busybox")
    {
        symlink("busybox", root.join("bin").join(applet))?;
    }
    Ok(())
}

fn find_busybox() -> Result<PathBuf> {
    let places = ["/bin/busybox", "/usr/bin/busybox"];
    match places.iter().map(PathBuf::from).find(|path| path.is_file()) {
        Some(path) => Ok(path),
        None => bail!(
            "no busybox at {}; install the package busybox-static",
            places.join(" or ")
        ),
    }
}
