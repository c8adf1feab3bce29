//! Images for several platforms, and images that are named by what they are.

use anyhow::Result;
use microsandbox::RegistryError;
use msb_tests::images::platforms;
use msb_tests::registry::Registry;
use msb_tests::within;

use super::{at_home, not_given, prints, pulled, stop};

const INDEX: &str = "application/vnd.oci.image.index.v1+json";

/// A sandbox of what a reference leads to is one for this processor.
async fn leads_to_amd64(reference: &str) -> Result<()> {
    let sandbox = within(pulled("platform", reference).create()).await?;
    assert_eq!(prints(&sandbox, "cat /platform").await?, "amd64");
    let amd64 = platforms("amd64")?.digest()?;
    assert_eq!(sandbox.config().manifest_digest, Some(amd64));
    stop(&sandbox).await
}

#[tokio::test]
async fn an_index_leads_to_the_image_for_this_processor() -> Result<()> {
    at_home(async |_| {
        let registry = Registry::start()?;
        let index = registry.push_all(&platforms("index")?, "app:1")?;
        leads_to_amd64(&index).await?;
        let nested = platforms("nested")?;
        registry.put("app", "nested", INDEX, &nested.blob(&nested.digest()?)?)?;
        leads_to_amd64(&registry.reference("app:nested")).await?;
        Ok(())
    })
    .await
}

#[tokio::test]
async fn a_digest_names_an_image_or_an_index_whatever_the_tag_says() -> Result<()> {
    at_home(async |_| {
        let registry = Registry::start()?;
        registry.push_all(&platforms("index")?, "app:1")?;
        let (index, amd64) = (platforms("index")?.digest()?, platforms("amd64")?.digest()?);
        for digest in [&index, &amd64] {
            let reference = registry.reference(&format!("app@{digest}"));
            leads_to_amd64(&reference).await?;
        }
        // The tag is another image's by now.
        registry.push(&msb_tests::images::image("busybox")?, "app:1")?;
        let pinned = registry.reference(&format!("app:1@{amd64}"));
        leads_to_amd64(&pinned).await?;
        Ok(())
    })
    .await
}

#[tokio::test]
async fn an_image_for_other_processors_is_refused() -> Result<()> {
    at_home(async |home| {
        let registry = Registry::start()?;
        let index = registry.push_all(&platforms("index")?, "app:1")?;
        let arm64 = platforms("arm64")?.digest()?;
        let pinned = registry.reference(&format!("app@{arm64}"));
        let alone = registry.push(&platforms("arm64")?, "app:arm64")?;
        for reference in [&pinned, &alone] {
            let error = not_given(within(pulled("other", reference).create()).await);
            assert!(
                matches!(error, RegistryError::NoPlatform { .. }),
                "{error:?}"
            );
            assert!(error.to_string().contains("arm64"), "{error}");
        }
        assert!(microsandbox::Image::list(&home.local).await?.is_empty());
        leads_to_amd64(&index).await?;
        Ok(())
    })
    .await
}
