//! Removing images: none goes from under a sandbox, and what goes is counted.

use std::process::Stdio;

use anyhow::{Context, Result, ensure};
use microsandbox::sandbox::PullPolicy;
use microsandbox::{Image, MicrosandboxError, Sandbox};
use msb_tests::registry::Registry;
use msb_tests::{images, within};
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::process::Command;

use super::{at_home, prints, pulled, stop};

const PULLER: &str = env!("CARGO_BIN_EXE_msb-test-puller");

#[track_caller]
fn in_use(removed: Result<(), MicrosandboxError>) {
    assert!(
        matches!(&removed, Err(MicrosandboxError::ImageInUse(_))),
        "{removed:?}"
    );
}

#[tokio::test]
async fn an_image_that_another_program_has_booted_stays() -> Result<()> {
    at_home(async |home| {
        let registry = Registry::start()?;
        let reference = registry.push(&images::image("everything")?, "app:1")?;
        let mut other = Command::new(PULLER)
            .args(["theirs", "linger", &reference])
            .env("MSB_HOME", &home.path)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .kill_on_drop(true)
            .spawn()?;
        let said = other.stdout.take().context("no output")?;
        let mut said = BufReader::new(said).lines();
        let up = within(said.next_line()).await?;
        assert_eq!(up, Some(format!("up {reference}")));

        in_use(Image::remove(&home.local, &reference, false).await);
        let before = home.counts()?;
        let pruned = Image::prune(&home.local).await?;
        assert_eq!(pruned.image_refs_removed + pruned.manifests_removed, 0);
        assert_eq!(home.counts()?, before);

        // Its name may be taken from it; what it consists of stays.
        Image::remove(&home.local, &reference, true).await?;
        assert!(Image::list(&home.local).await?.is_empty());
        Image::gc(&home.local).await?;
        let sandbox = Sandbox::get("theirs-0").await?.connect().await?;
        assert_eq!(prints(&sandbox, "cat /base/kept").await?, "kept");
        prints(&sandbox, "cat /sizes/of-1048576 > /dev/null").await?;

        drop(other.stdin.take());
        ensure!(within(other.wait()).await?.success(), "the other program");
        Image::gc(&home.local).await?;
        let counts = home.counts()?;
        ensure!(counts.values().all(|count| *count == 0), "{counts:?}");
        Ok(())
    })
    .await
}

#[tokio::test]
async fn an_image_of_a_stopped_sandbox_stays_until_that_is_removed() -> Result<()> {
    at_home(async |home| {
        home.load(&images::image("busybox")?, "app:1").await?;
        let sandbox = Sandbox::builder("stopped")
            .image("app:1")
            .pull_policy(PullPolicy::Never)
            .memory(128u32);
        let sandbox = within(sandbox.create()).await?;
        in_use(Image::remove(&home.local, "app:1", false).await);
        stop(&sandbox).await?;
        in_use(Image::remove(&home.local, "app:1", false).await);
        Image::prune(&home.local).await?;
        let again = within(Sandbox::start("stopped")).await?;
        assert_eq!(prints(&again, "cat /base/kept").await?, "kept");
        stop(&again).await?;
        again.remove_persisted().await?;

        Image::remove(&home.local, "app:1", false).await?;
        let gone = Image::get(&home.local, "app:1").await;
        assert!(
            matches!(&gone, Err(MicrosandboxError::ImageNotFound(_))),
            "{gone:?}"
        );
        Image::gc(&home.local).await?;
        let counts = home.counts()?;
        ensure!(counts.values().all(|count| *count == 0), "{counts:?}");
        Ok(())
    })
    .await
}

#[tokio::test]
async fn what_a_prune_says_it_removed_is_what_it_removed() -> Result<()> {
    at_home(async |home| {
        for tag in ["busybox", "everything", "others"] {
            home.load(&images::image(tag)?, tag).await?;
        }
        // One more name of an image, and an image that a sandbox keeps.
        home.load(&images::image("others")?, "another:name").await?;
        let sandbox = Sandbox::builder("keeps")
            .image("busybox")
            .pull_policy(PullPolicy::Never)
            .memory(128u32);
        let sandbox = within(sandbox.create()).await?;
        stop(&sandbox).await?;

        let (before, bytes) = (home.counts()?, home.bytes()?);
        let report = Image::prune(&home.local).await?;
        let (after, left) = (home.counts()?, home.bytes()?);
        assert_eq!(report.image_refs_removed, 3, "{report:?}");
        assert_eq!(report.manifests_removed, 2, "{report:?}");
        assert_eq!(report.fsmeta_removed, 2, "{report:?}");
        assert_eq!(report.vmdk_removed, 0, "{report:?}");
        let gone = |dir: &str| {
            let count = |counts: &std::collections::BTreeMap<&str, usize>| counts[dir];
            u32::try_from(count(&before) - count(&after)).expect("few")
        };
        assert_eq!(report.layers_removed, gone("layers"), "{report:?}");
        assert_eq!(
            report.layers_removed, 18,
            "nine of each, and the base stays"
        );
        assert_eq!(report.blobs_removed, gone("blobs/sha256"), "{report:?}");
        assert_eq!(gone("refs"), 3);
        assert_eq!(report.bytes_reclaimed, Some(bytes - left), "{report:?}");

        let again = Image::prune(&home.local).await?;
        assert_eq!(again.layers_removed + again.blobs_removed, 0, "{again:?}");
        assert_eq!(again.bytes_reclaimed, Some(0), "{again:?}");
        Sandbox::remove("keeps").await?;
        home.emptied().await
    })
    .await
}

#[tokio::test]
async fn layers_that_no_image_has_are_collected_and_others_are_not() -> Result<()> {
    at_home(async |home| {
        let registry = Registry::start()?;
        let reference = registry.push(&images::image("everything")?, "app:1")?;
        let sandbox = within(pulled("first", &reference).create()).await?;
        stop(&sandbox).await?;
        assert_eq!(Image::gc_layers(&home.local).await?, 0);
        assert_eq!(Image::gc(&home.local).await?, 0);
        registry.push(&images::image("others")?, "app:1")?;
        let always = pulled("second", &reference).pull_policy(PullPolicy::Always);
        stop(&within(always.create()).await?).await?;
        // The tag means another image now: nine layers are nobody's.
        assert_eq!(Image::gc_layers(&home.local).await?, 9);
        assert_eq!(Image::gc_layers(&home.local).await?, 0);
        assert!(Image::gc(&home.local).await? > 0);
        home.ensure_sound().await?;
        let left = within(pulled("third", &reference).create()).await?;
        assert_eq!(prints(&left, "cat /base/kept").await?, "kept");
        stop(&left).await?;
        home.emptied().await
    })
    .await
}
