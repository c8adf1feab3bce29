//! Pausing: the guest stands still, and goes on as if nothing had been.

use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::Result;
use microsandbox::sandbox::SandboxStatus;
use microsandbox::{EndReason, Sandbox};
use msb_tests::{Fixture, PATIENCE, host, within};

use super::{is_in, removed, status, stays, stop, supervisor};

/// How long a paused guest is watched.
const STILL: Duration = Duration::from_secs(3);

/// By how many seconds the guest's clock may be wrong: it says whole ones, and an emulated one
/// drifts. Far fewer than the pause that it must not miss.
const WRONG: f64 = 5.0;

/// The host's time in seconds.
fn now() -> Result<f64> {
    Ok(SystemTime::now().duration_since(UNIX_EPOCH)?.as_secs_f64())
}

#[tokio::test]
async fn a_command_waits_until_the_guest_goes_on() -> Result<()> {
    let fixture = Fixture::new()?;
    let sandbox = Arc::new(fixture.kept("paused")?.create().await?);
    sandbox.shell("echo kept > /tmp/file").await?;
    sandbox.pause().await?;
    assert_eq!(status("paused").await?, SandboxStatus::Paused);

    let asking = Arc::clone(&sandbox);
    let command = tokio::spawn(async move { asking.exec("cat", ["/tmp/file"]).await });
    stays("the command waits", STILL, async || {
        Ok(!command.is_finished() && status("paused").await? == SandboxStatus::Paused)
    })
    .await?;
    sandbox.resume().await?;
    assert_eq!(status("paused").await?, SandboxStatus::Running);
    let output = within(command).await??;
    assert_eq!(output.stdout()?, "kept\n");
    stop(&sandbox).await?;
    removed("paused").await
}

#[tokio::test]
async fn whoever_waits_for_it_hears_of_it() -> Result<()> {
    let fixture = Fixture::new()?;
    let sandbox = fixture.kept("watched")?.create().await?;
    let handle = sandbox.handle().await?;
    let waiting = handle.clone();
    let paused =
        tokio::spawn(async move { waiting.wait_until(SandboxStatus::Paused, PATIENCE).await });
    handle.pause().await?;
    within(paused).await??;
    // It is so already.
    handle.wait_until(SandboxStatus::Paused, PATIENCE).await?;

    let waiting = handle.clone();
    let running =
        tokio::spawn(async move { waiting.wait_until(SandboxStatus::Running, PATIENCE).await });
    handle.resume().await?;
    within(running).await??;
    sandbox.wait_until(SandboxStatus::Running, PATIENCE).await?;
    stop(&sandbox).await?;
    removed("watched").await
}

#[tokio::test]
async fn twice_is_no_more_than_once() -> Result<()> {
    let fixture = Fixture::new()?;
    let sandbox = fixture.kept("pause-twice")?.create().await?;
    let handle = sandbox.handle().await?;
    sandbox.resume().await?;
    for _ in 0..3 {
        sandbox.pause().await?;
        handle.pause().await?;
        assert_eq!(status("pause-twice").await?, SandboxStatus::Paused);
        handle.resume().await?;
        sandbox.resume().await?;
        assert_eq!(status("pause-twice").await?, SandboxStatus::Running);
        let output = within(sandbox.exec("echo", ["awake"])).await?;
        assert_eq!(output.stdout()?, "awake\n");
    }
    // However many ask at once, all of them are answered.
    let asked = within(futures::future::join_all((0..8).map(|i| {
        let handle = &handle;
        async move {
            match i % 2 {
                0 => handle.pause().await,
                _ => handle.resume().await,
            }
        }
    })));
    for answer in asked.await {
        answer?;
    }
    sandbox.resume().await?;
    assert!(
        within(sandbox.exec("true", [""; 0]))
            .await?
            .status()
            .success
    );
    stop(&sandbox).await?;
    removed("pause-twice").await
}

#[tokio::test]
async fn the_guests_clock_is_right_afterwards() -> Result<()> {
    let fixture = Fixture::new()?;
    let sandbox = fixture.kept("clock")?.create().await?;
    sandbox.pause().await?;
    stays("it is paused", STILL * 4, async || {
        Ok(status("clock").await? == SandboxStatus::Paused)
    })
    .await?;
    sandbox.resume().await?;
    let before = now()? - WRONG;
    let output = within(sandbox.exec("date", ["+%s"])).await?;
    let after = now()? + WRONG;
    let guest: f64 = output.stdout()?.trim().parse()?;
    assert!(
        (before..=after).contains(&guest),
        "{before} {guest} {after}"
    );
    stop(&sandbox).await?;
    removed("clock").await
}

#[tokio::test]
async fn a_stop_of_a_paused_one_is_graceful() -> Result<()> {
    let fixture = Fixture::new()?;
    let sandbox = fixture.kept("pause-stop")?.create().await?;
    sandbox.shell("echo kept > /root/file").await?;
    sandbox.pause().await?;
    stop(&sandbox).await?;
    assert_eq!(status("pause-stop").await?, SandboxStatus::Stopped);

    let again = within(Sandbox::start("pause-stop")).await?;
    let output = again.exec("cat", ["/root/file"]).await?;
    assert_eq!(output.stdout()?, "kept\n");
    stop(&again).await?;
    removed("pause-stop").await
}

#[tokio::test]
async fn a_paused_one_can_be_killed_and_so_can_its_supervisor() -> Result<()> {
    let fixture = Fixture::new()?;
    let sandbox = fixture.kept("pause-kill")?.create().await?;
    sandbox.pause().await?;
    within(sandbox.kill_with_timeout(PATIENCE)).await?;
    assert_eq!(sandbox.end_reason(), Some(EndReason::Killed));
    assert_eq!(status("pause-kill").await?, SandboxStatus::Stopped);

    let again = within(Sandbox::start("pause-kill")).await?;
    again.pause().await?;
    host::kill(supervisor(&again.handle().await?)?);
    let reason = within(again.wait_until_ended()).await;
    assert_eq!(reason, EndReason::SupervisorLost);
    assert_eq!(status("pause-kill").await?, SandboxStatus::Crashed);
    removed("pause-kill").await
}

#[tokio::test]
async fn what_is_over_is_not_paused() -> Result<()> {
    let fixture = Fixture::new()?;
    let sandbox = fixture.kept("pause-over")?.create().await?;
    let handle = sandbox.handle().await?;
    stop(&sandbox).await?;
    is_in(handle.pause().await, SandboxStatus::Stopped);
    is_in(handle.resume().await, SandboxStatus::Stopped);
    is_in(sandbox.pause().await, SandboxStatus::Stopped);
    is_in(sandbox.resume().await, SandboxStatus::Stopped);
    assert_eq!(status("pause-over").await?, SandboxStatus::Stopped);
    removed("pause-over").await
}
