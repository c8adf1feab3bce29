//! What a sandbox has that begins from a snapshot.

use microsandbox::image::{Image, ImagePruneReport};
use microsandbox::{MicrosandboxError, UpperVerifyStatus};
use msb_tests::archive::{Archive, Layer};
use msb_tests::host;

use super::*;
use crate::root::image::IMAGE;

#[tokio::test]
async fn what_was_written_and_removed_and_nothing_of_what_comes_after() -> Result<()> {
    at_home(async |home, local| {
        load(home, local, app()?).await?;
        let script = "echo kept > /srv/kept; rm /srv/large; mv /srv/old /srv/new; chmod 640 /srv/text; \
                      mkdir -p /srv/deep/er; ln -s ../kept /srv/deep/link";
        let base = prepared(of("parent"), script, "base").await?;
        assert!(matches!(
            base.verify().await?.upper,
            UpperVerifyStatus::Verified { .. }
        ));
        // Its sandbox goes on, and is gone then.
        let parent = within(Sandbox::start("parent")).await?;
        prints(&parent, "echo later > /srv/kept; rm -r /srv/deep").await?;
        removed(&parent).await?;

        let child = within(from("base", "child").create()).await?;
        let look = "cat /srv/kept /srv/text /srv/deep/link; ls /srv; stat -c %a /srv/text";
        assert_eq!(
            prints(&child, look).await?,
            "kept\nfrom the app\nkept\ndeep\nkept\nlink\nnew\ntext\n640\n"
        );
        prints(&child, "echo changed > /srv/kept").await?;
        within(child.stop_with_timeout(PATIENCE)).await?;
        // What it wrote stays its own, and is there when it starts again.
        assert!(matches!(
            base.verify().await?.upper,
            UpperVerifyStatus::Verified { .. }
        ));
        let child = within(Sandbox::start("child")).await?;
        assert_eq!(prints(&child, "cat /srv/kept").await?, "changed\n");
        removed(&child).await
    })
    .await
}

#[tokio::test]
async fn a_line_of_them_that_knows_its_parents() -> Result<()> {
    at_home(async |home, local| {
        load(home, local, app()?).await?;
        let mut last = prepared(of("g0"), "echo 0 > /srv/n0", "s0").await?;
        for n in 1..4 {
            let builder = from(&format!("s{}", n - 1), &format!("g{n}"));
            let script = format!("echo {n} > /srv/n{n}");
            let next = prepared(builder, &script, &format!("s{n}")).await?;
            assert_eq!(next.manifest().parent.as_deref(), Some(last.digest()));
            let handle = Snapshot::get(next.digest()).await?;
            assert_eq!(handle.parent_digest(), Some(last.digest()));
            last = next;
        }
        let refused = Snapshot::remove("s0", false).await;
        assert!(
            matches!(refused, Err(MicrosandboxError::SnapshotInUse { .. })),
            "{refused:?}"
        );
        // It needs none of those that it comes from.
        for name in ["s0", "s1", "s2"] {
            Snapshot::remove(name, true).await?;
        }
        let child = within(from(last.digest(), "child").create()).await?;
        assert_eq!(prints(&child, "cat /srv/n*").await?, "0\n1\n2\n3\n");
        removed(&child).await
    })
    .await
}

#[tokio::test]
async fn the_image_that_it_was_taken_over_whatever_its_name_means_now() -> Result<()> {
    at_home(async |home, local| {
        load(home, local, app()?).await?;
        let base = prepared(of("parent"), "echo kept > /srv/kept", "base").await?;
        Sandbox::remove("parent").await?;
        let other = Layer::busybox()?.file("srv/text", b"another\n", 0o644)?;
        load(home, local, Archive::new().layer(other)?).await?;
        let fresh = within(of("fresh").create()).await?;
        assert_eq!(prints(&fresh, "cat /srv/text").await?, "another\n");
        removed(&fresh).await?;
        // Nothing but the snapshot needs the old one.
        let report: ImagePruneReport = Image::prune(local).await?;
        let child = within(from("base", "child").create()).await?;
        let look = "cat /srv/text /srv/kept";
        assert_eq!(
            prints(&child, look).await?,
            "from the app\nkept\n",
            "{report:?}"
        );
        assert_eq!(
            child.config().manifest_digest.as_ref(),
            Some(&base.manifest().image.manifest_digest)
        );
        removed(&child).await?;
        Snapshot::remove("base", false).await?;
        let report = Image::prune(local).await?;
        assert!(report.manifests_removed >= 1, "{report:?}");
        Ok(())
    })
    .await
}

#[tokio::test]
async fn an_image_that_a_snapshot_needs_is_in_use() -> Result<()> {
    at_home(async |home, local| {
        load(home, local, app()?).await?;
        prepared(of("parent"), "true", "base").await?;
        Sandbox::remove("parent").await?;
        let refused = Image::remove(local, IMAGE, false).await;
        assert!(
            matches!(refused, Err(MicrosandboxError::ImageInUse(_))),
            "{refused:?}"
        );
        Snapshot::remove("base", false).await?;
        Image::remove(local, IMAGE, false).await?;
        Ok(())
    })
    .await
}

#[tokio::test]
async fn the_patches_of_its_parent() -> Result<()> {
    at_home(async |home, local| {
        load(home, local, app()?).await?;
        let base = prepared(
            patched("parent"),
            "echo kept > /srv/kept; echo off > /etc/app/conf",
            "base",
        )
        .await?;
        assert!(base.manifest().patch.is_some());
        Sandbox::remove("parent").await?;
        let child = from("base", "child");
        let next = prepared(child, "echo more > /srv/more", "next").await?;
        Sandbox::remove("child").await?;
        Snapshot::remove("base", true).await?;
        assert!(next.manifest().patch.is_some());
        let grandchild = within(from("next", "grandchild").create()).await?;
        let look =
            "cat /etc/app/conf /srv/text /srv/kept /srv/more; ls /srv/large 2>/dev/null; true";
        assert_eq!(
            prints(&grandchild, look).await?,
            "off\nfrom the app\nand more\nkept\nmore\n"
        );
        removed(&grandchild).await
    })
    .await
}

#[tokio::test]
async fn a_larger_disk_if_it_is_asked_for() -> Result<()> {
    at_home(async |home, local| {
        load(home, local, app()?).await?;
        let small = of("parent").oci_upper_size(64u32);
        prepared(small, "echo kept > /srv/kept", "base").await?;
        let megabytes = "df -m / | tail -n 1 | awk '{print $2}'";
        let same = within(from("base", "same").create()).await?;
        let had: u64 = prints(&same, megabytes).await?.trim().parse()?;
        removed(&same).await?;
        let larger = within(from("base", "larger").oci_upper_size(512u32).create()).await?;
        let has: u64 = prints(&larger, megabytes).await?.trim().parse()?;
        assert!(had <= 64 && has > 400, "{had} {has}");
        prints(
            &larger,
            "dd if=/dev/zero of=/srv/much bs=1M count=200 2>/dev/null; cat /srv/kept",
        )
        .await?;
        removed(&larger).await
    })
    .await
}

#[tokio::test]
async fn what_a_guest_had_synced_before_its_machine_died() -> Result<()> {
    at_home(async |home, local| {
        load(home, local, app()?).await?;
        let parent = within(of("parent").create()).await?;
        prints(
            &parent,
            "echo synced > /srv/synced; sync; echo lost > /srv/lost",
        )
        .await?;
        let supervisor = parent.local().and_then(|local| local.pid).unwrap();
        let vmm = host::child(i32::try_from(supervisor)?, "msb-vmm").unwrap();
        host::kill(vmm);
        within(parent.wait_until_ended()).await;
        let taken = Snapshot::builder("parent").name("base");
        within(taken.create()).await?;
        // The sandbox itself, and what begins from it, put their file system right, each its own.
        for _ in 0..2 {
            let child = within(from("base", "child").create()).await?;
            assert_eq!(
                prints(&child, "cat /srv/synced /srv/text").await?,
                "synced\nfrom the app\n"
            );
            removed(&child).await?;
        }
        let parent = within(Sandbox::start("parent")).await?;
        assert_eq!(prints(&parent, "cat /srv/synced").await?, "synced\n");
        removed(&parent).await
    })
    .await
}
