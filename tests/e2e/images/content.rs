//! What is on the disk of an image: accepted by the tools of its file system, and noticed when it changes.

use std::fs::{self, File};
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, ensure};
use microsandbox::sandbox::PullPolicy;
use microsandbox::{BootErrorKind, Image, ImageError, MicrosandboxError, Sandbox};
use msb_tests::registry::Registry;
use msb_tests::{images, within};

use super::{Home, at_home, entries, prints, pulled, stop};

/// The files that the disk of an image consists of, as docs/architecture.md has it: its metadata, and the data
/// of its layers that have any.
async fn disk(home: &Home, reference: &str) -> Result<Vec<PathBuf>> {
    let detail = Image::inspect(&home.local, reference).await?;
    let manifest = detail.handle.manifest_digest().context("no digest")?;
    let metadata = format!("meta/{}.erofs", images::hex(manifest)?);
    let mut files = vec![home.images(&metadata)];
    for layer in &detail.layers {
        let data = home.images(&format!("layers/{}/data", images::hex(&layer.diff_id)?));
        if layer.erofs_size_bytes.is_some_and(|size| size > 0) {
            files.push(data);
        }
    }
    Ok(files)
}

#[tokio::test]
async fn its_disk_in_one_file_is_accepted_by_fsck_erofs() -> Result<()> {
    at_home(async |home| {
        for tag in ["busybox", "everything", "others"] {
            home.load(&images::image(tag)?, tag).await?;
            let whole = home.path.join(format!("{tag}.erofs"));
            let mut out = File::create(&whole)?;
            for file in disk(home, tag).await? {
                let copied = io::copy(&mut File::open(&file)?, &mut out)?;
                ensure!(copied % 4096 == 0, "{} has {copied} bytes", file.display());
            }
            let extracted = format!("--extract={}", home.path.join(tag).display());
            images::run(Command::new("fsck.erofs").arg(extracted).arg(&whole))?;
            let text = fs::read_to_string(home.path.join(tag).join("base/kept"))?;
            assert_eq!(text, "kept");
        }
        Ok(())
    })
    .await
}

/// Changes a byte in the middle of a file.
fn spoil(path: &Path) -> Result<()> {
    let file = File::options().read(true).write(true).open(path)?;
    let middle = file.metadata()?.len() / 2;
    let mut byte = [0];
    file.read_exact_at(&mut byte, middle)?;
    Ok(file.write_all_at(&[!byte[0]], middle)?)
}

/// Whether a sandbox was not made because its image is not what it was.
fn is_noticed(created: &Result<Sandbox, MicrosandboxError>) -> bool {
    match created {
        Err(MicrosandboxError::BootStart { err, .. }) => err.kind == BootErrorKind::Image,
        Err(MicrosandboxError::Image(ImageError::Store(_) | ImageError::Pull { .. })) => true,
        _ => false,
    }
}

#[tokio::test]
async fn a_changed_file_is_found_before_a_boot_and_mended_by_a_pull() -> Result<()> {
    at_home(async |home| {
        let registry = Registry::start()?;
        let reference = registry.push(&images::image("everything")?, "app:1")?;
        let never = || pulled("never", &reference).pull_policy(PullPolicy::Never);
        let again = || pulled("again", &reference).pull_policy(PullPolicy::Always);
        let first = within(again().create()).await?;
        stop(&first).await?;
        for file in disk(home, &reference).await? {
            spoil(&file)?;
            let created = within(never().create()).await;
            ensure!(is_noticed(&created), "{}: {created:?}", file.display());
            let mended = within(again().create()).await;
            let mended = mended.with_context(|| format!("{} is not mended", file.display()))?;
            assert_eq!(prints(&mended, "cat /base/kept").await?, "kept");
            stop(&mended).await?;
        }
        Ok(())
    })
    .await
}

#[tokio::test]
async fn a_file_that_was_only_touched_is_looked_at_and_believed() -> Result<()> {
    at_home(async |home| {
        home.load(&images::image("busybox")?, "app:1").await?;
        for dir in ["blobs/sha256", "layers", "meta"] {
            for path in entries(&home.images(dir))? {
                let touched = match path.is_dir() {
                    true => entries(&path)?,
                    false => vec![path],
                };
                for path in touched {
                    // As a copy of the home would be: another file with the same bytes.
                    let bytes = fs::read(&path)?;
                    fs::remove_file(&path)?;
                    fs::write(&path, bytes)?;
                }
            }
        }
        let sandbox = Sandbox::builder("touched")
            .image("app:1")
            .pull_policy(PullPolicy::Never)
            .memory(128u32)
            .ephemeral(true);
        let sandbox = within(sandbox.create()).await?;
        assert_eq!(prints(&sandbox, "cat /base/kept").await?, "kept");
        stop(&sandbox).await
    })
    .await
}
