//! Waiting for an end: everybody who waits is told how it ended, and where that is known from.

use std::time::Duration;

use anyhow::Result;
use microsandbox::sandbox::SandboxStatus;
use microsandbox::{MicrosandboxError, Sandbox};
use msb_tests::{Fixture, PATIENCE, within};
use tokio::task::JoinSet;

use super::{TRIPLE_FAULT, is_in, removed, stop};

/// How many wait at once.
const CROWD: usize = 40;

/// What a crashed VMM exits with.
const CRASHED: i32 = 11;

#[tokio::test]
async fn all_who_wait_are_told_the_same() -> Result<()> {
    let fixture = Fixture::new()?;
    let sandbox = fixture.kept("crowd")?.create().await?;
    let mut crowd = JoinSet::new();
    for _ in 0..CROWD {
        let handle = Sandbox::get("crowd").await?;
        crowd.spawn(async move { handle.wait_until_stopped().await });
    }
    stop(&sandbox).await?;
    let told = within(sandbox.wait_until_stopped()).await?;
    assert_eq!(told.name, "crowd");
    assert_eq!(told.status, SandboxStatus::Stopped);
    assert_eq!((told.exit_code, told.signal), (Some(0), None));
    assert_eq!(told.source.as_deref(), Some("supervisor"));
    let results = within(crowd.join_all()).await;
    assert_eq!(results.len(), CROWD);
    for result in results {
        assert_eq!(result?, told);
    }
    // Whoever comes later is told too.
    let late = within(Sandbox::get("crowd").await?.wait_until_stopped()).await?;
    assert_eq!(late, told);
    removed("crowd").await
}

#[tokio::test]
async fn a_wait_that_was_given_up_can_be_begun_again() -> Result<()> {
    let fixture = Fixture::new()?;
    let sandbox = fixture.kept("patient")?.create().await?;
    let handle = sandbox.handle().await?;
    for _ in 0..5 {
        let brief = Duration::from_millis(100);
        let owner = tokio::time::timeout(brief, sandbox.wait_until_stopped());
        let other = tokio::time::timeout(brief, handle.wait_until_stopped());
        let (owner, other) = tokio::join!(owner, other);
        assert!(owner.is_err() && other.is_err(), "{owner:?} {other:?}");
    }
    let waiting = tokio::spawn(async move { handle.wait_until_stopped().await });
    assert!(sandbox.exec("true", [""; 0]).await?.status().success);
    stop(&sandbox).await?;
    let told = within(waiting).await??;
    assert_eq!(told, within(sandbox.wait_until_stopped()).await?);
    removed("patient").await
}

#[tokio::test]
async fn codes_and_signals_are_told_apart() -> Result<()> {
    let fixture = Fixture::new()?;
    let sandbox = fixture.kept("codes")?.create().await?;
    let exit = within(sandbox.stop_and_wait()).await?;
    assert!(exit.success);
    assert_eq!(exit.code, 0);

    let sandbox = within(Sandbox::start("codes")).await?;
    let handle = sandbox.handle().await?;
    within(sandbox.kill_with_timeout(PATIENCE)).await?;
    let told = within(handle.wait_until_stopped()).await?;
    assert_eq!(told.status, SandboxStatus::Stopped);
    assert_eq!((told.exit_code, told.signal), (None, Some(9)));
    assert_eq!(told.source.as_deref(), Some("supervisor"));
    let exit = within(sandbox.wait()).await?;
    assert_eq!((exit.code, exit.success), (128 + 9, false));

    let sandbox = within(Sandbox::start("codes")).await?;
    let waiting = tokio::spawn(async move { handle.wait_until_stopped().await });
    let _ = within(sandbox.shell(TRIPLE_FAULT)).await;
    let told = within(waiting).await??;
    assert_eq!(told.status, SandboxStatus::Crashed);
    assert_eq!((told.exit_code, told.signal), (Some(CRASHED), None));
    let exit = within(sandbox.wait()).await?;
    assert_eq!((exit.code, exit.success), (CRASHED, false));
    removed("codes").await
}

#[tokio::test]
async fn the_end_of_an_ephemeral_one_is_told_though_nothing_stays() -> Result<()> {
    let fixture = Fixture::new()?;
    let sandbox = fixture.sandbox("told").await?;
    let handle = sandbox.handle().await?;
    let waiting = tokio::spawn(async move { handle.wait_until_stopped().await });
    // It must have begun to wait: afterwards there is nobody to ask.
    let begun = sandbox.handle().await?;
    begun.wait_until(SandboxStatus::Running, PATIENCE).await?;
    stop(&sandbox).await?;
    let told = within(waiting).await??;
    assert_eq!(told.name, "told");
    assert_eq!(told.status, SandboxStatus::Stopped);
    assert_eq!((told.exit_code, told.signal), (Some(0), None));
    assert_eq!(told.source.as_deref(), Some("supervisor"));
    super::nothing_of("told").await
}

#[tokio::test]
async fn a_state_that_does_not_come_is_not_waited_for_for_ever() -> Result<()> {
    let fixture = Fixture::new()?;
    let sandbox = fixture.kept("never")?.create().await?;
    let handle = sandbox.handle().await?;
    let brief = Duration::from_millis(300);
    for never in [SandboxStatus::Created, SandboxStatus::Draining] {
        let result = within(handle.wait_until(never, brief)).await;
        assert!(
            matches!(&result, Err(MicrosandboxError::Runtime(why)) if why.contains("timed out")),
            "{result:?}"
        );
    }

    // Whoever waits for a pause hears that the run is over instead.
    let waiting = handle.clone();
    let paused =
        tokio::spawn(async move { waiting.wait_until(SandboxStatus::Paused, PATIENCE).await });
    let waiting = handle.clone();
    let stopped =
        tokio::spawn(async move { waiting.wait_until(SandboxStatus::Stopped, PATIENCE).await });
    stop(&sandbox).await?;
    is_in(within(paused).await?, SandboxStatus::Stopped);
    within(stopped).await??;

    // Nobody starts it: it does not come to run by itself.
    let result = within(handle.wait_until(SandboxStatus::Running, PATIENCE)).await;
    is_in(result, SandboxStatus::Stopped);
    within(handle.wait_until(SandboxStatus::Stopped, PATIENCE)).await?;
    removed("never").await
}
