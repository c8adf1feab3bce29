//! Draining: what runs finishes, what comes is refused, and then it stops.

use anyhow::Result;
use microsandbox::sandbox::SandboxStatus;
use microsandbox::{EndReason, ExecEvent, ExecHandle, ExecSink, Sandbox};
use msb_tests::{Fixture, within};

use super::{is_in, removed, status, stop};

/// A `cat` that has shown that it runs, and where its input goes.
async fn cat(sandbox: &Sandbox) -> Result<(ExecHandle, ExecSink)> {
    let mut cat = sandbox
        .exec_stream_with("cat", |options| options.stdin_pipe())
        .await?;
    let input = cat.take_stdin().unwrap();
    input.write("first ").await?;
    let answer = async {
        loop {
            match cat.recv().await {
                Some(ExecEvent::Stdout(bytes)) => break bytes,
                Some(ExecEvent::Started { .. }) => {}
                other => panic!("{other:?}"),
            }
        }
    };
    assert_eq!(within(answer).await, "first ");
    Ok((cat, input))
}

#[tokio::test]
async fn what_runs_finishes_and_what_comes_is_refused() -> Result<()> {
    let fixture = Fixture::new()?;
    let sandbox = fixture.kept("drain")?.create().await?;
    let guest = within(sandbox.handle().await?.connect()).await?;
    let (mut cat, input) = cat(&sandbox).await?;

    sandbox.request_drain().await?;
    assert_eq!(status("drain").await?, SandboxStatus::Draining);
    is_in(sandbox.exec("true", [""; 0]).await, SandboxStatus::Draining);
    is_in(guest.shell("echo late").await, SandboxStatus::Draining);
    // Once more changes nothing, and a drain is not to be paused.
    sandbox.request_drain().await?;
    is_in(sandbox.pause().await, SandboxStatus::Draining);
    assert_eq!(status("drain").await?, SandboxStatus::Draining);
    assert_eq!(sandbox.end_reason(), None);

    input.write("last").await?;
    input.close().await?;
    let output = within(cat.collect()).await?;
    assert_eq!(output.stdout()?, "last");
    assert!(output.status().success);
    let result = within(sandbox.wait_until_stopped()).await?;
    assert_eq!(result.status, SandboxStatus::Stopped);
    assert_eq!(sandbox.end_reason(), Some(EndReason::Drained));
    assert_eq!(within(guest.wait_until_ended()).await, EndReason::Drained);
    assert_eq!(status("drain").await?, SandboxStatus::Stopped);
    removed("drain").await
}

#[tokio::test]
async fn with_nothing_to_finish_it_stops_at_once() -> Result<()> {
    let fixture = Fixture::new()?;
    let sandbox = fixture.kept("drain-idle")?.create().await?;
    sandbox.shell("echo kept > /root/file").await?;
    within(sandbox.drain()).await?;
    assert_eq!(sandbox.end_reason(), Some(EndReason::Drained));
    assert_eq!(status("drain-idle").await?, SandboxStatus::Stopped);

    // It is a stop in good order; and a handle can ask for one, too.
    let again = within(Sandbox::start("drain-idle")).await?;
    let output = again.exec("cat", ["/root/file"]).await?;
    assert_eq!(output.stdout()?, "kept\n");
    let handle = again.handle().await?;
    within(handle.drain()).await?;
    assert_eq!(within(again.wait_until_ended()).await, EndReason::Drained);

    // Now there is nothing to be drained.
    is_in(handle.request_drain().await, SandboxStatus::Stopped);
    is_in(handle.drain().await, SandboxStatus::Stopped);
    is_in(again.request_drain().await, SandboxStatus::Stopped);
    removed("drain-idle").await
}

#[tokio::test]
async fn an_ephemeral_one_is_gone_after_its_drain() -> Result<()> {
    let fixture = Fixture::new()?;
    let sandbox = fixture.sandbox("drain-gone").await?;
    let handle = sandbox.handle().await?;
    within(handle.drain()).await?;
    super::nothing_of("drain-gone").await
}

#[tokio::test]
async fn a_paused_one_is_drained_all_the_same() -> Result<()> {
    let fixture = Fixture::new()?;
    let sandbox = fixture.kept("drain-paused")?.create().await?;
    let (mut cat, input) = cat(&sandbox).await?;
    sandbox.pause().await?;
    sandbox.request_drain().await?;
    assert_eq!(status("drain-paused").await?, SandboxStatus::Draining);
    input.write("last").await?;
    input.close().await?;
    assert_eq!(within(cat.collect()).await?.stdout()?, "last");
    assert_eq!(within(sandbox.wait_until_ended()).await, EndReason::Drained);
    removed("drain-paused").await
}

#[tokio::test]
async fn a_stop_does_not_wait_for_a_drain() -> Result<()> {
    let fixture = Fixture::new()?;
    let sandbox = fixture.kept("drain-stop")?.create().await?;
    let (mut cat, _input) = cat(&sandbox).await?;
    sandbox.request_drain().await?;
    // The command would wait for ever; a stop ends it.
    stop(&sandbox).await?;
    let _ = within(cat.wait()).await;
    assert_eq!(status("drain-stop").await?, SandboxStatus::Stopped);
    removed("drain-stop").await
}

#[tokio::test]
async fn a_kill_does_not_either() -> Result<()> {
    let fixture = Fixture::new()?;
    let sandbox = fixture.kept("drain-kill")?.create().await?;
    let (mut cat, _input) = cat(&sandbox).await?;
    sandbox.request_drain().await?;
    within(sandbox.kill_with_timeout(msb_tests::PATIENCE)).await?;
    assert_eq!(sandbox.end_reason(), Some(EndReason::Killed));
    let _ = within(cat.wait()).await;
    assert_eq!(status("drain-kill").await?, SandboxStatus::Stopped);
    removed("drain-kill").await
}
