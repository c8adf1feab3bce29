//! Room: what a sandbox takes of the host, and gives back.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::sync::Arc;

use anyhow::Result;
use microsandbox::logs::{LogOptions, LogSource};
use microsandbox::{LocalBackend, with_backend};
use msb_tests::tmpfs::Tmpfs;
use msb_tests::{PATIENCE, host, within};

use super::{fixture, kept, prints, removed, until, upper};

const MIB: u64 = 1 << 20;

fn allocated(name: &str) -> Result<u64> {
    Ok(fs::metadata(upper(name)?)?.blocks() * 512)
}

#[tokio::test]
async fn what_is_deleted_goes_back_to_the_host() -> Result<()> {
    let fixture = fixture()?;
    let sandbox = within(kept(&fixture, "root.erofs", "holes").create()).await?;
    assert!(allocated("holes")? < 8 * MIB);
    prints(
        &sandbox,
        "dd if=/dev/urandom of=/srv/big bs=1M count=48 && sync",
    )
    .await?;
    let full = allocated("holes")?;
    assert!(full >= 48 * MIB, "{full}");
    prints(&sandbox, "rm /srv/big && sync").await?;
    until("the room is given back", async || {
        Ok(allocated("holes")? < full - 40 * MIB)
    })
    .await?;
    removed(&sandbox).await?;
    host::nothing_left().await
}

#[tokio::test]
async fn metrics_tell_what_it_takes() -> Result<()> {
    let fixture = fixture()?;
    let sandbox = within(kept(&fixture, "root.erofs", "taken").create()).await?;
    prints(
        &sandbox,
        "dd if=/dev/urandom of=/srv/big bs=1M count=16 && sync",
    )
    .await?;
    until("a sample has it", async || {
        // Work, so that the guest is asked.
        prints(&sandbox, "i=0; while [ $i -lt 20000 ]; do i=$((i+1)); done").await?;
        let Ok(sample) = sandbox.metrics().await else {
            return Ok(false);
        };
        let host = sample
            .upper_host_allocated_bytes
            .is_some_and(|bytes| bytes >= 16 * MIB);
        Ok(host
            && sample
                .upper_used_bytes
                .is_some_and(|bytes| bytes >= 16 * MIB))
    })
    .await?;
    let size = prints(&sandbox, "df -m / | tail -n 1 | awk '{print $2}'").await?;
    let size: u64 = size.trim().parse()?;
    assert!((3900..=4096).contains(&size), "{size} MiB");
    removed(&sandbox).await?;
    host::nothing_left().await
}

#[tokio::test]
async fn a_full_host_is_an_error_in_the_guest_and_the_log_says_whose() -> Result<()> {
    let fixture = fixture()?;
    let home = Tmpfs::new("48m")?;
    let local = LocalBackend::builder().home(home.path()).lazy();
    let test = async {
        let builder = kept(&fixture, "root.erofs", "host-full");
        let sandbox = within(builder.create()).await?;
        // So that there is room for a log again, later.
        let ballast = home.path().join("ballast");
        fs::write(&ballast, vec![1; 8 << 20])?;
        let written = within(sandbox.shell(
            "dd if=/dev/urandom of=/srv/big bs=1M count=64 conv=fsync || { echo failed >&2; exit 1; }",
        ))
        .await?;
        assert!(!written.status().success);
        // Nobody hangs, and what was read before is there.
        let alive = within(sandbox.exec("echo", ["alive"])).await?;
        assert_eq!(alive.stdout()?, "alive\n");
        fs::remove_file(ballast)?;
        within(sandbox.stop_with_timeout(PATIENCE)).await?;
        let options = LogOptions {
            sources: vec![LogSource::System],
            ..LogOptions::default()
        };
        let entries = sandbox.logs(&options).await?;
        let said = entries.iter().any(|entry| {
            let text = String::from_utf8_lossy(&entry.data);
            text.contains("disk \"upper\"") && text.contains("No space left")
        });
        assert!(said, "{entries:?}");
        within(sandbox.remove_persisted()).await?;
        host::nothing_left().await
    };
    with_backend(Arc::new(local), test).await
}
