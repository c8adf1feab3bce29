//! Mounts of memory.

use anyhow::Result;
use microsandbox::MicrosandboxError;
use microsandbox::sandbox::MountBuilder;
use msb_tests::{Fixture, PATIENCE, host};

use super::{create, prepare, prints, succeeds};

#[tokio::test]
async fn memory_is_where_and_as_it_was_asked_for() -> Result<()> {
    let fixture = Fixture::new()?;
    let builder = fixture
        .builder("memory")?
        .volume("/cache/deep", |mount| {
            mount.tmpfs().size(2).noexec().nosuid().nodev()
        })
        .volume("/fixed", |mount| mount.tmpfs().readonly())
        .volume("/cache", MountBuilder::tmpfs);
    let sandbox = create(builder).await?;
    let script = "while read -r _ place kind flags _; do \
                  [ $kind = tmpfs ] && echo \"$place ,$flags,\"; done < /proc/mounts";
    let mounts = prints(&sandbox, script).await?;
    let flags = |place: &str| {
        let start = format!("{place} ");
        let line = mounts.lines().find(|line| line.starts_with(&start));
        line.unwrap_or_else(|| panic!("{place}: {mounts}"))
            .to_owned()
    };
    for flag in [",noexec,", ",nosuid,", ",nodev,", ",size=2048k,"] {
        assert!(flags("/cache/deep").contains(flag), "{mounts}");
    }
    assert!(flags("/fixed").contains(",ro,"));
    assert!(!flags("/cache").contains(",noexec,"));

    let run = "cp /bin/busybox /cache/true && /cache/true";
    assert!(succeeds(&sandbox, run).await?);
    let run = "printf '#!/bin/sh\\n' > /cache/deep/x; chmod +x /cache/deep/x; /cache/deep/x";
    assert!(!succeeds(&sandbox, run).await?);
    let fill = "dd if=/dev/zero of=/cache/deep/much bs=1M count=3";
    assert!(!succeeds(&sandbox, fill).await?);
    assert!(!succeeds(&sandbox, "touch /fixed/x").await?);
    sandbox.stop_with_timeout(PATIENCE).await?;

    // Nothing of it is on the disk.
    let sandbox = fixture.sandbox("memory").await?;
    assert!(!succeeds(&sandbox, "ls -d /cache/true /cache/deep").await?);
    sandbox.stop_with_timeout(PATIENCE).await?;
    Ok(())
}

#[tokio::test]
async fn what_cannot_be_mounted_says_where_and_leaves_nothing() -> Result<()> {
    let fixture = Fixture::new()?;
    let script = "echo x > /file; ln -s /loop /loop; ln -s /proc /kernels";
    prepare(fixture.builder("no-memory")?, script).await?;
    for place in ["/file", "/file/x", "/loop", "/kernels", "/proc", "/a/../b"] {
        let builder = fixture.builder("no-memory")?;
        let refused = create(builder.volume(place, MountBuilder::tmpfs)).await;
        match refused {
            Err(MicrosandboxError::BootStart { err, .. }) => {
                assert!(err.message.contains(place), "{place}: {err}");
            }
            // Where the description itself makes no sense.
            Err(MicrosandboxError::InvalidConfig(message)) => {
                assert!(message.contains(place), "{place}: {message}");
            }
            other => panic!("{place}: {other:?}"),
        }
        host::nothing_left().await?;
    }
    Ok(())
}
