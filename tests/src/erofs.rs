//! Root disks that nobody can write to: EROFS, as mkfs.erofs makes them of a directory.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, ensure};

use crate::busybox;

/// Makes a disk at `disk` of a small tree with busybox, which `change` may change first.
pub fn make(disk: &Path, change: impl FnOnce(&Path) -> Result<()>) -> Result<PathBuf> {
    let staging = tempfile::tempdir().context("no temporary directory")?;
    busybox::make_tree(staging.path())?;
    change(staging.path())?;
    of_directory(staging.path(), disk)
}

/// Makes a disk at `disk` of a directory.
pub fn of_directory(directory: &Path, disk: &Path) -> Result<PathBuf> {
    // It writes over what is there, and keeps what it does not write over.
    let _ = fs::remove_file(disk);
    let output = Command::new("mkfs.erofs")
        .arg(disk)
        .arg(directory)
        .env("PATH", "/usr/sbin:/sbin:/usr/bin:/bin")
        .output()
        .context("cannot run mkfs.erofs; install the package erofs-utils")?;
    ensure!(
        output.status.success(),
        "mkfs.erofs failed: {}",
        String::from_utf8_lossy(&output.stderr).trim()
    );
    Ok(disk.to_path_buf())
}
