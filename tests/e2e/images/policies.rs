//! When an image is pulled: once, always, or never.

use anyhow::Result;
use microsandbox::sandbox::PullPolicy;
use microsandbox::{Image, MicrosandboxError, RegistryError, Sandbox};
use msb_tests::registry::{Registry, downloads};
use msb_tests::{images, within};

use super::{at_home, not_given, prints, pulled, stop};

#[tokio::test]
async fn never_takes_what_is_here_and_asks_nobody() -> Result<()> {
    at_home(async |home| {
        let mut registry = Registry::start()?;
        let image = images::image("busybox")?;
        let reference = registry.push(&image, "app:1")?;
        let never = || pulled("never", &reference).pull_policy(PullPolicy::Never);
        let created = within(never().create()).await;
        assert!(
            matches!(&created, Err(MicrosandboxError::ImageNotFound(name)) if *name == reference),
            "{created:?}"
        );
        // Those who put it there wrote its manifest, and nobody has read it.
        let asked = registry.end()?;
        let mut manifests = asked.iter().filter(|one| one.path.contains("/manifests/"));
        assert!(manifests.all(|one| one.method == "PUT"), "{asked:?}");

        home.load(&image, &reference).await?;
        let sandbox = within(never().create()).await?;
        assert_eq!(prints(&sandbox, "cat /base/kept").await?, "kept");
        stop(&sandbox).await
    })
    .await
}

#[tokio::test]
async fn a_tag_that_moves_is_followed_only_by_those_who_always_pull() -> Result<()> {
    at_home(async |home| {
        let mut registry = Registry::start()?;
        let reference = registry.push(&images::image("busybox")?, "app:1")?;
        let first = pulled("first", &reference).ephemeral(false);
        let first = within(first.create()).await?;
        stop(&first).await?;

        let moved = images::image("others")?;
        registry.push(&moved, "app:1")?;
        let is_new = "test -e /other-0 && echo new || echo old";
        let missing = within(pulled("missing", &reference).create()).await?;
        assert_eq!(prints(&missing, is_new).await?, "old\n");
        stop(&missing).await?;
        let always = || pulled("always", &reference).pull_policy(PullPolicy::Always);
        let sandbox = within(always().create()).await?;
        assert_eq!(prints(&sandbox, is_new).await?, "new\n");
        stop(&sandbox).await?;
        let handle = Image::get(&home.local, &reference).await?;
        assert_eq!(handle.manifest_digest(), Some(moved.digest()?.as_str()));

        // What was made of the old one stays that.
        let again = within(Sandbox::start("first")).await?;
        assert_eq!(prints(&again, is_new).await?, "old\n");
        stop(&again).await?;
        again.remove_persisted().await?;

        // Its layers came once, although it was asked for twice.
        let sandbox = within(always().create()).await?;
        stop(&sandbox).await?;
        let layers = [moved.layers()?, images::image("busybox")?.layers()?].concat();
        let downloads = downloads(&registry.end()?, &layers);
        assert!(downloads.values().all(|times| *times == 1), "{downloads:?}");

        let error = not_given(within(always().create()).await);
        assert!(
            matches!(error, RegistryError::Unreachable { .. }),
            "{error:?}"
        );
        Ok(())
    })
    .await
}

#[tokio::test]
async fn what_a_registry_has_not_is_not_found() -> Result<()> {
    at_home(async |_| {
        let registry = Registry::start()?;
        registry.push(&images::image("busybox")?, "app:1")?;
        for name in ["app:2", "other:1"] {
            let reference = registry.reference(name);
            let error = not_given(within(pulled("none", &reference).create()).await);
            assert!(matches!(error, RegistryError::NotFound { .. }), "{error:?}");
        }
        Ok(())
    })
    .await
}
