//! What is left on the host: processes, sockets, directories.

use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};

use crate::{PATIENCE, home};

/// A process of ours.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Process {
    /// Its id.
    pub pid: i32,
    /// Its parent's id.
    pub parent: i32,
    /// The name of its executable, as the kernel shortens it.
    pub name: String,
}

/// The supervisors and VMMs on this machine, zombies included.
pub fn processes() -> Vec<Process> {
    let Ok(entries) = fs::read_dir("/proc") else {
        return Vec::new();
    };
    entries
        .flatten()
        .filter_map(|entry| entry.file_name().to_str()?.parse().ok())
        .filter_map(process)
        .filter(|process| matches!(process.name.as_str(), "msb-runtime" | "msb-vmm"))
        .collect()
}

fn process(pid: i32) -> Option<Process> {
    // pid (name) state ppid ...; the name may have any character but ends at the last ')'.
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let (start, rest) = stat.rsplit_once(") ")?;
    let name = start.split_once(" (")?.1.to_owned();
    let parent = rest.split(' ').nth(1)?.parse().ok()?;
    Some(Process { pid, parent, name })
}

/// The child of `parent` that is called `name`.
pub fn child(parent: i32, name: &str) -> Option<i32> {
    children(parent, name).first().copied()
}

/// The children of `parent` that are called `name`.
pub fn children(parent: i32, name: &str) -> Vec<i32> {
    let mut found = processes();
    found.retain(|process| process.parent == parent && process.name == name);
    found.iter().map(|process| process.pid).collect()
}

/// Run directories in the home.
pub fn run_dirs() -> Result<Vec<PathBuf>> {
    match fs::read_dir(home()?.join("run")) {
        Ok(entries) => Ok(entries.flatten().map(|entry| entry.path()).collect()),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(Vec::new()),
        Err(error) => Err(error.into()),
    }
}

/// Waits until no process and no run directory is left.
pub async fn nothing_left() -> Result<()> {
    let deadline = Instant::now() + PATIENCE;
    loop {
        let (processes, dirs) = (processes(), run_dirs()?);
        if processes.is_empty() && dirs.is_empty() {
            return Ok(());
        }
        ensure!(
            Instant::now() < deadline,
            "left behind: {processes:?} {:?}; the kernel said last:\n{}",
            dirs.iter().map(|dir| files(dir)).collect::<Vec<_>>(),
            kernel_log()
        );
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// A directory and what is in it.
fn files(dir: &Path) -> (&Path, Vec<OsString>) {
    let entries = fs::read_dir(dir).into_iter().flatten().flatten();
    (dir, entries.map(|entry| entry.file_name()).collect())
}

/// The last lines of this machine's kernel: a program that crashed is in them.
fn kernel_log() -> String {
    let output = Command::new("dmesg").output();
    let text = output.map(|output| output.stdout).unwrap_or_default();
    let text = String::from_utf8_lossy(&text);
    let lines: Vec<&str> = text.lines().collect();
    let last = lines.len().saturating_sub(10);
    lines.get(last..).unwrap_or_default().join("\n")
}

/// Sends SIGKILL to a process.
pub fn kill(pid: i32) {
    if let Some(pid) = rustix::process::Pid::from_raw(pid) {
        // It may be gone already.
        let _ = rustix::process::kill_process(pid, rustix::process::Signal::KILL);
    }
}
