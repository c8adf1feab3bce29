//! Who owns a sandbox, and who only reaches it.

use std::time::Duration;

use anyhow::Result;
use microsandbox::sandbox::SandboxStatus;
use microsandbox::{EndReason, Sandbox};
use msb_tests::{Fixture, within};

use super::{is_in, removed, status, stop};

/// A sandbox that a failed test leaves behind ends by itself after so many seconds.
const LEASH: u64 = 300;

#[tokio::test]
async fn who_connects_shares_it_and_owns_nothing() -> Result<()> {
    let fixture = Fixture::new()?;
    let owner = fixture.kept("shared")?.create().await?;
    let handle = Sandbox::get("shared").await?;
    let guest = within(handle.connect()).await?;
    assert!(owner.owns_lifecycle());
    assert!(!guest.owns_lifecycle());
    assert_eq!(guest.config(), owner.config());
    owner.shell("echo from the owner > /tmp/file").await?;
    let output = guest.exec("cat", ["/tmp/file"]).await?;
    assert_eq!(output.stdout()?, "from the owner\n");

    drop(guest);
    assert!(owner.exec("true", [""; 0]).await?.status().success);
    assert_eq!(status("shared").await?, SandboxStatus::Running);

    // It may end it all the same, and then both know.
    let guest = within(handle.connect()).await?;
    stop(&guest).await?;
    assert_eq!(within(owner.wait_until_ended()).await, EndReason::Stopped);
    is_in(owner.exec("true", [""; 0]).await, SandboxStatus::Stopped);
    is_in(guest.exec("true", [""; 0]).await, SandboxStatus::Stopped);
    removed("shared").await
}

#[tokio::test]
async fn what_does_not_run_cannot_be_reached() -> Result<()> {
    let fixture = Fixture::new()?;
    let sandbox = fixture.kept("unreached")?.create().await?;
    let handle = sandbox.handle().await?;
    stop(&sandbox).await?;
    is_in(within(handle.connect()).await, SandboxStatus::Stopped);
    let brief = handle.connect_with_timeout(Duration::from_secs(30));
    is_in(within(brief).await, SandboxStatus::Stopped);
    removed("unreached").await
}

#[tokio::test]
async fn a_connection_belongs_to_one_run() -> Result<()> {
    let fixture = Fixture::new()?;
    let sandbox = fixture.kept("runs")?.create().await?;
    let guest = within(sandbox.handle().await?.connect()).await?;
    stop(&sandbox).await?;
    assert_eq!(within(guest.wait_until_ended()).await, EndReason::Stopped);

    let next = within(Sandbox::start("runs")).await?;
    // What was reached is over; nothing of the old reaches the new.
    is_in(guest.exec("true", [""; 0]).await, SandboxStatus::Stopped);
    is_in(guest.pause().await, SandboxStatus::Stopped);
    guest.stop().await?;
    sandbox.kill().await?;
    drop((guest, sandbox));
    assert!(next.exec("true", [""; 0]).await?.status().success);
    assert_eq!(status("runs").await?, SandboxStatus::Running);
    stop(&next).await?;
    removed("runs").await
}

#[tokio::test]
async fn what_is_let_go_of_lives_on() -> Result<()> {
    let fixture = Fixture::new()?;
    let sandbox = fixture
        .kept("detached")?
        .max_duration(LEASH)
        .create()
        .await?;
    sandbox.shell("echo kept > /tmp/file").await?;
    within(sandbox.detach()).await;

    let handle = Sandbox::get("detached").await?;
    assert_eq!(handle.status_snapshot(), SandboxStatus::Running);
    let guest = within(handle.connect()).await?;
    assert!(!guest.owns_lifecycle());
    let output = guest.exec("cat", ["/tmp/file"]).await?;
    assert_eq!(output.stdout()?, "kept\n");
    drop(guest);
    within(handle.stop()).await?;
    assert_eq!(status("detached").await?, SandboxStatus::Stopped);
    removed("detached").await
}

#[tokio::test]
async fn what_is_made_or_started_detached_outlives_its_sandbox() -> Result<()> {
    let fixture = Fixture::new()?;
    let builder = || anyhow::Ok(fixture.kept("alone")?.max_duration(LEASH));
    let made = builder()?.create_detached().await?;
    assert!(!made.owns_lifecycle());
    drop(made);
    let handle = Sandbox::get("alone").await?;
    assert_eq!(handle.status_snapshot(), SandboxStatus::Running);
    within(handle.stop()).await?;

    let started = within(handle.start_detached()).await?;
    assert!(!started.owns_lifecycle());
    assert!(started.exec("true", [""; 0]).await?.status().success);
    drop(started);
    assert_eq!(status("alone").await?, SandboxStatus::Running);
    within(handle.stop()).await?;
    removed("alone").await?;

    // The builder can be told, too.
    let made = builder()?.detached(true).create().await?;
    assert!(!made.owns_lifecycle());
    stop(&made).await?;
    removed("alone").await
}

#[tokio::test]
async fn what_is_dropped_ends_and_is_still_there_to_be_started() -> Result<()> {
    let fixture = Fixture::new()?;
    let sandbox = fixture.kept("dropped")?.create().await?;
    let handle = sandbox.handle().await?;
    drop(sandbox);
    let result = within(handle.wait_until_stopped()).await?;
    assert_eq!(result.status, SandboxStatus::Stopped);
    let again = within(handle.start()).await?;
    assert!(again.exec("true", [""; 0]).await?.status().success);
    stop(&again).await?;
    removed("dropped").await
}
