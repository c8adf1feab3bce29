//! Removing: not what is in use, and then all of it.

use std::fs;

use anyhow::Result;
use microsandbox::Sandbox;
use microsandbox::logs::log_dir_for;
use microsandbox::sandbox::SandboxStatus;
use msb_tests::{Fixture, home, host, within};

use super::{directory, not_found, nothing_of, status, still_running, stop};

#[tokio::test]
async fn what_is_in_use_is_not_removed() -> Result<()> {
    let fixture = Fixture::new()?;
    let sandbox = fixture.kept("in-use")?.create().await?;
    let handle = sandbox.handle().await?;
    let refused = async || {
        still_running(handle.remove().await, "in-use");
        still_running(Sandbox::remove("in-use").await, "in-use");
        still_running(sandbox.remove_persisted().await, "in-use");
    };
    refused().await;
    sandbox.pause().await?;
    assert_eq!(status("in-use").await?, SandboxStatus::Paused);
    refused().await;
    sandbox.resume().await?;

    // One that drains is in use as long as its last command.
    let mut last = sandbox
        .exec_stream_with("cat", |options| options.stdin_pipe())
        .await?;
    sandbox.request_drain().await?;
    assert_eq!(status("in-use").await?, SandboxStatus::Draining);
    refused().await;
    within(last.collect()).await?;
    within(sandbox.wait_until_stopped()).await?;

    sandbox.remove_persisted().await?;
    nothing_of("in-use").await
}

#[tokio::test]
async fn a_removal_takes_all_of_it_and_the_name_is_free() -> Result<()> {
    let fixture = Fixture::new()?;
    let sandbox = fixture.kept("removed")?.create().await?;
    sandbox.exec("echo", ["logged"]).await?;
    let handle = sandbox.handle().await?;
    stop(&sandbox).await?;
    let before = handle.refresh().await?;
    assert!(directory("removed")?.join("config.json").exists());
    assert!(log_dir_for("removed").join("exec.log").exists());

    handle.remove().await?;
    nothing_of("removed").await?;
    let mut entries = fs::read_dir(home()?.join("sandboxes"))?.flatten();
    let aside = entries.find(|entry| entry.file_name().as_encoded_bytes().starts_with(b"."));
    assert!(aside.is_none(), "{aside:?} was not deleted");
    not_found(handle.remove().await, "removed");

    // Its successor has nothing of it but the name.
    let next = fixture.kept("removed")?.create().await?;
    let after = next.handle().await?;
    assert_ne!(
        before.local().map(|local| local.db_id),
        after.local().map(|local| local.db_id)
    );
    assert!(after.created_at() > before.created_at());
    assert!(next.logs(&Default::default()).await?.is_empty());
    stop(&next).await?;
    next.remove_persisted().await?;
    nothing_of("removed").await
}

#[tokio::test]
async fn of_many_removals_at_once_one_removes_it() -> Result<()> {
    let fixture = Fixture::new()?;
    let sandbox = fixture.kept("contended")?.create().await?;
    stop(&sandbox).await?;
    let removals = (0..8).map(|_| Sandbox::remove("contended"));
    let results = within(futures::future::join_all(removals)).await;
    let done = results.iter().filter(|result| result.is_ok()).count();
    assert_eq!(done, 1, "{results:?}");
    nothing_of("contended").await
}

#[tokio::test]
async fn a_directory_that_is_gone_takes_its_record_along() -> Result<()> {
    let fixture = Fixture::new()?;
    let sandbox = fixture.kept("hollow")?.create().await?;
    stop(&sandbox).await?;
    fs::remove_dir_all(directory("hollow")?)?;
    let all = Sandbox::list().await?;
    assert!(
        all.iter().all(|handle| handle.name() != "hollow"),
        "{all:?}"
    );
    not_found(Sandbox::get("hollow").await, "hollow");
    let next = fixture.kept("hollow")?.create().await?;
    stop(&next).await?;
    next.remove_persisted().await?;
    host::nothing_left().await
}
