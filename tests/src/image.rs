//! A small container image, and a registry of this process that has it.

use std::process::Command;

use anyhow::{Context, Result, ensure};
use msb_image::registry::testing::{FakeImage, FakeRegistry};

/// A layer with busybox and the few files around it, as a tar.
pub fn busybox_layer() -> Result<Vec<u8>> {
    let staging = tempfile::tempdir().context("no temporary directory")?;
    crate::busybox::make_tree(staging.path())?;
    tar(staging.path())
}

/// A layer with one file.
pub fn file_layer(name: &str, content: &str) -> Result<Vec<u8>> {
    let staging = tempfile::tempdir().context("no temporary directory")?;
    std::fs::write(staging.path().join(name), content)?;
    tar(staging.path())
}

fn tar(root: &std::path::Path) -> Result<Vec<u8>> {
    let output = Command::new("tar")
        .args([
            "--owner=0",
            "--group=0",
            "--numeric-owner",
            "--sort=name",
            "-c",
            ".",
        ])
        .current_dir(root)
        .output()
        .context("cannot run tar")?;
    ensure!(
        output.status.success(),
        "tar failed: {}",
        String::from_utf8_lossy(&output.stderr).trim()
    );
    Ok(output.stdout)
}

/// A registry with the image `app:TAG` of these layers, which says this of how it is run (JSON).
pub async fn serve(tag: &str, layers: &[Vec<u8>], config: &str) -> (FakeRegistry, FakeImage) {
    let registry = FakeRegistry::new().await;
    let image = registry.image(tag, "amd64", layers, config);
    (registry, image)
}
