//! Images in files: those that other tools wrote are loaded, and those that are saved are read by other tools,
//! with not a byte changed.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result, ensure};
use microsandbox::image::{ImageArchiveFormat, ImageLoadOptions};
use microsandbox::sandbox::PullPolicy;
use microsandbox::{Image, Sandbox};
use msb_tests::images::{ARCHIVED, archive, hex, image, run, skopeo};
use msb_tests::registry::Registry;
use msb_tests::trees::ensure_same;
use msb_tests::within;
use serde_json::Value;
use tempfile::TempDir;

use super::{at_home, entries, prints, pulled, stop};

/// What is loaded boots.
async fn boots(name: &str, reference: &str) -> Result<()> {
    let sandbox = Sandbox::builder(name)
        .image(reference)
        .pull_policy(PullPolicy::Never)
        .memory(128u32)
        .ephemeral(true);
    let sandbox = within(sandbox.create()).await?;
    assert_eq!(prints(&sandbox, "cat /base/kept").await?, "kept");
    stop(&sandbox).await
}

#[tokio::test]
async fn archives_of_other_tools_are_loaded_and_boot() -> Result<()> {
    let dir = TempDir::new()?;
    let (layout, compressed) = (
        dir.path().join("layout"),
        dir.path().join("busybox.tar.zst"),
    );
    image("busybox")?.alone(&layout, ARCHIVED)?;
    run(Command::new("zstd")
        .args(["--quiet", "-1"])
        .arg(archive("oci")?)
        .arg("-o")
        .arg(&compressed))?;
    for (kind, path) in [
        ("docker", archive("docker")?),
        ("oci", archive("oci")?),
        ("directory", layout),
        ("compressed", compressed),
    ] {
        at_home(async |home| {
            let options = ImageLoadOptions::new();
            let loaded = Image::load(&home.local, &path, options).await;
            let loaded = loaded.context(kind)?;
            let names: Vec<_> = loaded.iter().map(|image| image.reference()).collect();
            assert_eq!(names, [ARCHIVED], "{kind}");
            boots(kind, ARCHIVED).await.context(kind)
        })
        .await?;
    }
    Ok(())
}

#[tokio::test]
async fn what_is_saved_is_what_was_pulled_byte_for_byte() -> Result<()> {
    at_home(async |home| {
        let registry = Registry::start()?;
        let original = image("everything-zstd")?;
        let reference = registry.push(&original, "team/app:1.0")?;
        let sandbox = within(pulled("saved", &reference).create()).await?;
        stop(&sandbox).await?;
        drop(registry);

        let dir = TempDir::new()?;
        let saved = dir.path().join("saved");
        let save = async |format, path: &Path| {
            Image::save(&home.local, [reference.as_str()], path, format).await
        };
        save(ImageArchiveFormat::OciDir, &saved).await?;
        let wanted = [vec![original.digest()?], original.blobs()?].concat();
        let wanted: BTreeMap<_, _> = wanted
            .iter()
            .map(|digest| Ok((hex(digest)?.to_owned(), original.blob(digest)?)))
            .collect::<Result<_>>()?;
        let found: BTreeMap<_, _> = entries(&saved.join("blobs/sha256"))?
            .iter()
            .map(|path| {
                let name = path.file_name().unwrap_or_default();
                Ok((name.to_string_lossy().into_owned(), fs::read(path)?))
            })
            .collect::<Result<_>>()?;
        ensure!(wanted.keys().eq(found.keys()), "{:?}", found.keys());
        ensure!(wanted == found, "a blob has changed");

        // Saved, loaded elsewhere, and saved again: the same file.
        for (format, name) in [
            (ImageArchiveFormat::Docker, "docker.tar"),
            (ImageArchiveFormat::Oci, "oci.tar"),
        ] {
            let first = dir.path().join(name);
            save(format, &first).await?;
            at_home(async |other| {
                let options = ImageLoadOptions::new();
                let loaded = Image::load(&other.local, &first, options).await?;
                assert_eq!(loaded.len(), 1);
                let second = dir.path().join(format!("second-{name}"));
                Image::save(&other.local, [reference.as_str()], &second, format).await?;
                ensure!(
                    fs::read(&first)? == fs::read(&second)?,
                    "{name} has changed"
                );
                Ok(())
            })
            .await?;
        }
        Ok(())
    })
    .await
}

#[tokio::test]
async fn what_is_saved_is_read_by_other_tools() -> Result<()> {
    at_home(async |home| {
        let original = image("everything")?;
        home.load(&original, ARCHIVED).await?;
        home.load(&image("busybox")?, "registry.example/other:2")
            .await?;
        let dir = TempDir::new()?;
        let saved = |name: &str| dir.path().join(name);
        for (format, name) in [
            (ImageArchiveFormat::Docker, "docker.tar"),
            (ImageArchiveFormat::Oci, "oci.tar"),
            (ImageArchiveFormat::OciDir, "directory"),
        ] {
            Image::save(&home.local, [ARCHIVED], saved(name), format).await?;
        }
        let expected = inspected(&format!("oci:{}", original.in_layout()))?;
        for (kind, name) in [("docker-archive", "docker.tar"), ("oci-archive", "oci.tar")] {
            let source = format!("{kind}:{}", saved(name).display());
            let found = inspected(&source)?;
            for field in ["Architecture", "Os", "Env", "Created"] {
                ensure!(found[field] == expected[field], "{kind}: {found}");
            }
            // And copied by it, the tree is what it was.
            let copy = saved(&format!("copy-of-{kind}"));
            let target = format!("oci:{}:copy", copy.display());
            skopeo(["copy", "--quiet", &source, &target])?;
            let copied = msb_tests::images::Image::at(&copy, "copy");
            ensure_same(&original.unpacked()?, &copied.unpacked()?).context(kind)?;
        }
        let both = saved("both.tar");
        let references = [ARCHIVED, "registry.example/other:2"];
        Image::save(&home.local, references, &both, ImageArchiveFormat::Docker).await?;
        for reference in references {
            let source = format!("docker-archive:{}:{reference}", both.display());
            inspected(&source).context("of two images in one archive")?;
        }
        // A layout has all digests as they were.
        let listed = fs::read(saved("directory/index.json"))?;
        let listed: Value = serde_json::from_slice(&listed)?;
        ensure!(
            listed["manifests"][0]["digest"] == original.digest()?,
            "{listed}"
        );
        Ok(())
    })
    .await
}

/// What skopeo finds in an image.
fn inspected(source: &str) -> Result<Value> {
    Ok(serde_json::from_slice(&skopeo(["inspect", source])?)?)
}
