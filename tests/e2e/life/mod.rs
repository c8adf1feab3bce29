//! A sandbox's life, from its first record to its removal, and what its handle tells of it.
//!
//! Every test ends with nothing left: no process, no run directory, and of what it kept neither a
//! record nor a directory.

mod asked;
mod connect;
mod drain;
mod ephemeral;
mod failed;
mod follow;
mod handle;
mod limits;
mod logs;
mod lost;
mod metrics;
mod names;
mod pause;
mod remove;
mod replace;
mod rotation;
mod start;
mod waits;

use std::path::PathBuf;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use microsandbox::sandbox::{SandboxHandle, SandboxStatus};
use microsandbox::{EndReason, MicrosandboxError, Sandbox};
use msb_tests::{PATIENCE, home, host, within};

/// How often something is looked at that is waited for.
const LOOK: Duration = Duration::from_millis(50);

/// A script that makes the guest's processor fault three times.
const TRIPLE_FAULT: &str =
    "echo triple > /sys/kernel/reboot/type; echo 1 > /sys/kernel/reboot/force; reboot -f";

/// Looks until there is something to be seen.
async fn until<T>(what: &str, mut look: impl AsyncFnMut() -> Result<Option<T>>) -> Result<T> {
    let deadline = Instant::now() + PATIENCE;
    loop {
        if let Some(seen) = look().await? {
            return Ok(seen);
        }
        ensure!(Instant::now() < deadline, "still waiting for {what}");
        tokio::time::sleep(LOOK).await;
    }
}

/// Looks for so long, and fails as soon as it is not as it should be.
async fn stays(
    what: &str,
    long: Duration,
    mut look: impl AsyncFnMut() -> Result<bool>,
) -> Result<()> {
    let end = Instant::now() + long;
    while Instant::now() < end {
        ensure!(look().await?, "it did not stay so: {what}");
        tokio::time::sleep(LOOK).await;
    }
    Ok(())
}

/// Stops a sandbox in good order, however long that takes.
async fn stop(sandbox: &Sandbox) -> Result<()> {
    within(sandbox.stop_with_timeout(PATIENCE)).await?;
    assert_eq!(sandbox.end_reason(), Some(EndReason::Stopped));
    Ok(())
}

/// The state that a fresh look finds.
async fn status(name: &str) -> Result<SandboxStatus> {
    Ok(Sandbox::get(name).await?.status_snapshot())
}

/// The process id of a sandbox's supervisor.
fn supervisor(handle: &SandboxHandle) -> Result<i32> {
    let pid = handle.local().and_then(|local| local.pid);
    Ok(i32::try_from(pid.context("it has no supervisor")?)?)
}

/// The directory of a sandbox that is kept.
fn directory(name: &str) -> Result<PathBuf> {
    Ok(home()?.join("sandboxes").join(name))
}

/// Nothing of a sandbox is there: no process, no record, no directory.
async fn nothing_of(name: &str) -> Result<()> {
    host::nothing_left().await?;
    not_found(Sandbox::get(name).await, name);
    ensure!(!directory(name)?.exists(), "{name}'s directory is there");
    Ok(())
}

/// Removes a sandbox that is over, and sees that nothing of it is left.
async fn removed(name: &str) -> Result<()> {
    Sandbox::remove(name).await?;
    nothing_of(name).await
}

#[track_caller]
fn not_found<T: std::fmt::Debug>(result: Result<T, MicrosandboxError>, name: &str) {
    assert!(
        matches!(&result, Err(MicrosandboxError::SandboxNotFound(of)) if of == name),
        "{result:?}"
    );
}

/// It was refused because the sandbox runs.
#[track_caller]
fn still_running<T: std::fmt::Debug>(result: Result<T, MicrosandboxError>, name: &str) {
    assert!(
        matches!(&result, Err(MicrosandboxError::SandboxStillRunning(of)) if of == name),
        "{result:?}"
    );
}

/// It was refused because of the state that the sandbox is in.
#[track_caller]
fn is_in<T: std::fmt::Debug>(result: Result<T, MicrosandboxError>, state: SandboxStatus) {
    assert!(
        matches!(
            &result,
            Err(MicrosandboxError::SandboxNotRunning { status: Some(status), .. }) if *status == state
        ),
        "{result:?}"
    );
}
