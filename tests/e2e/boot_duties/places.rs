//! File systems, links and names that every program takes for granted, whatever the image has.

use anyhow::Result;
use msb_tests::{Fixture, PATIENCE, host, within};

use super::{prepare, prints, succeeds, until};

#[tokio::test]
async fn a_guest_has_what_programs_expect() -> Result<()> {
    let fixture = Fixture::new()?;
    let sandbox = fixture.sandbox("places").await?;
    let mounts = prints(&sandbox, "cat /proc/mounts").await?;
    for (place, kind) in [
        ("/proc", "proc"),
        ("/sys", "sysfs"),
        ("/sys/fs/cgroup", "cgroup2"),
        ("/dev", "devtmpfs"),
        ("/dev/pts", "devpts"),
        ("/dev/shm", "tmpfs"),
        ("/run", "tmpfs"),
    ] {
        let line = format!(" {place} {kind} ");
        assert!(mounts.contains(&line), "{place}: {mounts}");
    }
    let link = prints(&sandbox, "readlink /dev/fd; echo in | cat /dev/stdin").await?;
    assert_eq!(link, "/proc/self/fd\nin\n");

    let modes = prints(&sandbox, "stat -c %a /tmp /dev/shm").await?;
    assert_eq!(modes, "1777\n1777\n");
    let output = sandbox
        .exec_with("sh", |options| {
            options.args(["-c", "echo x > /tmp/mine"]).user("user")
        })
        .await?;
    assert!(output.status().success, "{}", output.stderr()?);
    sandbox.stop_with_timeout(PATIENCE).await?;
    Ok(())
}

#[tokio::test]
async fn orphans_do_not_pile_up() -> Result<()> {
    let fixture = Fixture::new()?;
    let sandbox = fixture.sandbox("orphans").await?;
    prints(&sandbox, "for i in 1 2 3 4 5; do (sleep 0.2 &); done").await?;
    until(
        &sandbox,
        "! grep -l '^State:.Z' /proc/[0-9]*/status 2>/dev/null && ! pidof sleep",
    )
    .await?;
    sandbox.stop_with_timeout(PATIENCE).await?;
    Ok(())
}

#[tokio::test]
async fn local_names_are_known_and_what_was_written_stays() -> Result<()> {
    let fixture = Fixture::new()?;
    let sandbox = fixture.kept("hosts")?.hostname("guest-7").create().await?;
    let hosts = prints(&sandbox, "cat /etc/hosts; hostname").await?;
    assert_eq!(
        hosts,
        "127.0.0.1\tlocalhost\n::1\tlocalhost ip6-localhost ip6-loopback\n\
         127.0.1.1\tguest-7\nguest-7\n"
    );
    prints(&sandbox, "echo '10.0.0.7 mine' >> /etc/hosts").await?;
    within(sandbox.stop_with_timeout(PATIENCE)).await?;

    let again = within(sandbox.handle().await?.start()).await?;
    let hosts = prints(&again, "cat /etc/hosts").await?;
    assert_eq!(hosts.matches("mine").count(), 1, "{hosts}");
    assert_eq!(hosts.matches("guest-7").count(), 1, "{hosts}");
    // It can be replaced, as editors do.
    prints(
        &again,
        "sed -i s/mine/yours/ /etc/hosts && grep yours /etc/hosts",
    )
    .await?;
    within(again.stop_with_timeout(PATIENCE)).await?;
    again.remove_persisted().await?;
    Ok(())
}

#[tokio::test]
async fn links_of_an_image_do_not_hinder_its_boot() -> Result<()> {
    let fixture = Fixture::new()?;
    let script = "echo untouched > /root/victim; umount /run; rm -rf /etc/hosts /tmp /run; \
                  ln -s /root/victim /etc/hosts; ln -s /tmp /tmp; ln -s /nowhere /run";
    prepare(fixture.builder("hostile-links")?, script).await?;
    let sandbox = fixture.sandbox("hostile-links").await?;
    let victim = prints(&sandbox, "cat /root/victim; readlink /tmp").await?;
    assert_eq!(victim, "untouched\n/tmp\n");
    prints(&sandbox, "rm /etc/hosts; mkfifo /etc/hosts").await?;
    sandbox.stop_with_timeout(PATIENCE).await?;

    let sandbox = fixture.sandbox("hostile-links").await?;
    assert!(succeeds(&sandbox, "[ -p /etc/hosts ]").await?);
    sandbox.stop_with_timeout(PATIENCE).await?;
    host::nothing_left().await
}
