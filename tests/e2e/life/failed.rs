//! Boots that fail: of a new sandbox nothing stays, of one that was there everything.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use microsandbox::sandbox::SandboxStatus;
use microsandbox::{BootErrorKind, MicrosandboxError, Sandbox, VmErrorKind};
use msb_tests::{Fixture, within};

use super::{nothing_of, removed, stop};

#[track_caller]
fn not_booted(result: Result<Sandbox, MicrosandboxError>) -> BootErrorKind {
    match result {
        Err(MicrosandboxError::BootStart { err, .. }) => err.kind,
        other => panic!("it must not come up: {other:?}"),
    }
}

fn zeros(path: PathBuf, bytes: u64) -> Result<PathBuf> {
    fs::File::create(&path)?.set_len(bytes)?;
    Ok(path)
}

/// Creates a sandbox that is kept, or would be.
async fn create(name: &str, disk: &Path) -> Result<Sandbox, MicrosandboxError> {
    let builder = Sandbox::builder(name).image(disk).memory(128u32);
    within(builder.create()).await
}

#[tokio::test]
async fn a_creation_that_fails_leaves_nothing_and_the_name_is_free() -> Result<()> {
    let fixture = Fixture::new()?;
    let name = "unborn";
    let missing = fixture.path().join("missing");
    let kind = not_booted(create(name, &missing).await);
    assert_eq!(kind, BootErrorKind::Vmm(VmErrorKind::Disk));
    nothing_of(name).await?;

    let odd = zeros(fixture.path().join("odd"), 1000)?;
    let kind = not_booted(create(name, &odd).await);
    assert_eq!(kind, BootErrorKind::Vmm(VmErrorKind::Disk));
    nothing_of(name).await?;

    let empty = zeros(fixture.path().join("no-file-system"), 1 << 20)?;
    let kind = not_booted(create(name, &empty).await);
    assert_eq!(kind, BootErrorKind::GuestBoot);
    nothing_of(name).await?;

    let sandbox = create(name, &fixture.disk()?).await?;
    assert!(sandbox.exec("true", [""; 0]).await?.status().success);
    stop(&sandbox).await?;
    removed(name).await
}

#[tokio::test]
async fn a_start_that_fails_leaves_it_stopped_and_says_why() -> Result<()> {
    let fixture = Fixture::new()?;
    let sandbox = fixture.kept("diskless")?.create().await?;
    sandbox.shell("echo kept > /root/file").await?;
    stop(&sandbox).await?;
    let handle = sandbox.handle().await?;
    let (disk, aside) = (fixture.disk()?, fixture.path().join("aside"));
    fs::rename(&disk, &aside)?;

    for _ in 0..2 {
        let kind = not_booted(within(handle.start()).await);
        assert_eq!(kind, BootErrorKind::Vmm(VmErrorKind::Disk));
        let now = handle.refresh().await?;
        assert_eq!(now.status_snapshot(), SandboxStatus::Stopped);
        let error = now.last_error_snapshot().context("the start has failed")?;
        assert!(error.contains("root.ext4"), "{error}");
        msb_tests::host::nothing_left().await?;
    }

    // One that fails in the guest says so too.
    zeros(disk.clone(), 1 << 20)?;
    let kind = not_booted(within(handle.start()).await);
    assert_eq!(kind, BootErrorKind::GuestBoot);
    let now = handle.refresh().await?;
    assert_eq!(now.status_snapshot(), SandboxStatus::Stopped);
    assert!(now.last_error_snapshot().is_some());

    fs::rename(&aside, &disk)?;
    let again = within(handle.start()).await?;
    let output = again.exec("cat", ["/root/file"]).await?;
    assert_eq!(output.stdout()?, "kept\n");
    assert_eq!(again.last_error().await?, None);
    stop(&again).await?;
    removed("diskless").await
}
