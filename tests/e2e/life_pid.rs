//! A process id that was given again: a record names it, and the process is a stranger. The
//! sandbox is over, and no signal reaches the stranger, whatever is asked of the sandbox.

use std::fs;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use microsandbox::sandbox::SandboxStatus;
use microsandbox::{EndReason, LocalBackend, MicrosandboxError, Sandbox, with_backend};
use msb_tests::{Fixture, PATIENCE, host, within};
use tokio::io::{AsyncBufReadExt, BufReader};

/// The kernel gives numbers on from this one.
const LAST_PID: &str = "/proc/sys/kernel/ns_last_pid";

/// Other processes and threads take numbers too; so often it may go wrong.
const TRIES: u32 = 200;

/// A process that has nothing to do with any sandbox. Killed when it is dropped.
struct Stranger(Child);

impl Stranger {
    fn new() -> Result<Self> {
        let child = Command::new("sleep")
            .arg("3600")
            .stdin(Stdio::null())
            .spawn()
            .context("cannot start sleep")?;
        Ok(Self(child))
    }

    /// One with this process id.
    fn with_pid(pid: u32) -> Result<Self> {
        for _ in 0..TRIES {
            fs::write(LAST_PID, (pid - 1).to_string()).context("cannot set the last pid")?;
            let stranger = Self::new()?;
            if stranger.0.id() == pid {
                return Ok(stranger);
            }
        }
        anyhow::bail!("no process got the number {pid} in {TRIES} tries")
    }

    fn is_alive(&mut self) -> Result<bool> {
        Ok(self.0.try_wait()?.is_none())
    }
}

impl Drop for Stranger {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Does everything to the sandbox `name` that might signal, and finds the stranger alive.
async fn spare(stranger: &mut Stranger, name: &str) -> Result<()> {
    let handle = Sandbox::get(name).await?;
    ensure!(
        handle.status_snapshot() == SandboxStatus::Crashed,
        "{handle:?}"
    );
    let pid = handle.local().and_then(|local| local.pid);
    ensure!(
        pid.is_none(),
        "the handle shows a stranger's number: {pid:?}"
    );
    let stop = within(handle.wait_until_stopped()).await?;
    ensure!(stop.status == SandboxStatus::Crashed, "{stop:?}");
    within(handle.stop()).await?;
    within(handle.stop_with_timeout(Duration::ZERO)).await?;
    within(handle.kill()).await?;
    within(handle.request_stop()).await?;
    within(handle.request_kill()).await?;
    let drained = within(handle.drain()).await;
    ensure!(
        matches!(
            &drained,
            Err(MicrosandboxError::SandboxNotRunning {
                status: Some(SandboxStatus::Crashed),
                reason: Some(EndReason::SupervisorLost),
                ..
            })
        ),
        "{drained:?}"
    );
    within(handle.remove()).await?;
    // A signal that was sent is there by now: it would have come before the answers above.
    ensure!(stranger.is_alive()?, "the stranger was killed");
    Ok(())
}

/// Writes a sandbox's directory, in the form that docs/architecture.md gives it.
fn write_running(home: &Path, name: &str, pid: u32) -> Result<()> {
    let dir = home.join("sandboxes").join(name);
    fs::create_dir_all(dir.join("logs"))?;
    let config = serde_json::json!({
        "created_at": "2026-01-01T00:00:00Z",
        "config": {
            "name": name,
            "image": { "disk_image": { "path": "/none", "format": "raw", "fstype": null } },
        },
    });
    let run = serde_json::json!({
        "id": 7, "pid": pid, "started_at": "2026-01-01T00:00:01Z", "ended": null,
    });
    fs::write(dir.join("config.json"), config.to_string())?;
    fs::write(dir.join("run.json"), run.to_string())?;
    Ok(())
}

/// A catalog can only be made to say so by making it anew from the directories.
#[tokio::test]
async fn a_record_that_names_a_stranger_is_crashed() -> Result<()> {
    let home = tempfile::tempdir()?;
    let backend = LocalBackend::builder().home(home.path()).build().await?;
    let mut stranger = Stranger::new()?;
    write_running(home.path(), "renamed", stranger.0.id())?;
    fs::remove_file(home.path().join("db/catalog.redb"))?;
    backend.rebuild_catalog().await?;
    let backend = Arc::new(backend);
    with_backend(backend.clone(), spare(&mut stranger, "renamed")).await?;
    let left = with_backend(backend, Sandbox::list()).await?;
    ensure!(left.is_empty(), "{left:?}");
    Ok(())
}

#[tokio::test]
async fn a_supervisors_number_that_went_to_a_stranger_is_never_signalled() -> Result<()> {
    let may_choose = fs::read_to_string(LAST_PID).and_then(|last| fs::write(LAST_PID, last.trim()));
    if let Err(error) = may_choose {
        println!("not run: process ids cannot be chosen here ({LAST_PID}: {error})");
        return Ok(());
    }
    let fixture = Fixture::new()?;
    let mut owner = tokio::process::Command::new(env!("CARGO_BIN_EXE_msb-test-owner"))
        .arg("stranger")
        .arg(fixture.disk()?)
        .arg("kept")
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .kill_on_drop(true)
        .spawn()?;
    let stdout = owner.stdout.take().context("the owner has no output")?;
    let line = within(BufReader::new(stdout).lines().next_line()).await?;
    ensure!(line.as_deref() == Some("up"), "{line:?}");
    let handle = Sandbox::get("stranger").await?;
    let pid = handle.local().and_then(|local| local.pid);
    let pid = pid.context("a running sandbox has a supervisor")?;
    let owner_pid = i32::try_from(owner.id().context("the owner has just spoken")?)?;
    ensure!(host::child(owner_pid, "msb-runtime") == Some(i32::try_from(pid)?));

    // The owner too, which would see the end and clean up.
    host::kill(owner_pid);
    host::kill(i32::try_from(pid)?);
    within(owner.wait()).await?;
    // The number is in use for as long as the process is not reaped, or is the session of another.
    let deadline = Instant::now() + PATIENCE;
    while !host::processes().is_empty() {
        ensure!(Instant::now() < deadline, "{:?}", host::processes());
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let mut stranger = Stranger::with_pid(pid)?;
    spare(&mut stranger, "stranger").await?;
    drop(stranger);

    let sandbox = fixture.sandbox("stranger").await?;
    sandbox.stop().await?;
    host::nothing_left().await
}
