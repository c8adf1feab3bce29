//! The VMM by itself: its command line, its exit codes, its errors.

mod control;
mod machine;
mod mapped;
mod pause;
mod refused;

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Output, Stdio};

use anyhow::{Context, Result, ensure};
use msb_tests::PATIENCE;
use tokio::process::Command;

/// Exit codes, as the VMM's help tells them.
const POWER_OFF: i32 = 0;
const REFUSED: i32 = 2;
const RESET: i32 = 10;
const CRASH: i32 = 11;
const KILLED: i32 = 12;

pub(crate) fn variable(name: &str) -> Result<PathBuf> {
    Ok(std::env::var_os(name)
        .with_context(|| format!("{name} is not set"))?
        .into())
}

fn kernel() -> Result<PathBuf> {
    variable("MSB_KERNEL_PATH")
}

/// A VMM with these arguments, its output taken.
fn vmm(args: impl IntoIterator<Item = impl AsRef<std::ffi::OsStr>>) -> Result<Command> {
    let mut command = Command::new(variable("MSB_VMM_PATH")?);
    command
        .args(args)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .kill_on_drop(true);
    Ok(command)
}

/// Runs it to its end.
async fn run(command: &mut Command) -> Result<Output> {
    tokio::time::timeout(PATIENCE, command.output())
        .await
        .context("the VMM did not end")?
        .map_err(Into::into)
}

/// An initramfs of busybox whose `/init` is `script`, its console on `hvc0`.
fn initramfs(dir: &Path, script: &str) -> Result<PathBuf> {
    let root = dir.join("initramfs");
    for directory in ["bin", "dev", "proc", "sys"] {
        fs::create_dir_all(root.join(directory))?;
    }
    fs::copy("/bin/busybox", root.join("bin/busybox")).context("no busybox-static")?;
    let init = root.join("init");
    let prologue = "#!/bin/busybox sh
/bin/busybox --install -s /bin
export PATH=/bin
mount -t devtmpfs dev /dev
mount -t proc proc /proc
mount -t sysfs sys /sys
exec </dev/hvc0 >/dev/hvc0 2>&1
stty -echo raw
";
    fs::write(&init, format!("{prologue}{script}\n"))?;
    fs::set_permissions(&init, fs::Permissions::from_mode(0o755))?;
    let archive = dir.join("initramfs.cpio");
    let status = std::process::Command::new("sh")
        .arg("-c")
        .arg("find . | busybox cpio -o -H newc > \"$0\" 2>/dev/null")
        .arg(&archive)
        .current_dir(&root)
        .status()?;
    ensure!(status.success(), "cpio failed");
    Ok(archive)
}
