//! What the agent does in every root, done in one of two disks.

use anyhow::Result;
use microsandbox::Sandbox;
use msb_tests::{PATIENCE, host, within};

use super::{fixture, kept, prints, removed, succeeds};

#[tokio::test]
async fn names_and_places_are_as_everywhere() -> Result<()> {
    let fixture = fixture()?;
    let builder = kept(&fixture, "root.erofs", "duties").hostname("guest-7");
    let builder = builder.script("hello", "#!/bin/sh\necho hello from a script\n");
    let sandbox = within(builder.create()).await?;
    let hosts = "cat /etc/hosts; hostname";
    let expected = "127.0.0.1\tlocalhost\n::1\tlocalhost ip6-localhost ip6-loopback\n\
                    127.0.1.1\tguest-7\nguest-7\n";
    assert_eq!(prints(&sandbox, hosts).await?, expected);
    assert_eq!(
        prints(&sandbox, "stat -c %a /tmp /dev/shm").await?,
        "1777\n1777\n"
    );
    assert_eq!(prints(&sandbox, "hello").await?, "hello from a script\n");
    let mounts = prints(&sandbox, "cut -d' ' -f2,3 /proc/mounts").await?;
    for mount in [
        "/ overlay",
        "/proc proc",
        "/sys sysfs",
        "/dev devtmpfs",
        "/run tmpfs",
    ] {
        assert!(
            mounts.lines().any(|line| line == mount),
            "{mount}: {mounts}"
        );
    }
    // The two disks are nowhere to be seen.
    assert!(
        !mounts.contains("erofs") && !mounts.contains("ext4"),
        "{mounts}"
    );

    // What is written to /tmp is on the disk, as in every root that has room for it.
    prints(&sandbox, "echo kept > /tmp/mine").await?;
    within(sandbox.stop_with_timeout(PATIENCE)).await?;
    let again = within(Sandbox::start("duties")).await?;
    assert_eq!(prints(&again, hosts).await?, expected);
    assert_eq!(
        prints(&again, "cat /tmp/mine; hello").await?,
        "kept\nhello from a script\n"
    );
    removed(&again).await?;
    host::nothing_left().await
}

#[tokio::test]
async fn files_are_the_same_ones_before_and_after_a_change() -> Result<()> {
    let fixture = fixture()?;
    let sandbox = within(kept(&fixture, "root.erofs", "numbers").create()).await?;
    // Of all files and directories there is one device number.
    let devices =
        "stat -c %d / /srv /srv/text /srv/deep/down/text /bin/busybox /etc/hosts | sort -u | wc -l";
    assert_eq!(prints(&sandbox, devices).await?.trim(), "1");
    let script =
        "set -- $(stat -c %i /srv/text); echo x >> /srv/text; [ $1 = $(stat -c %i /srv/text) ]";
    assert!(succeeds(&sandbox, script).await?);
    removed(&sandbox).await?;
    host::nothing_left().await
}
