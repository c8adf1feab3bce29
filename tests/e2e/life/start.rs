//! Starting what is there again: when it may be, and what it finds.

use anyhow::Result;
use microsandbox::sandbox::SandboxStatus;
use microsandbox::{MicrosandboxError, Sandbox};
use msb_tests::{Fixture, PATIENCE, within};

use super::{TRIPLE_FAULT, removed, status, still_running, stop};

#[tokio::test]
async fn what_was_stopped_starts_again_and_finds_its_data() -> Result<()> {
    let fixture = Fixture::new()?;
    let sandbox = fixture.kept("again")?.create().await?;
    assert!(sandbox.owns_lifecycle());
    // Not synced: a stop takes care of that.
    sandbox.shell("echo first > /root/file").await?;
    stop(&sandbox).await?;
    let handle = Sandbox::get("again").await?;

    let second = within(handle.start()).await?;
    assert!(second.owns_lifecycle());
    assert_eq!(status("again").await?, SandboxStatus::Running);
    second.shell("echo second >> /root/file").await?;
    // Ended by a kill this time, so what is to stay has to be synced.
    second.exec("sync", [""; 0]).await?;
    within(second.kill_with_timeout(PATIENCE)).await?;

    let third = within(Sandbox::start("again")).await?;
    let output = third.exec("cat", ["/root/file"]).await?;
    assert_eq!(output.stdout()?, "first\nsecond\n");
    stop(&third).await?;
    removed("again").await
}

#[tokio::test]
async fn what_crashed_starts_again_and_finds_what_was_synced() -> Result<()> {
    let fixture = Fixture::new()?;
    let sandbox = fixture.kept("recover")?.create().await?;
    sandbox.shell("echo kept > /root/file; sync").await?;
    let _ = within(sandbox.shell(TRIPLE_FAULT)).await;
    within(sandbox.wait_until_ended()).await;
    assert_eq!(status("recover").await?, SandboxStatus::Crashed);

    let again = within(Sandbox::start("recover")).await?;
    assert_eq!(status("recover").await?, SandboxStatus::Running);
    let output = again.exec("cat", ["/root/file"]).await?;
    assert_eq!(output.stdout()?, "kept\n");
    stop(&again).await?;
    assert_eq!(status("recover").await?, SandboxStatus::Stopped);
    removed("recover").await
}

#[tokio::test]
async fn what_runs_is_not_started_twice() -> Result<()> {
    let fixture = Fixture::new()?;
    let sandbox = fixture.kept("twice")?.create().await?;
    let handle = sandbox.handle().await?;
    still_running(handle.start().await, "twice");
    still_running(handle.start_detached().await, "twice");
    still_running(Sandbox::start("twice").await, "twice");
    sandbox.pause().await?;
    still_running(handle.start().await, "twice");
    sandbox.resume().await?;
    let output = sandbox.exec("echo", ["unharmed"]).await?;
    assert_eq!(output.stdout()?, "unharmed\n");
    stop(&sandbox).await?;
    // The handle that was refused is still of use.
    let again = within(handle.start()).await?;
    stop(&again).await?;
    removed("twice").await
}

#[tokio::test]
async fn of_two_starts_at_once_one_boots_it() -> Result<()> {
    let fixture = Fixture::new()?;
    let sandbox = fixture.kept("race")?.create().await?;
    let handle = sandbox.handle().await?;
    stop(&sandbox).await?;
    for _ in 0..3 {
        let both = async { tokio::join!(handle.start(), Sandbox::start("race")) };
        let (won, lost) = match within(both).await {
            (Ok(won), lost @ Err(_)) | (lost @ Err(_), Ok(won)) => (won, lost),
            other => panic!("one must boot it, and only one: {other:?}"),
        };
        still_running(lost, "race");
        let output = won.exec("echo", ["up"]).await?;
        assert_eq!(output.stdout()?, "up\n");
        stop(&won).await?;
    }
    removed("race").await
}

#[tokio::test]
async fn of_two_creations_at_once_one_makes_it() -> Result<()> {
    let (one, two) = (Fixture::new()?, Fixture::new()?);
    let (first, second) = (one.kept("made")?, two.kept("made")?);
    let both = async { tokio::join!(first.create(), second.create()) };
    let (won, lost) = match within(both).await {
        (Ok(won), Err(lost)) | (Err(lost), Ok(won)) => (won, lost),
        other => panic!("one must make it, and only one: {other:?}"),
    };
    assert!(
        matches!(&lost, MicrosandboxError::SandboxAlreadyExists(name) if name == "made"),
        "{lost:?}"
    );
    assert!(won.exec("true", [""; 0]).await?.status().success);
    stop(&won).await?;
    removed("made").await
}
