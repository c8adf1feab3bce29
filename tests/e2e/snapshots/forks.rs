//! Several sandboxes that begin from one snapshot.

use std::fs;

use futures::future::try_join_all;

use super::*;

#[tokio::test]
async fn three_at_once_begin_alike_and_go_their_own_ways() -> Result<()> {
    at_home(async |home, local| {
        load(home, local, app()?).await?;
        let script = "dd if=/dev/urandom of=/srv/data bs=1M count=8 2>/dev/null; sha256sum < /srv/data > /srv/sum";
        prepared(of("parent"), script, "base").await?;
        Sandbox::remove("parent").await?;
        let names = ["one", "two", "three"];
        let children = names.map(|name| from("base", name).create());
        let children = within(try_join_all(children)).await?;
        for (name, child) in names.iter().zip(&children) {
            let look = format!(
                "sha256sum < /srv/data | cmp - /srv/sum && echo {name} > /srv/name && \
                 dd if=/dev/urandom of=/srv/data bs=1M count=4 conv=notrunc 2>/dev/null; sync; ls /srv"
            );
            assert_eq!(prints(child, &look).await?, "data\nlarge\nlink\nname\nold\nsum\ntext\n");
        }
        for (name, child) in names.iter().zip(&children) {
            assert_eq!(prints(child, "cat /srv/name").await?, format!("{name}\n"));
        }
        // One of them ends and is gone, and the snapshot too; the others go on.
        removed(&children[0]).await?;
        Snapshot::remove("base", false).await?;
        for child in &children[1..] {
            within(child.stop_with_timeout(PATIENCE)).await?;
            let again = within(Sandbox::start(child.name())).await?;
            let look = "cat /srv/name; wc -c < /srv/data";
            assert_eq!(prints(&again, look).await?, format!("{}\n8388608\n", child.name()));
            removed(&again).await?;
        }
        assert_eq!(fs::read_dir(home.join("sandboxes"))?.count(), 0);
        Ok(())
    })
    .await
}

#[tokio::test]
async fn many_one_after_the_other_leave_nothing() -> Result<()> {
    at_home(async |home, local| {
        load(home, local, app()?).await?;
        prepared(of("parent"), "echo kept > /srv/kept", "base").await?;
        for round in 0..10 {
            let child = from("base", "child").ephemeral(true);
            let child = within(child.create()).await?;
            let look =
                format!("cat /srv/kept; ls /srv/round 2>/dev/null; echo {round} > /srv/round");
            assert_eq!(prints(&child, &look).await?, "kept\n");
            within(child.stop_with_timeout(PATIENCE)).await?;
        }
        assert_eq!(fs::read_dir(home.join("sandboxes"))?.count(), 1);
        assert_eq!(fs::read_dir(home.join("snapshots"))?.count(), 1);
        Ok(())
    })
    .await
}
