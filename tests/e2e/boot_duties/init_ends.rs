//! Inits that are not there, do not listen, or end.

use std::time::Duration;

use anyhow::{Context, Result};
use microsandbox::sandbox::SandboxStatus;
use microsandbox::{BootErrorKind, BootStage, EndReason, MicrosandboxError, SandboxBuilder};
use msb_tests::{Fixture, PATIENCE, host, within};

use super::{create, prepare, prints, until};

/// A description with this init.
fn with(builder: SandboxBuilder, cmd: &str, args: &[&str]) -> SandboxBuilder {
    builder.init_with(cmd, |options| options.args(args.iter().copied()))
}

#[tokio::test]
async fn an_init_that_cannot_run_is_a_boot_that_failed_there() -> Result<()> {
    let fixture = Fixture::new()?;
    let script = "rm /sbin/init; echo text > /text; chmod +x /text; echo '#!/nowhere' > /orphan; \
                  chmod +x /orphan";
    prepare(fixture.builder("init-none")?, script).await?;
    for (cmd, named) in [
        ("auto", "/sbin/init"),
        ("/no/such/init", "/no/such/init"),
        ("/etc", "/etc"),
        ("/text", "/text"),
        ("/orphan", "/orphan"),
    ] {
        let failed = create(with(fixture.kept("init-none")?, cmd, &[])).await;
        let Err(MicrosandboxError::BootStart { err, .. }) = &failed else {
            panic!("{cmd}: {failed:?}");
        };
        assert_eq!(err.stage, BootStage::Init, "{cmd}: {err}");
        assert_eq!(err.kind, BootErrorKind::GuestBoot, "{cmd}: {err}");
        assert!(err.message.contains(named), "{cmd}: {err}");
        host::nothing_left().await?;
    }
    Ok(())
}

#[tokio::test]
async fn an_init_that_ends_ends_the_sandbox_and_is_named_as_the_cause() -> Result<()> {
    let fixture = Fixture::new()?;
    for (name, end, how) in [
        ("init-exits", "exit 3", "exit code 3"),
        ("init-dies", "kill -SEGV $$; sleep 1; exit 9", "exit code 9"),
    ] {
        // A signal that PID 1 does not handle is kept from it.
        let script = format!("touch /tmp/up; until [ -e /tmp/go ]; do sleep 0.1; done; {end}");
        let described = with(fixture.kept(name)?, "/bin/sh", &["-c", &script]);
        let sandbox = create(described).await?;
        until(&sandbox, "[ -e /tmp/up ]").await?;
        let _ = within(sandbox.shell("touch /tmp/go")).await;
        let reason = within(sandbox.wait_until_ended()).await;
        assert_eq!(reason, EndReason::InitEnded(how.to_owned()));
        let handle = sandbox.handle().await?;
        assert_eq!(handle.status_snapshot(), SandboxStatus::Crashed);
        let error = handle.last_error_snapshot().context("it says why")?;
        assert!(error.contains("init") && error.contains(how), "{error}");
        sandbox.remove_persisted().await?;
        // The next one waits again.
        prepare(fixture.builder(name)?, "rm -f /tmp/go /tmp/up").await?;
    }
    host::nothing_left().await
}

#[tokio::test]
async fn an_init_that_ends_at_once_never_hangs() -> Result<()> {
    let fixture = Fixture::new()?;
    for round in 0..3 {
        let name = format!("init-brief-{round}");
        match create(with(fixture.builder(&name)?, "/bin/false", &[])).await {
            // It may have run for a moment.
            Ok(sandbox) => {
                let reason = within(sandbox.wait_until_ended()).await;
                assert_eq!(reason, EndReason::InitEnded("exit code 1".to_owned()));
            }
            Err(MicrosandboxError::BootStart { err, .. }) => {
                assert_eq!(err.stage, BootStage::Init, "{err}");
                assert!(err.message.contains("exit code 1"), "{err}");
            }
            Err(other) => return Err(other.into()),
        }
        host::nothing_left().await?;
    }
    Ok(())
}

#[tokio::test]
async fn an_agent_that_is_killed_beside_its_init_is_missed() -> Result<()> {
    let fixture = Fixture::new()?;
    let script = "touch /tmp/up; while :; do sleep 0.1; done";
    let described = with(fixture.kept("init-alone")?, "/bin/sh", &["-c", script]);
    let sandbox = create(described).await?;
    until(&sandbox, "[ -e /tmp/up ]").await?;
    // The parent of a command is the agent, which is a process like any other now.
    let _ = within(sandbox.shell("kill -9 $PPID")).await;
    let reason = within(sandbox.wait_until_ended()).await;
    assert_eq!(reason, EndReason::AgentLost);
    let status = sandbox.handle().await?.status_snapshot();
    assert_eq!(status, SandboxStatus::Crashed);
    sandbox.remove_persisted().await?;
    host::nothing_left().await
}

#[tokio::test]
async fn an_init_that_does_not_listen_is_stopped_without_it() -> Result<()> {
    let fixture = Fixture::new()?;
    let script = "trap '' TERM USR2; touch /tmp/up; while :; do sleep 0.1; done";
    let sandbox = create(with(fixture.kept("init-deaf")?, "/bin/sh", &["-c", script])).await?;
    until(&sandbox, "[ -e /tmp/up ]").await?;
    prints(&sandbox, "echo kept > /root/file").await?;
    // Half of it is the init's, and the rest enough for the agent.
    within(sandbox.stop_with_timeout(Duration::from_secs(20))).await?;
    assert_eq!(sandbox.end_reason(), Some(EndReason::Stopped));
    sandbox.remove_persisted().await?;

    let sandbox = fixture.sandbox("init-deaf").await?;
    assert_eq!(prints(&sandbox, "cat /root/file").await?, "kept\n");
    sandbox.stop_with_timeout(PATIENCE).await?;
    host::nothing_left().await
}

#[tokio::test]
async fn an_init_that_ends_when_it_is_told_to_has_stopped() -> Result<()> {
    let fixture = Fixture::new()?;
    let script = "trap 'exit 0' TERM; touch /tmp/up; while :; do sleep 0.1; done";
    let sandbox = create(with(
        fixture.kept("init-obeys")?,
        "/bin/sh",
        &["-c", script],
    ))
    .await?;
    until(&sandbox, "[ -e /tmp/up ]").await?;
    prints(&sandbox, "echo kept > /root/file").await?;
    within(sandbox.stop_with_timeout(PATIENCE)).await?;
    // The kernel goes with its init, but it was asked to.
    assert_eq!(sandbox.end_reason(), Some(EndReason::Stopped));
    let status = sandbox.handle().await?.status_snapshot();
    assert_eq!(status, SandboxStatus::Stopped);
    sandbox.remove_persisted().await?;

    let sandbox = fixture.sandbox("init-obeys").await?;
    assert_eq!(prints(&sandbox, "cat /root/file").await?, "kept\n");
    sandbox.stop_with_timeout(PATIENCE).await?;
    host::nothing_left().await
}
