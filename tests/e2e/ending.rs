//! How a sandbox ends, and that each end is told as what it was.

use anyhow::Result;
use microsandbox::{EndReason, MicrosandboxError, Sandbox};
use msb_tests::{Fixture, host, within};

async fn ends_with(name: &str, script: &str) -> Result<EndReason> {
    let fixture = Fixture::new()?;
    let sandbox = fixture.sandbox(name).await?;
    // The conversation may break before its command is known to have run.
    let _ = within(sandbox.shell(script)).await;
    let reason = within(sandbox.wait_until_ended()).await;
    let after = sandbox.exec("true", [""; 0]).await;
    assert!(
        matches!(&after, Err(MicrosandboxError::SandboxNotRunning { reason: Some(r), .. }) if *r == reason),
        "{after:?}"
    );
    sandbox.stop().await?;
    sandbox.kill().await?;
    host::nothing_left().await?;
    Ok(reason)
}

#[tokio::test]
async fn the_guest_powers_off() -> Result<()> {
    assert_eq!(
        ends_with("off", "poweroff -f").await?,
        EndReason::GuestPowerOff
    );
    Ok(())
}

#[tokio::test]
async fn the_guest_resets() -> Result<()> {
    assert_eq!(
        ends_with("reset", "reboot -f").await?,
        EndReason::GuestReset
    );
    Ok(())
}

#[tokio::test]
async fn the_guest_faults_three_times() -> Result<()> {
    let script =
        "echo triple > /sys/kernel/reboot/type; echo 1 > /sys/kernel/reboot/force; reboot -f";
    let reason = ends_with("triple", script).await?;
    assert_eq!(reason, EndReason::GuestCrash("triple fault".to_owned()));
    Ok(())
}

#[tokio::test]
async fn a_stop_is_graceful_and_what_was_written_stays() -> Result<()> {
    let fixture = Fixture::new()?;
    let sandbox = fixture.sandbox("stop").await?;
    sandbox.shell("echo kept > /root/file").await?;
    let mut trap = sandbox
        .shell_stream(
            "trap 'echo asked >> /root/file; exit 0' TERM; echo ready; while :; do sleep 0.1; done",
        )
        .await?;
    let ready =
        async { while !matches!(trap.recv().await, Some(microsandbox::ExecEvent::Stdout(_))) {} };
    within(ready).await;
    within(sandbox.stop_with_timeout(msb_tests::PATIENCE)).await?;
    assert_eq!(sandbox.end_reason(), Some(EndReason::Stopped));
    host::nothing_left().await?;

    let again = fixture.sandbox("stop").await?;
    assert_eq!(
        again.exec("cat", ["/root/file"]).await?.stdout()?,
        "kept\nasked\n"
    );
    again.stop().await?;
    Ok(())
}

#[tokio::test]
async fn a_requested_stop_has_its_time_though_nobody_waits() -> Result<()> {
    let fixture = Fixture::new()?;
    let sandbox = fixture.sandbox("request").await?;
    sandbox.shell("echo kept > /root/file").await?;
    sandbox.request_stop().await?;
    drop(sandbox);
    host::nothing_left().await?;

    let again = fixture.sandbox("request").await?;
    let output = again.exec("cat", ["/root/file"]).await?;
    assert_eq!(
        output.stdout()?,
        "kept\n",
        "the file system was not unmounted"
    );
    again.stop().await?;
    Ok(())
}

#[tokio::test]
async fn a_kill_is_at_once() -> Result<()> {
    let fixture = Fixture::new()?;
    let sandbox = fixture.sandbox("kill").await?;
    sandbox.kill_with_timeout(msb_tests::PATIENCE).await?;
    assert_eq!(sandbox.end_reason(), Some(EndReason::Killed));
    host::nothing_left().await
}

#[tokio::test]
async fn a_stop_that_the_guest_ignores_becomes_a_kill() -> Result<()> {
    let fixture = Fixture::new()?;
    let sandbox = fixture.sandbox("stubborn").await?;
    sandbox.stop_with_timeout(std::time::Duration::ZERO).await?;
    assert_eq!(sandbox.end_reason(), Some(EndReason::Killed));
    host::nothing_left().await
}

#[tokio::test]
async fn a_dropped_sandbox_leaves_nothing() -> Result<()> {
    let fixture = Fixture::new()?;
    let sandbox = fixture.sandbox("drop").await?;
    sandbox.exec("true", [""; 0]).await?;
    drop(sandbox);
    host::nothing_left().await
}

#[tokio::test]
async fn a_name_is_taken_while_it_runs() -> Result<()> {
    let (one, two) = (Fixture::new()?, Fixture::new()?);
    let first = one.sandbox("twin").await?;
    let second = two.builder("twin")?.create().await;
    assert!(
        matches!(&second, Err(MicrosandboxError::SandboxAlreadyExists(name)) if name == "twin"),
        "{second:?}"
    );
    assert!(
        first.exec("true", [""; 0]).await?.status().success,
        "the first is unharmed"
    );
    first.stop().await?;
    let second: Sandbox = two.sandbox("twin").await?;
    second.stop().await?;
    Ok(())
}
