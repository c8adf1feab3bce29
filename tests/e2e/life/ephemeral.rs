//! Ephemeral sandboxes: however they end, nothing of them stays.

use anyhow::Result;
use microsandbox::sandbox::SandboxFilter;
use microsandbox::{EndReason, Sandbox};
use msb_tests::{Fixture, PATIENCE, host, within};

use super::{TRIPLE_FAULT, directory, nothing_of, stop, supervisor};

#[tokio::test]
async fn a_stop_leaves_nothing() -> Result<()> {
    let fixture = Fixture::new()?;
    let sandbox = fixture.sandbox("eph-stop").await?;
    assert!(directory("eph-stop")?.exists());
    let handle = sandbox.handle().await?;
    stop(&sandbox).await?;
    // Already, and not only soon.
    super::not_found(handle.refresh().await, "eph-stop");
    assert!(!directory("eph-stop")?.exists());
    nothing_of("eph-stop").await
}

#[tokio::test]
async fn a_kill_leaves_nothing() -> Result<()> {
    let fixture = Fixture::new()?;
    let sandbox = fixture.sandbox("eph-kill").await?;
    let handle = sandbox.handle().await?;
    within(handle.kill_with_timeout(PATIENCE)).await?;
    nothing_of("eph-kill").await
}

#[tokio::test]
async fn a_power_off_from_within_leaves_nothing() -> Result<()> {
    let fixture = Fixture::new()?;
    let sandbox = fixture.sandbox("eph-off").await?;
    let _ = within(sandbox.shell("poweroff -f")).await;
    let reason = within(sandbox.wait_until_ended()).await;
    assert_eq!(reason, EndReason::GuestPowerOff);
    nothing_of("eph-off").await
}

#[tokio::test]
async fn a_crash_leaves_nothing_and_its_owner_is_told_of_it() -> Result<()> {
    let fixture = Fixture::new()?;
    let sandbox = fixture.sandbox("eph-crash").await?;
    let _ = within(sandbox.shell(TRIPLE_FAULT)).await;
    let result = within(sandbox.wait_until_stopped()).await?;
    assert_eq!(result.status, microsandbox::sandbox::SandboxStatus::Crashed);
    nothing_of("eph-crash").await
}

#[tokio::test]
async fn a_dropped_one_leaves_nothing() -> Result<()> {
    let fixture = Fixture::new()?;
    drop(fixture.sandbox("eph-drop").await?);
    nothing_of("eph-drop").await
}

#[tokio::test]
async fn without_its_supervisor_the_next_list_removes_it() -> Result<()> {
    let fixture = Fixture::new()?;
    let sandbox = fixture
        .builder("eph-lost")?
        .label("eph", "lost")
        .create()
        .await?;
    host::kill(supervisor(&sandbox.handle().await?)?);
    let reason = within(sandbox.wait_until_ended()).await;
    assert_eq!(reason, EndReason::SupervisorLost);
    host::nothing_left().await?;
    let filter = SandboxFilter::new().label("eph", "lost");
    assert!(Sandbox::list_with(filter).await?.is_empty());
    assert!(!directory("eph-lost")?.exists(), "the list has seen to it");
    nothing_of("eph-lost").await?;

    // The same for one that is asked for by its name.
    let sandbox = fixture.sandbox("eph-lost").await?;
    host::kill(supervisor(&sandbox.handle().await?)?);
    within(sandbox.wait_until_ended()).await;
    super::not_found(Sandbox::get("eph-lost").await, "eph-lost");
    nothing_of("eph-lost").await
}

#[tokio::test]
async fn without_its_supervisor_it_is_in_nobodys_way() -> Result<()> {
    let fixture = Fixture::new()?;
    let sandbox = fixture.sandbox("eph-again").await?;
    host::kill(supervisor(&sandbox.handle().await?)?);
    within(sandbox.wait_until_ended()).await;
    let again = fixture.sandbox("eph-again").await?;
    assert!(again.exec("true", [""; 0]).await?.status().success);
    stop(&again).await?;
    nothing_of("eph-again").await
}
