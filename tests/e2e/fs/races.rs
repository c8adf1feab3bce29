//! Guests that change what is copied while it is copied.

use std::fs;

use anyhow::Result;
use microsandbox::MicrosandboxError;
use microsandbox::fs::FsErrorKind as K;
use msb_tests::Fixture;

use super::script;

/// Swaps a directory for a link and back, for as long as the sandbox lives.
const SWAP: &str =
    "cd /root/tree; while :; do mv d aside; ln -s /root/secret d; rm d; mv aside d; done";

#[tokio::test]
async fn a_link_swapped_in_leads_a_copy_nowhere() -> Result<()> {
    let fixture = Fixture::new()?;
    let sandbox = fixture.sandbox("fs-race").await?;
    script(
        &sandbox,
        "mkdir -p /root/tree/d /root/secret; echo mine > /root/tree/d/mine
         echo secret > /root/secret/key",
    )
    .await?;
    let swapping = sandbox.shell_stream(SWAP).await?;
    let files = sandbox.fs();
    let room = fixture.path().join("room");
    fs::create_dir(&room)?;
    fs::write(fixture.path().join("key"), "the host's")?;
    for round in 0..100 {
        let copy = room.join(round.to_string());
        match files.copy_to_host("/root/tree", &copy).await {
            Ok(()) => {
                let followed = ["d", "aside"]
                    .map(|name| copy.join(name))
                    .into_iter()
                    .any(|path| {
                        let is_directory =
                            path.symlink_metadata().is_ok_and(|found| found.is_dir());
                        is_directory && path.join("key").exists()
                    });
                assert!(!followed, "the copy went through a link");
            }
            Err(MicrosandboxError::SandboxFsOps(error)) => {
                assert_eq!(error.kind, K::ChangedUnderneath, "{error}");
                assert!(copy.symlink_metadata().is_err());
            }
            Err(other) => return Err(other.into()),
        }
    }
    // Nothing hidden is left beside the copies, and nothing else was touched.
    for entry in fs::read_dir(&room)? {
        let name = entry?.file_name();
        assert!(
            name.to_string_lossy().parse::<u32>().is_ok(),
            "{name:?} is left"
        );
    }
    assert_eq!(fs::read(fixture.path().join("key"))?, b"the host's");

    // A removal under the same attack does not reach what the link leads to.
    for _ in 0..20 {
        let _ = files.remove_dir("/root/tree/d").await;
    }
    assert_eq!(script(&sandbox, "cat /root/secret/key").await?, "secret\n");
    drop(swapping);
    sandbox.stop().await?;
    Ok(())
}

/// A copy into a directory that a guest's user may write to, who puts a link in its way.
#[tokio::test]
async fn a_copy_into_the_guest_is_not_led_astray() -> Result<()> {
    let fixture = Fixture::new()?;
    let sandbox = fixture.sandbox("fs-astray").await?;
    script(
        &sandbox,
        "mkdir -m 777 /tmp/open; ln -s /etc/passwd /tmp/open/file; ln -s /etc /tmp/open/tree",
    )
    .await?;
    let before = script(&sandbox, "cat /etc/passwd; ls /etc").await?;
    let tree = fixture.path().join("tree");
    fs::create_dir(&tree)?;
    fs::write(tree.join("passwd"), "planted")?;
    let files = sandbox.fs();
    files
        .copy_from_host(tree.join("passwd"), "/tmp/open/file")
        .await?;
    // A directory does not replace a link.
    assert!(files.copy_from_host(&tree, "/tmp/open/tree").await.is_err());
    assert_eq!(script(&sandbox, "cat /etc/passwd; ls /etc").await?, before);
    assert_eq!(script(&sandbox, "cat /tmp/open/file").await?, "planted");
    sandbox.stop().await?;
    Ok(())
}
