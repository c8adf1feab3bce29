//! SIGKILL to supervisor or VMM: the record is made true by whoever looks next.

use anyhow::{Context, Result};
use microsandbox::sandbox::SandboxStatus;
use microsandbox::{EndReason, MicrosandboxError};
use msb_tests::{Fixture, host, within};

use super::{is_in, removed, status, stop, supervisor};

#[tokio::test]
async fn without_its_supervisor_it_has_crashed() -> Result<()> {
    let fixture = Fixture::new()?;
    let sandbox = fixture.kept("no-supervisor")?.create().await?;
    sandbox.shell("echo kept > /root/file; sync").await?;
    let handle = sandbox.handle().await?;
    let waiting = handle.clone();
    let waiting = tokio::spawn(async move { waiting.wait_until_stopped().await });
    host::kill(supervisor(&handle)?);

    let told = within(waiting).await??;
    assert_eq!(told.status, SandboxStatus::Crashed);
    assert_eq!((told.exit_code, told.signal), (None, None));
    assert_eq!(told.source.as_deref(), Some("free lock"));
    let reason = within(sandbox.wait_until_ended()).await;
    assert_eq!(reason, EndReason::SupervisorLost);
    assert_eq!(within(sandbox.wait_until_stopped()).await?, told);
    let exit = within(sandbox.wait()).await;
    assert!(
        matches!(exit, Err(MicrosandboxError::SandboxNotRunning { .. })),
        "nobody saw how the VMM ended: {exit:?}"
    );
    is_in(sandbox.exec("true", [""; 0]).await, SandboxStatus::Crashed);
    host::nothing_left().await?;

    let now = handle.refresh().await?;
    assert_eq!(now.status_snapshot(), SandboxStatus::Crashed);
    let error = now.last_error_snapshot().context("it has crashed")?;
    assert!(error.contains("supervisor"), "{error}");
    assert_eq!(now.local().and_then(|local| local.pid), None);

    let again = within(handle.start()).await?;
    let output = again.exec("cat", ["/root/file"]).await?;
    assert_eq!(output.stdout()?, "kept\n");
    stop(&again).await?;
    removed("no-supervisor").await
}

#[tokio::test]
async fn without_its_vmm_it_has_crashed_and_the_signal_is_known() -> Result<()> {
    let fixture = Fixture::new()?;
    let sandbox = fixture.kept("no-vmm")?.create().await?;
    let handle = sandbox.handle().await?;
    let waiting = handle.clone();
    let waiting = tokio::spawn(async move { waiting.wait_until_stopped().await });
    let vmm = host::child(supervisor(&handle)?, "msb-vmm").context("it has a VMM")?;
    host::kill(vmm);

    let told = within(waiting).await??;
    assert_eq!(told.status, SandboxStatus::Crashed);
    assert_eq!((told.exit_code, told.signal), (None, Some(9)));
    assert_eq!(told.source.as_deref(), Some("supervisor"));
    assert_eq!(within(sandbox.wait_until_ended()).await, EndReason::VmmLost);
    assert_eq!(within(sandbox.wait()).await?.code, 128 + 9);
    assert_eq!(status("no-vmm").await?, SandboxStatus::Crashed);
    is_in(sandbox.exec("true", [""; 0]).await, SandboxStatus::Crashed);

    let again = within(handle.start()).await?;
    assert!(again.exec("true", [""; 0]).await?.status().success);
    stop(&again).await?;
    removed("no-vmm").await
}

#[tokio::test]
async fn what_was_lost_can_be_removed_and_replaced_at_once() -> Result<()> {
    let fixture = Fixture::new()?;
    let sandbox = fixture.kept("lost")?.create().await?;
    host::kill(supervisor(&sandbox.handle().await?)?);
    let next = within(fixture.kept("lost")?.replace().create()).await?;
    within(sandbox.wait_until_ended()).await;
    assert!(next.exec("true", [""; 0]).await?.status().success);

    let handle = next.handle().await?;
    host::kill(supervisor(&handle)?);
    within(next.wait_until_ended()).await;
    // Nobody has looked at it since.
    handle.remove().await?;
    super::nothing_of("lost").await
}

#[tokio::test]
async fn a_stop_of_what_was_just_lost_is_fine() -> Result<()> {
    let fixture = Fixture::new()?;
    let sandbox = fixture.kept("lost-stop")?.create().await?;
    let handle = sandbox.handle().await?;
    host::kill(supervisor(&handle)?);
    within(handle.stop()).await?;
    within(sandbox.stop()).await?;
    within(handle.kill()).await?;
    assert_eq!(status("lost-stop").await?, SandboxStatus::Crashed);
    removed("lost-stop").await
}
