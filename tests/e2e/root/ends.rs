//! Ends in good order and others: what is on the disk then.

use std::process::Command;

use anyhow::{Context, Result};
use microsandbox::{BootErrorKind, MicrosandboxError, Sandbox, VmErrorKind};
use msb_tests::{PATIENCE, host, within};

use super::{fixture, kept, prints, upper};

/// What dumpe2fs says of a sandbox's writable layer.
fn superblock(name: &str) -> Result<String> {
    let output = Command::new("dumpe2fs")
        .arg("-h")
        .arg(upper(name)?)
        .env("PATH", "/usr/sbin:/sbin:/usr/bin:/bin")
        .output()
        .context("cannot run dumpe2fs; install the package e2fsprogs")?;
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

#[tokio::test]
async fn a_stop_leaves_the_disk_clean() -> Result<()> {
    let fixture = fixture()?;
    let sandbox = within(kept(&fixture, "root.erofs", "clean").create()).await?;
    prints(&sandbox, "for i in $(seq 200); do echo $i > /srv/$i; done").await?;
    within(sandbox.stop_with_timeout(PATIENCE)).await?;
    let superblock = superblock("clean")?;
    assert!(!superblock.contains("needs_recovery"), "{superblock}");
    // Grown to what was asked for: 4 GiB, with an inode for each 16 KiB.
    let number = |name: &str| {
        let line = superblock.lines().find(|line| line.starts_with(name));
        line.and_then(|line| line.rsplit(' ').next())
    };
    assert_eq!(number("Block count:"), Some("1048576"), "{superblock}");
    assert_eq!(number("Inode count:"), Some("262144"), "{superblock}");
    let checked = Command::new("e2fsck")
        .args(["-f", "-n"])
        .arg(upper("clean")?)
        .env("PATH", "/usr/sbin:/sbin:/usr/bin:/bin")
        .output()?;
    let said = String::from_utf8_lossy(&checked.stdout);
    assert!(checked.status.success(), "{said}");
    within(sandbox.remove_persisted()).await?;
    host::nothing_left().await
}

#[tokio::test]
async fn after_a_kill_what_was_synced_is_there() -> Result<()> {
    let fixture = fixture()?;
    let mut sandbox = within(kept(&fixture, "root.erofs", "killed").create()).await?;
    for round in 0..3 {
        prints(
            &sandbox,
            &format!("set -e; echo {round} >> /srv/rounds; mv /etc/passwd /etc/other; mv /etc/other /etc/passwd; sync"),
        )
        .await?;
        // And something that was not.
        prints(
            &sandbox,
            "(while :; do echo x >> /srv/more; rm -f /srv/gone; : > /srv/gone; done) & sleep 1",
        )
        .await?;
        within(sandbox.kill()).await?;
        sandbox = within(Sandbox::start("killed")).await?;
        let rounds: String = (0..=round).map(|round| format!("{round}\n")).collect();
        assert_eq!(prints(&sandbox, "cat /srv/rounds").await?, rounds);
        assert_eq!(
            prints(&sandbox, "head -n 1 /srv/text").await?,
            "from the image\n"
        );
    }
    within(sandbox.stop_with_timeout(PATIENCE)).await?;
    assert!(!superblock("killed")?.contains("needs_recovery"));
    within(sandbox.remove_persisted()).await?;
    host::nothing_left().await
}

#[tokio::test]
async fn without_its_layer_a_sandbox_is_not_begun_anew() -> Result<()> {
    let fixture = fixture()?;
    let sandbox = within(kept(&fixture, "root.erofs", "robbed").create()).await?;
    within(sandbox.stop_with_timeout(PATIENCE)).await?;
    std::fs::remove_file(upper("robbed")?)?;
    let error = within(Sandbox::start("robbed"))
        .await
        .map(drop)
        .unwrap_err();
    let MicrosandboxError::BootStart { err, .. } = &error else {
        panic!("{error:?}");
    };
    assert_eq!(err.kind, BootErrorKind::Vmm(VmErrorKind::Disk));
    assert!(err.message.contains("upper.ext4"), "{err}");
    within(sandbox.remove_persisted()).await?;
    host::nothing_left().await
}
