//! Whether what the library says of its sandboxes is so: records, locks, directories and
//! processes have to agree.

use std::collections::BTreeSet;
use std::fs::{self, File, TryLockError};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use futures::future::try_join_all;
use microsandbox::sandbox::SandboxHandle;
use microsandbox::{MicrosandboxError, Sandbox};
use sha2::{Digest, Sha256};

use crate::{PATIENCE, home, host};

/// What a stop is given.
const ENDING: Duration = Duration::from_secs(60);

/// Waits until records, locks, directories and processes agree, and returns the records.
///
/// What is ending takes a moment to end; what still contradicts itself after that is a lie.
pub async fn settled() -> Result<Vec<SandboxHandle>> {
    let deadline = Instant::now() + PATIENCE;
    loop {
        let handles = Sandbox::list().await.context("the list does not work")?;
        no_ghosts(&handles).await?;
        let wrong = contradictions(&handles)?;
        if wrong.is_empty() {
            return Ok(handles);
        }
        if Instant::now() >= deadline {
            bail!("this does not agree: {}", wrong.join("; "));
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

/// Stops all that still run, all at once, and waits until nothing but records is left of them.
pub async fn stopped() -> Result<()> {
    let handles = settled().await?;
    let active = handles
        .iter()
        .filter(|handle| handle.status_snapshot().is_active());
    try_join_all(active.map(|handle| async move {
        // An ephemeral one goes with its run.
        match handle.stop_with_timeout(ENDING).await {
            Err(MicrosandboxError::SandboxNotFound(_)) => Ok(()),
            stopped => stopped.with_context(|| format!("cannot stop {handle:?}")),
        }
    }))
    .await?;
    let left = settled().await?;
    let active: Vec<_> = left
        .iter()
        .filter(|handle| handle.status_snapshot().is_active())
        .collect();
    ensure!(active.is_empty(), "stopped, and yet: {active:?}");
    Ok(())
}

/// Fails unless nothing runs, nothing of a run is left, and the sandboxes' directories are those
/// of the records. To be asked after a start, which is what sweeps after those that were killed.
pub async fn tidy() -> Result<()> {
    host::nothing_left().await?;
    let records: BTreeSet<String> = Sandbox::list()
        .await?
        .iter()
        .map(|handle| handle.name().to_owned())
        .collect();
    let directories = names(&home()?.join("sandboxes"))?;
    ensure!(
        records == directories,
        "records {records:?}, but directories {directories:?}"
    );
    Ok(())
}

/// Removes every sandbox; then nothing at all is left.
pub async fn emptied() -> Result<()> {
    stopped().await?;
    for handle in Sandbox::list().await? {
        handle
            .remove()
            .await
            .with_context(|| format!("cannot remove {handle:?}"))?;
    }
    tidy().await?;
    ensure!(Sandbox::list().await?.is_empty(), "a record came back");
    Ok(())
}

/// Nothing runs that is not: a look at a sandbox whose lock is free never calls it active, not even
/// for a moment.
async fn no_ghosts(handles: &[SandboxHandle]) -> Result<()> {
    let home = home()?;
    for handle in handles {
        let run = run_dir(&home, handle.name());
        if !handle.status_snapshot().is_active() || is_held(&run)? {
            continue;
        }
        // It ended since it was looked at, which the next look has to say.
        match handle.refresh().await {
            Ok(now) => ensure!(
                !now.status_snapshot().is_active() || is_held(&run)?,
                "{now:?} is called active, and nobody holds its lock"
            ),
            Err(MicrosandboxError::SandboxNotFound(_)) => {}
            Err(error) => return Err(error).context("a sandbox cannot be looked at"),
        }
    }
    Ok(())
}

fn contradictions(handles: &[SandboxHandle]) -> Result<Vec<String>> {
    let home = home()?;
    let mut wrong = Vec::new();
    let mut supervisors = BTreeSet::new();
    let mut runs = BTreeSet::new();
    let processes = host::processes();
    for handle in handles {
        let (name, status) = (handle.name(), handle.status_snapshot());
        let run = run_dir(&home, name);
        if status.is_active() != is_held(&run)? {
            wrong.push(format!("{name} is {status}, but its lock says otherwise"));
        }
        if !home.join("sandboxes").join(name).is_dir() {
            wrong.push(format!("{name} has a record and no directory"));
        }
        if status.is_active() {
            let pid = handle.local().and_then(|local| local.pid);
            let pid = pid.and_then(|pid| i32::try_from(pid).ok()).unwrap_or(0);
            if !supervisors.insert(pid) {
                wrong.push(format!("{name} has the supervisor of another"));
            }
            let is_there =
                |process: &host::Process| process.pid == pid && process.name == "msb-runtime";
            if !processes.iter().any(is_there) {
                wrong.push(format!("{name} is {status}, but has no supervisor"));
            }
        }
        runs.insert(run);
    }
    for process in &processes {
        let owner = match process.name.as_str() {
            "msb-runtime" => process.pid,
            _ => process.parent,
        };
        if !supervisors.contains(&owner) {
            wrong.push(format!("nobody's: {process:?}"));
        }
    }
    for run in host::run_dirs()? {
        // One that nobody holds is swept by the next start.
        if !runs.contains(&run) && is_held(&run)? {
            wrong.push(format!("{} is held for no record", run.display()));
        }
    }
    Ok(wrong)
}

/// The run directory of a sandbox: docs/architecture.md, "State on disk".
fn run_dir(home: &Path, name: &str) -> PathBuf {
    let digest = Sha256::digest(name.as_bytes());
    let id: String = digest
        .iter()
        .take(6)
        .map(|byte| format!("{byte:02x}"))
        .collect();
    home.join("run").join(id)
}

fn is_held(run: &Path) -> Result<bool> {
    let lock = match File::open(run.join("lock")) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(false),
        opened => opened.with_context(|| format!("cannot open the lock of {}", run.display()))?,
    };
    match lock.try_lock_shared() {
        Ok(()) => Ok(false),
        Err(TryLockError::WouldBlock) => Ok(true),
        Err(TryLockError::Error(error)) => Err(error.into()),
    }
}

fn names(dir: &Path) -> Result<BTreeSet<String>> {
    match fs::read_dir(dir) {
        Ok(entries) => Ok(entries
            .flatten()
            .map(|entry| entry.file_name().to_string_lossy().into_owned())
            .collect()),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(BTreeSet::new()),
        Err(error) => Err(error).with_context(|| format!("cannot read {}", dir.display())),
    }
}
