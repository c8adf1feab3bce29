//! The restricted profile: commands that cannot administer the guest, be they root's.

use anyhow::Result;
use microsandbox::Sandbox;
use microsandbox::sandbox::{MountBuilder, SecurityProfile};
use msb_tests::{Fixture, PATIENCE};

use super::{create, prints, succeeds};

/// `CAP_SYS_ADMIN` and `CAP_SYS_PTRACE` in a set of capabilities.
const ADMIN: u64 = 1 << 21 | 1 << 19;

/// What takes administration.
const DEEDS: [&str; 4] = [
    "mount -t tmpfs none /mnt",
    "unshare -m true",
    "unshare -U true",
    "umount /run",
];

/// The sets of capabilities that a command has.
async fn capabilities(sandbox: &Sandbox) -> Result<Vec<u64>> {
    let text = prints(sandbox, "grep ^Cap /proc/self/status").await?;
    let sets = text.lines().map(|line| {
        let hex = line.rsplit('\t').next().unwrap_or_default();
        Ok(u64::from_str_radix(hex, 16)?)
    });
    sets.collect()
}

#[tokio::test]
async fn commands_cannot_administer_the_guest_nor_become_who_can() -> Result<()> {
    let fixture = Fixture::new()?;
    let builder = fixture
        .builder("restricted")?
        .security(SecurityProfile::Restricted)
        .volume("/mnt/own", MountBuilder::tmpfs);
    let sandbox = create(builder).await?;
    let sets = capabilities(&sandbox).await?;
    assert_eq!(sets.len(), 5);
    assert!(sets.iter().all(|set| set & ADMIN == 0), "{sets:x?}");
    let line = prints(&sandbox, "grep NoNewPrivs /proc/self/status").await?;
    assert_eq!(line, "NoNewPrivs:\t1\n");
    for deed in DEEDS {
        assert!(!succeeds(&sandbox, deed).await?, "{deed}");
    }
    // Nor by what the kernel would start for them, nor by its limits.
    let helpers = prints(&sandbox, "cat /proc/sys/kernel/usermodehelper/bset").await?;
    let low: u64 = helpers
        .split_whitespace()
        .next()
        .unwrap_or_default()
        .parse()?;
    assert_eq!(low & ADMIN, 0, "{helpers}");
    let limit = "/proc/sys/user/max_user_namespaces";
    assert!(!succeeds(&sandbox, &format!("echo 9 > {limit}")).await?);

    // Root is still root over files, and others can be become.
    prints(
        &sandbox,
        "echo x > /root/x; chown user /root/x; chmod 600 /root/x; cat /root/x",
    )
    .await?;
    let output = sandbox
        .exec_with("id", |options| options.arg("-un").user("user"))
        .await?;
    assert_eq!(output.stdout()?, "user\n");
    let mounts = prints(&sandbox, "grep ' /mnt/own ' /proc/mounts").await?;
    assert!(
        mounts.contains("nosuid") && mounts.contains("nodev"),
        "{mounts}"
    );
    sandbox.stop_with_timeout(PATIENCE).await?;
    Ok(())
}

#[tokio::test]
async fn without_it_root_may_do_all_that() -> Result<()> {
    let fixture = Fixture::new()?;
    let sandbox = fixture.sandbox("unrestricted").await?;
    let sets = capabilities(&sandbox).await?;
    // The effective one is the third of five.
    assert_eq!(sets.get(2).map(|set| set & ADMIN), Some(ADMIN), "{sets:x?}");
    prints(&sandbox, "mkdir -p /mnt").await?;
    for deed in DEEDS {
        assert!(succeeds(&sandbox, deed).await?, "{deed}");
    }
    sandbox.stop_with_timeout(PATIENCE).await?;
    Ok(())
}
