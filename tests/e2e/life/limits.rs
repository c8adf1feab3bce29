//! Limits: a sandbox that ends by itself, because its time is up or because nothing goes on.

use std::time::Duration;

use anyhow::Result;
use microsandbox::sandbox::SandboxStatus;
use microsandbox::{EndReason, Sandbox, SandboxBuilder};
use msb_tests::{Fixture, within};

use super::{removed, status, stays, stop};

/// Seconds of nothing after which the sandboxes here are idle.
const IDLE: u64 = 3;

/// Seconds that a sandbox lasts whose time is to be up.
const BRIEF: u64 = 6;

/// Several times as long as that nothing.
const LONG: Duration = Duration::from_secs(4 * IDLE);

/// A sandbox that may do nothing for so long only.
fn idling(fixture: &Fixture, name: &str) -> Result<SandboxBuilder> {
    Ok(fixture.kept(name)?.idle_timeout(IDLE))
}

async fn runs(name: &str) -> Result<bool> {
    Ok(status(name).await? == SandboxStatus::Running)
}

#[tokio::test]
async fn its_time_is_up_whatever_it_does() -> Result<()> {
    let fixture = Fixture::new()?;
    let sandbox = fixture.kept("brief")?.max_duration(BRIEF).create().await?;
    sandbox.shell("echo kept > /root/file").await?;
    let mut busy = sandbox.exec_stream("sleep", ["1000"]).await?;
    let reason = within(sandbox.wait_until_ended()).await;
    assert_eq!(reason, EndReason::MaxDuration);
    let _ = within(busy.wait()).await;
    let result = within(sandbox.wait_until_stopped()).await?;
    assert_eq!(result.status, SandboxStatus::Stopped);
    let handle = Sandbox::get("brief").await?;
    assert_eq!(handle.status_snapshot(), SandboxStatus::Stopped);
    assert_eq!(handle.last_error_snapshot(), None);

    // It was stopped and not killed, and each run has its time anew.
    let again = within(handle.start()).await?;
    let output = again.exec("cat", ["/root/file"]).await?;
    assert_eq!(output.stdout()?, "kept\n");
    let reason = within(again.wait_until_ended()).await;
    assert_eq!(reason, EndReason::MaxDuration);
    removed("brief").await
}

#[tokio::test]
async fn what_does_nothing_is_idle() -> Result<()> {
    let fixture = Fixture::new()?;
    let sandbox = idling(&fixture, "idle")?.create().await?;
    sandbox.shell("echo kept > /root/file").await?;
    assert_eq!(within(sandbox.wait_until_ended()).await, EndReason::Idle);
    assert_eq!(status("idle").await?, SandboxStatus::Stopped);

    let again = within(Sandbox::start("idle")).await?;
    let output = again.exec("cat", ["/root/file"]).await?;
    assert_eq!(output.stdout()?, "kept\n");
    assert_eq!(within(again.wait_until_ended()).await, EndReason::Idle);
    removed("idle").await
}

#[tokio::test]
async fn it_is_seen_without_metrics_too() -> Result<()> {
    let fixture = Fixture::new()?;
    let builder = idling(&fixture, "idle-unmeasured")?.disable_metrics_sample();
    let sandbox = builder.create().await?;
    assert_eq!(within(sandbox.wait_until_ended()).await, EndReason::Idle);
    removed("idle-unmeasured").await
}

#[tokio::test]
async fn a_command_that_says_nothing_is_not_idle() -> Result<()> {
    let fixture = Fixture::new()?;
    let sandbox = idling(&fixture, "quiet")?.create().await?;
    let seconds = LONG.as_secs().to_string();
    let output = within(sandbox.exec("sleep", [seconds])).await?;
    assert!(output.status().success, "{output:?}");
    assert_eq!(sandbox.end_reason(), None);
    assert_eq!(within(sandbox.wait_until_ended()).await, EndReason::Idle);
    removed("quiet").await
}

#[tokio::test]
async fn a_guest_that_works_in_the_background_is_not_idle() -> Result<()> {
    let fixture = Fixture::new()?;
    let sandbox = idling(&fixture, "background")?.create().await?;
    sandbox
        .shell("(while :; do :; done) > /dev/null 2>&1 &")
        .await?;
    stays("it works", LONG, async || runs("background").await).await?;
    // Without its work it is as idle as any other.
    sandbox.exec("killall", ["sh"]).await?;
    let reason = within(sandbox.wait_until_ended()).await;
    assert_eq!(reason, EndReason::Idle);
    removed("background").await
}

#[tokio::test]
async fn a_pause_is_not_idling() -> Result<()> {
    let fixture = Fixture::new()?;
    let sandbox = idling(&fixture, "idle-paused")?.create().await?;
    sandbox.pause().await?;
    stays("it is paused", LONG, async || {
        Ok(status("idle-paused").await? == SandboxStatus::Paused)
    })
    .await?;
    sandbox.resume().await?;
    assert!(sandbox.exec("true", [""; 0]).await?.status().success);
    assert_eq!(within(sandbox.wait_until_ended()).await, EndReason::Idle);
    removed("idle-paused").await
}

#[tokio::test]
async fn an_idle_ephemeral_one_is_gone() -> Result<()> {
    let fixture = Fixture::new()?;
    let sandbox = fixture
        .builder("idle-gone")?
        .idle_timeout(IDLE)
        .create()
        .await?;
    assert_eq!(within(sandbox.wait_until_ended()).await, EndReason::Idle);
    super::nothing_of("idle-gone").await
}

#[tokio::test]
async fn limits_of_nothing_are_refused() -> Result<()> {
    let fixture = Fixture::new()?;
    for builder in [
        fixture.kept("limits")?.max_duration(0),
        fixture.kept("limits")?.idle_timeout(0),
    ] {
        let result = builder.create().await;
        assert!(
            matches!(
                result,
                Err(microsandbox::MicrosandboxError::InvalidConfig(_))
            ),
            "{result:?}"
        );
    }
    // Limits beyond any clock are none.
    let builder = fixture.builder("limits")?.max_duration(u64::MAX);
    let sandbox = builder.idle_timeout(u64::MAX).create().await?;
    assert!(sandbox.exec("true", [""; 0]).await?.status().success);
    stop(&sandbox).await?;
    super::nothing_of("limits").await
}
