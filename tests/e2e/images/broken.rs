//! Registries that break off, and disks that are full: each says so in a type, nothing is there by halves, and the
//! next try goes on where it ended.

use std::fs::{self, File};
use std::io::Write;
use std::path::Path;

use anyhow::{Context, Result, ensure};
use microsandbox::{Image, RegistryError, Sandbox};
use msb_tests::registry::{Gate, Registry, Request, reference};
use msb_tests::tmpfs::Tmpfs;
use msb_tests::{images, within};

use super::{Home, at, at_home, entries, is_full, not_given, not_pulled, prints, pulled, stop};

/// So much of an answer passes: not a third of the largest layer.
const SOME: u64 = 300_000;
/// What the largest layer has at least.
const LARGE: u64 = 1_000_000;

/// No image is there, and no part of one that says it is complete and is not.
async fn nothing_by_halves(home: &Home) -> Result<()> {
    ensure!(
        Image::list(&home.local).await?.is_empty(),
        "an image is there"
    );
    ensure!(entries(&home.images("meta"))?.is_empty(), "a disk is there");
    home.ensure_sound().await
}

/// Bytes of blobs that were downloaded, and whether any was gone on with.
fn downloads(requests: &[Request]) -> (u64, bool) {
    let downloads = requests
        .iter()
        .filter(|request| request.downloaded_blob().is_some());
    (
        downloads.clone().map(|request| request.bytes).sum(),
        downloads.clone().any(|request| request.status == 206),
    )
}

#[tokio::test]
async fn a_registry_that_dies_in_the_middle_and_comes_back() -> Result<()> {
    at_home(async |home| {
        let mut registry = Registry::start()?;
        registry.push(&images::image("everything")?, "app:1")?;
        let gate = Gate::to(registry.port())?;
        let reference = reference(gate.port(), "app:1");
        gate.close_after(SOME, registry.killer()?);
        let error = not_given(within(pulled("dies", &reference).create()).await);
        assert!(
            matches!(
                error,
                RegistryError::Cut { .. } | RegistryError::Unreachable { .. }
            ),
            "{error:?}"
        );
        nothing_by_halves(home).await?;

        registry.kill();
        registry.run()?;
        gate.open();
        let sandbox = within(pulled("lives", &reference).create()).await?;
        assert_eq!(prints(&sandbox, "cat /base/kept").await?, "kept");
        stop(&sandbox).await?;
        let (_, resumed) = downloads(&registry.end()?);
        ensure!(resumed, "the second pull began anew");
        home.ensure_sound().await?;
        home.emptied().await
    })
    .await
}

#[tokio::test]
async fn a_connection_that_breaks_is_taken_up_again_by_the_same_pull() -> Result<()> {
    at_home(async |home| {
        let mut registry = Registry::start()?;
        let image = images::image("busybox")?;
        registry.push(&image, "app:1")?;
        let gate = Gate::to(registry.port())?;
        let reference = reference(gate.port(), "app:1");
        gate.break_after(SOME);
        let sandbox = within(pulled("breaks", &reference).create()).await?;
        assert_eq!(prints(&sandbox, "cat /base/kept").await?, "kept");
        stop(&sandbox).await?;
        let (_, resumed) = downloads(&registry.end()?);
        ensure!(resumed, "the layer was downloaded anew");
        home.ensure_sound().await
    })
    .await
}

/// Takes all room of a file system but so much.
fn leave(dir: &Path, bytes: u64) -> Result<()> {
    let path = dir.join("ballast");
    let mut file = File::create(&path)?;
    let found = rustix::fs::statvfs(dir)?;
    let free = found.f_bavail * found.f_frsize;
    let mut rest = free.saturating_sub(bytes);
    let chunk = vec![1; 64 << 10];
    while rest > 0 {
        let length = chunk.len().min(usize::try_from(rest)?);
        file.write_all(chunk.get(..length).context("a chunk")?)?;
        rest -= length as u64;
    }
    Ok(())
}

#[tokio::test]
async fn a_disk_that_is_full_in_the_middle() -> Result<()> {
    let disk = Tmpfs::new("64m")?;
    at(disk.path(), async |home| {
        let mut registry = Registry::start()?;
        let image = images::image("everything")?;
        let reference = registry.push(&image, "app:1")?;
        // The home is there, and nothing else will need room before the image does.
        Image::list(&home.local).await?;
        Sandbox::list().await?;
        // Downloads fail, of which there are three megabytes, and then what is made of them, which is four.
        for room in [500_000, 1_500_000, 3_000_000, 3_200_000] {
            leave(&home.path, room)?;
            let error = not_pulled(within(pulled("full", &reference).create()).await);
            ensure!(is_full(&error), "with {room} bytes left: {error:?}");
            let text = error.to_string();
            ensure!(text.contains("room"), "{text}");
            nothing_by_halves(home).await?;
        }
        fs::remove_file(home.path.join("ballast"))?;
        let sandbox = within(pulled("full", &reference).create()).await?;
        assert_eq!(prints(&sandbox, "cat /base/kept").await?, "kept");
        stop(&sandbox).await?;
        home.ensure_sound().await?;
        home.emptied().await?;
        // What had come in the meantime was not downloaded again.
        let (bytes, _) = downloads(&registry.end()?);
        let mut whole = 0;
        for digest in image.blobs()? {
            whole += image.blob(&digest)?.len() as u64;
        }
        ensure!(bytes < whole + LARGE, "{bytes} bytes for {whole}");
        Ok(())
    })
    .await
}
