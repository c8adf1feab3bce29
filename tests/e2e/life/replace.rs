//! Replacing: what has the name goes, whatever it does, and the new one has it.

use std::time::Duration;

use anyhow::{Context, Result};
use microsandbox::sandbox::SandboxStatus;
use microsandbox::{EndReason, Sandbox};
use msb_tests::{Fixture, PATIENCE, within};

use super::{removed, status, stop};

/// The number that the sandbox of this name has in the catalog.
async fn id(name: &str) -> Result<u64> {
    let handle = Sandbox::get(name).await?;
    Ok(handle.local().context("it is of this machine")?.db_id)
}

#[tokio::test]
async fn a_running_one_is_stopped_first() -> Result<()> {
    let fixture = Fixture::new()?;
    let first = fixture.kept("replaced")?.create().await?;
    let before = id("replaced").await?;
    first.shell("echo kept > /root/file").await?;

    let builder = fixture.kept("replaced")?.cpus(2);
    let second = within(builder.replace_with_timeout(PATIENCE).create()).await?;
    assert_eq!(within(first.wait_until_ended()).await, EndReason::Stopped);
    assert_ne!(id("replaced").await?, before);
    // It was asked to stop in good order: what it wrote to its disk is there.
    let output = second.shell("cat /root/file; nproc").await?;
    assert_eq!(output.stdout()?, "kept\n2\n");
    assert_eq!(Sandbox::get("replaced").await?.config()?.resources.cpus, 2);

    // What is left of the first does nothing to the second.
    first.stop().await?;
    drop(first);
    assert_eq!(status("replaced").await?, SandboxStatus::Running);
    stop(&second).await?;
    removed("replaced").await
}

#[tokio::test]
async fn without_any_time_it_is_killed() -> Result<()> {
    let fixture = Fixture::new()?;
    let first = fixture.kept("hurried")?.create().await?;
    let builder = fixture.kept("hurried")?;
    let second = within(builder.replace_with_timeout(Duration::ZERO).create()).await?;
    assert_eq!(within(first.wait_until_ended()).await, EndReason::Killed);
    assert!(second.exec("true", [""; 0]).await?.status().success);
    stop(&second).await?;
    removed("hurried").await
}

#[tokio::test]
async fn a_stopped_one_a_paused_one_and_none_at_all() -> Result<()> {
    let fixture = Fixture::new()?;
    let create = async || {
        fixture
            .kept("any")?
            .replace()
            .create()
            .await
            .map_err(anyhow::Error::from)
    };
    // None.
    let first = within(create()).await?;
    let mut ids = vec![id("any").await?];
    stop(&first).await?;
    // A stopped one.
    let second = within(create()).await?;
    ids.push(id("any").await?);
    second.pause().await?;
    // A paused one.
    let third = within(create()).await?;
    ids.push(id("any").await?);
    within(second.wait_until_ended()).await;
    assert!(third.exec("true", [""; 0]).await?.status().success);
    assert!(ids.is_sorted_by(|a, b| a < b), "{ids:?}");
    // Whether it replaces is of one creation, and not kept.
    assert!(!third.handle().await?.config()?.replace_existing);
    stop(&third).await?;
    removed("any").await
}

#[tokio::test]
async fn one_that_leaves_nothing_is_replaced_like_any_other() -> Result<()> {
    let fixture = Fixture::new()?;
    let first = fixture.sandbox("fleeting").await?;
    let second = within(fixture.builder("fleeting")?.replace().create()).await?;
    within(first.wait_until_ended()).await;
    assert!(second.exec("true", [""; 0]).await?.status().success);
    stop(&second).await?;
    super::nothing_of("fleeting").await
}
