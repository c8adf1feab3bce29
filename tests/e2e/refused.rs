//! What cannot be booted says why, and leaves nothing.

use std::fs::{self, File};
use std::path::{Path, PathBuf};

use anyhow::Result;
use microsandbox::sandbox::PullPolicy;
use microsandbox::{BootErrorKind, MicrosandboxError, Sandbox, VmErrorKind};
use msb_tests::{Fixture, host, within};

/// The error of a creation that must fail.
async fn refused(builder: microsandbox::SandboxBuilder) -> MicrosandboxError {
    let result = within(builder.create()).await;
    host::nothing_left().await.unwrap();
    result
        .map(|sandbox| sandbox.name().to_owned())
        .expect_err("it must be refused")
}

async fn vm_kind(builder: microsandbox::SandboxBuilder) -> VmErrorKind {
    match refused(builder).await {
        MicrosandboxError::BootStart { err, .. } => match err.kind {
            BootErrorKind::Vmm(kind) => {
                assert!(!err.message.is_empty());
                kind
            }
            other => panic!("{other:?}: {err}"),
        },
        other => panic!("{other:?}"),
    }
}

fn on(disk: &Path) -> microsandbox::SandboxBuilder {
    Sandbox::builder("refused")
        .image(disk.to_path_buf())
        .memory(128u32)
}

fn sized(path: PathBuf, bytes: u64) -> PathBuf {
    File::create(&path).unwrap().set_len(bytes).unwrap();
    path
}

#[tokio::test]
async fn disks() -> Result<()> {
    let fixture = Fixture::new()?;
    let dir = fixture.path();
    assert_eq!(vm_kind(on(&dir.join("missing"))).await, VmErrorKind::Disk);
    fs::create_dir(dir.join("directory"))?;
    assert_eq!(vm_kind(on(&dir.join("directory"))).await, VmErrorKind::Disk);
    assert_eq!(
        vm_kind(on(&sized(dir.join("odd"), 1000))).await,
        VmErrorKind::Disk
    );
    assert_eq!(
        vm_kind(on(&sized(dir.join("empty"), 0))).await,
        VmErrorKind::Disk
    );
    Ok(())
}

#[tokio::test]
async fn a_disk_in_use() -> Result<()> {
    let fixture = Fixture::new()?;
    let first = fixture.sandbox("holder").await?;
    let result = within(fixture.builder("second")?.create()).await;
    let Err(MicrosandboxError::BootStart { err, .. }) = result else {
        panic!("{result:?}")
    };
    assert_eq!(err.kind, BootErrorKind::Vmm(VmErrorKind::DiskInUse));
    assert!(
        first.exec("true", [""; 0]).await?.status().success,
        "the first is unharmed"
    );
    first.stop().await?;
    fixture.sandbox("second").await?.stop().await?;
    Ok(())
}

#[tokio::test]
async fn a_disk_without_a_file_system() -> Result<()> {
    let fixture = Fixture::new()?;
    let error = refused(on(&sized(fixture.path().join("zeros"), 1 << 20))).await;
    let MicrosandboxError::BootStart { err, .. } = error else {
        panic!("{error:?}")
    };
    assert_eq!(err.kind, BootErrorKind::GuestBoot, "{err}");
    Ok(())
}

#[tokio::test]
async fn sizes() -> Result<()> {
    let fixture = Fixture::new()?;
    let builder = || fixture.builder("refused");
    for builder in [builder()?.cpus(0), builder()?.memory(0u32)] {
        let error = refused(builder).await;
        assert!(
            matches!(error, MicrosandboxError::InvalidConfig(_)),
            "{error:?}"
        );
    }
    assert_eq!(vm_kind(builder()?.cpus(255)).await, VmErrorKind::Cpus);
    assert_eq!(vm_kind(builder()?.memory(8u32)).await, VmErrorKind::Memory);
    assert_eq!(
        vm_kind(builder()?.memory(u32::MAX)).await,
        VmErrorKind::Memory
    );
    Ok(())
}

#[tokio::test]
async fn names_and_images() -> Result<()> {
    let fixture = Fixture::new()?;
    for name in ["", "a/b", "..", &"x".repeat(129)] {
        let error = refused(fixture.builder(name)?).await;
        assert!(
            matches!(error, MicrosandboxError::InvalidConfig(_)),
            "{error:?}"
        );
    }
    let error = refused(Sandbox::builder("no-image")).await;
    assert!(
        matches!(error, MicrosandboxError::InvalidConfig(_)),
        "{error:?}"
    );
    // It is not on this host, and nobody is to be asked for it.
    let never = Sandbox::builder("oci").image("python:3.12");
    let error = refused(never.pull_policy(PullPolicy::Never)).await;
    assert!(
        matches!(error, MicrosandboxError::ImageNotFound(_)),
        "{error:?}"
    );
    let error = refused(fixture.builder("env")?.env("MSB_X", "1")).await;
    assert!(
        matches!(error, MicrosandboxError::InvalidConfig(_)),
        "{error:?}"
    );
    Ok(())
}
