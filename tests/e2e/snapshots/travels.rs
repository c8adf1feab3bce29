//! Snapshots that go to another home.

use std::fs;
use std::sync::Arc;

use microsandbox::{ExportOpts, LocalBackend, MicrosandboxError, with_backend};

use super::*;

#[tokio::test]
async fn with_its_image_and_its_parents_it_boots_where_there_was_nothing() -> Result<()> {
    let outside = tempfile::tempdir()?;
    let archive = outside.path().join("next.tar.zst");
    at_home(async |home, local| {
        load(home, local, app()?).await?;
        let patched = of("parent").patch(|patch| patch.text("/etc/app/conf", "on\n", None, false));
        prepared(patched, "echo kept > /srv/kept", "base").await?;
        prepared(from("base", "child"), "echo more > /srv/more", "next").await?;
        let opts = ExportOpts {
            with_parents: true,
            with_image: true,
            ..ExportOpts::default()
        };
        Ok(within(Snapshot::export("next", &archive, opts)).await?)
    })
    .await?;
    // Four GiB of disk, most of them holes.
    assert!(fs::metadata(&archive)?.len() < 16 << 20);
    at_home(async |home, _| {
        let handle = within(Snapshot::import(&archive, None)).await?;
        assert_eq!(handle.name(), Some("next"));
        let child = within(from("next", "arrived").create()).await?;
        let look = "cat /srv/kept /srv/more /etc/app/conf /srv/text";
        assert_eq!(
            prints(&child, look).await?,
            "kept\nmore\non\nfrom the app\n"
        );
        let parent = within(from("base", "elder").create()).await?;
        let look = "cat /srv/kept; ls /srv/more 2>/dev/null; true";
        assert_eq!(prints(&parent, look).await?, "kept\n");
        removed(&child).await?;
        removed(&parent).await?;
        assert_eq!(fs::read_dir(home.join("snapshots"))?.count(), 2);
        // It gave no name a meaning.
        let named = within(of("named").create()).await.map(drop);
        assert!(
            matches!(named, Err(MicrosandboxError::ImageNotFound(_))),
            "{named:?}"
        );
        Ok(())
    })
    .await
}

#[tokio::test]
async fn without_its_image_it_waits_for_that() -> Result<()> {
    let outside = tempfile::tempdir()?;
    let archive = outside.path().join("base.tar");
    let there = LocalBackend::builder()
        .home(outside.path().join("home"))
        .lazy();
    let there = Arc::new(there);
    at_home(async |home, local| {
        load(home, local, app()?).await?;
        prepared(of("parent"), "echo kept > /srv/kept", "base").await?;
        let opts = ExportOpts {
            plain_tar: true,
            ..ExportOpts::default()
        };
        within(Snapshot::export("base", &archive, opts)).await?;
        with_backend(there.clone(), async {
            within(Snapshot::import(&archive, None)).await?;
            let refused = within(from("base", "early").create()).await.map(drop);
            assert!(
                matches!(refused, Err(MicrosandboxError::SnapshotImageMissing(_))),
                "{refused:?}"
            );
            assert!(Sandbox::list().await?.is_empty());
            load(outside.path(), &there, app()?).await?;
            let child = within(from("base", "child").create()).await?;
            assert_eq!(prints(&child, "cat /srv/kept").await?, "kept\n");
            removed(&child).await
        })
        .await
    })
    .await
}
