//! Sandboxes from images that came in archives, and what may become of such images meanwhile.

use std::fs;
use std::path::Path;
use std::sync::Arc;

use anyhow::{Context, Result};
use microsandbox::image::{ImageArchiveFormat, ImageLoadOptions};
use microsandbox::sandbox::PullPolicy;
use microsandbox::{Image, LocalBackend, MicrosandboxError, Sandbox, with_backend};
use msb_tests::within;
use serde_json::json;
use sha2::{Digest, Sha256};

/// What `docker save` writes of an image with busybox and a layer above it that changes something.
fn write_archive(path: &Path, tag: &str) -> Result<()> {
    let busybox = fs::read("/bin/busybox").context("install the package busybox-static")?;
    let mut base = tar::Builder::new(Vec::new());
    add(&mut base, "bin/busybox", 0o755, &busybox)?;
    add(
        &mut base,
        "etc/passwd",
        0o644,
        b"root:x:0:0:root:/root:/bin/sh\n",
    )?;
    add(&mut base, "etc/which", 0o644, b"lower")?;
    add(&mut base, "etc/goes", 0o644, b"gone")?;
    for applet in ["sh", "cat", "ls", "id"] {
        let mut header = tar::Header::new_ustar();
        header.set_entry_type(tar::EntryType::Symlink);
        header.set_size(0);
        base.append_link(&mut header, format!("bin/{applet}"), "busybox")?;
    }
    let mut above = tar::Builder::new(Vec::new());
    add(&mut above, "etc/which", 0o644, b"upper")?;
    add(&mut above, "etc/.wh.goes", 0o644, b"")?;
    let layers = [base.into_inner()?, above.into_inner()?];
    let diff_ids = layers.each_ref().map(|tar| {
        let digest: String = Sha256::digest(tar)
            .iter()
            .map(|byte| format!("{byte:02x}"))
            .collect();
        format!("sha256:{digest}")
    });
    let config = json!({
        "architecture": "amd64", "os": "linux",
        "config": {"Env": ["PATH=/bin", "COLOUR=blue"], "Cmd": ["sh"]},
        "rootfs": {"type": "layers", "diff_ids": diff_ids},
    });
    let manifest = json!([
        {"Config": "config.json", "RepoTags": [tag], "Layers": ["0/layer.tar", "1/layer.tar"]},
    ]);
    let mut archive = tar::Builder::new(fs::File::create(path)?);
    add(&mut archive, "0/layer.tar", 0o644, &layers[0])?;
    add(&mut archive, "1/layer.tar", 0o644, &layers[1])?;
    add(
        &mut archive,
        "config.json",
        0o644,
        config.to_string().as_bytes(),
    )?;
    add(
        &mut archive,
        "manifest.json",
        0o644,
        manifest.to_string().as_bytes(),
    )?;
    archive.finish()?;
    Ok(())
}

fn add<W: std::io::Write>(
    tar: &mut tar::Builder<W>,
    name: &str,
    mode: u32,
    bytes: &[u8],
) -> Result<()> {
    let mut header = tar::Header::new_ustar();
    header.set_size(bytes.len() as u64);
    header.set_mode(mode);
    tar.append_data(&mut header, name, bytes)?;
    Ok(())
}

async fn create(name: &str, image: &str) -> Result<Sandbox, MicrosandboxError> {
    let builder = Sandbox::builder(name).image(image).memory(256u32);
    within(builder.pull_policy(PullPolicy::Never).create()).await
}

async fn says(sandbox: &Sandbox, script: &str) -> Result<String> {
    let output = within(sandbox.shell(script)).await?;
    Ok(output.stdout()?.trim().to_owned())
}

#[tokio::test(flavor = "multi_thread")]
async fn an_image_from_an_archive_is_run_and_stays_for_as_long_as_a_sandbox_needs_it() -> Result<()>
{
    let dir = tempfile::tempdir()?;
    let archive = dir.path().join("app.tar");
    write_archive(&archive, "archived:1")?;
    let local = LocalBackend::new().await?;
    let loaded = within(Image::load(&local, &archive, ImageLoadOptions::new())).await?;
    assert_eq!(loaded[0].reference(), "docker.io/library/archived:1");

    let sandbox = create("archived", "archived:1").await?;
    assert_eq!(
        says(
            &sandbox,
            "cat /etc/which; echo; ls /etc/goes 2>&1; echo $COLOUR"
        )
        .await?,
        "upper\nls: /etc/goes: No such file or directory\nblue"
    );
    let in_use = |removed| matches!(removed, Err(MicrosandboxError::ImageInUse(_)));
    assert!(in_use(Image::remove(&local, "archived:1", false).await));
    within(sandbox.stop()).await?;
    assert!(in_use(Image::remove(&local, "archived:1", false).await));
    Image::remove(&local, "archived:1", true).await?;
    Image::prune(&local).await?;
    assert!(matches!(
        create("another", "archived:1").await,
        Err(MicrosandboxError::ImageNotFound(_))
    ));
    let again = within(Sandbox::start("archived")).await?;
    assert_eq!(says(&again, "cat /etc/which").await?, "upper");
    within(again.stop()).await?;
    Sandbox::remove("archived").await?;
    let report = Image::prune(&local).await?;
    assert!(
        report.manifests_removed >= 1 && report.layers_removed >= 2,
        "{report:?}"
    );
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn an_image_that_was_saved_runs_in_another_home() -> Result<()> {
    let dir = tempfile::tempdir()?;
    let archive = dir.path().join("app.tar");
    write_archive(&archive, "travelling:1")?;
    let from = LocalBackend::builder().home(dir.path().join("a")).lazy();
    let to = LocalBackend::builder().home(dir.path().join("b")).lazy();
    within(Image::load(&from, &archive, ImageLoadOptions::new())).await?;
    let saved = dir.path().join("saved.tar");
    within(Image::save(
        &from,
        ["travelling:1"],
        &saved,
        ImageArchiveFormat::Oci,
    ))
    .await?;
    let options = ImageLoadOptions::new().tag("arrived");
    within(Image::load(&to, &saved, options)).await?;
    with_backend(Arc::new(to), async {
        let sandbox = create("arrived", "arrived").await?;
        assert_eq!(says(&sandbox, "cat /etc/which").await?, "upper");
        within(sandbox.stop()).await?;
        Sandbox::remove("arrived").await?;
        Ok(())
    })
    .await
}
