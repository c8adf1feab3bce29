//! Container images, as other people's tools make them: pulled from a registry, booted, loaded and saved, and
//! what is left of them on the host.
//!
//! Each test has a home of its own. The images are small where it is not their size that matters.

mod access;
mod archives;
mod broken;
mod content;
mod in_use;
mod killed;
mod many;
mod platforms;
mod policies;
mod pulled;
mod trees;

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Context, Result, ensure};
use microsandbox::image::{ImageLoadOptions, ImageStoreError};
use microsandbox::{
    Image, ImageError, LocalBackend, MicrosandboxError, PullError, RegistryError, Sandbox,
    SandboxBuilder, with_backend,
};
use msb_tests::{PATIENCE, host, images, within};
use sha2::{Digest, Sha256};
use tempfile::TempDir;

/// A home that is empty at first.
struct Home {
    path: PathBuf,
    local: LocalBackend,
}

/// Runs a test in a home of its own, and looks whether any process is left.
async fn at_home(test: impl AsyncFnOnce(&Home) -> Result<()>) -> Result<()> {
    let dir = TempDir::new()?;
    at(dir.path(), test).await
}

/// The same in this directory.
async fn at(path: &Path, test: impl AsyncFnOnce(&Home) -> Result<()>) -> Result<()> {
    let home = Home {
        path: path.to_path_buf(),
        local: LocalBackend::builder().home(path).lazy(),
    };
    let backend = Arc::new(home.local.clone());
    let done = with_backend(backend, test(&home)).await;
    done.and(host::nothing_left().await)
}

impl Home {
    /// A path below the directory of all images.
    fn images(&self, below: &str) -> PathBuf {
        self.path.join("images").join(below)
    }

    /// Loads an image of a layout, under this name.
    async fn load(&self, image: &images::Image, name: &str) -> Result<()> {
        let dir = TempDir::new()?;
        image.alone(dir.path(), "image")?;
        let options = ImageLoadOptions::new().tag(name);
        let loaded = Image::load(&self.local, dir.path(), options).await?;
        ensure!(loaded.len() == 1, "{loaded:?}");
        Ok(())
    }

    /// Every blob is what it is called, and no image is there by halves.
    async fn ensure_sound(&self) -> Result<()> {
        for path in entries(&self.images("blobs/sha256"))? {
            let name = path.file_name().unwrap_or_default().to_string_lossy();
            let found = hex::encode(Sha256::digest(fs::read(&path)?));
            ensure!(*name == found, "the blob {name} is {found}");
        }
        for handle in Image::list(&self.local).await? {
            let detail = Image::inspect(&self.local, handle.reference()).await?;
            ensure!(detail.config.is_some(), "{detail:?}");
        }
        Ok(())
    }

    /// Bytes that all images take on the disk.
    fn bytes(&self) -> Result<u64> {
        bytes(&self.images(""))
    }

    /// How much there is of each kind.
    fn counts(&self) -> Result<BTreeMap<&'static str, usize>> {
        ["blobs/sha256", "layers", "meta", "refs", "tmp"]
            .into_iter()
            .map(|dir| Ok((dir, entries(&self.images(dir))?.len())))
            .collect()
    }

    /// Removes all images, and sees that nothing of them is left.
    async fn emptied(&self) -> Result<()> {
        Image::prune(&self.local).await?;
        let counts = self.counts()?;
        ensure!(counts.values().all(|count| *count == 0), "{counts:?}");
        Ok(())
    }
}

/// A sandbox of one CPU and 128 MiB from an image of a registry that speaks no TLS, yet to be created. Nothing of it
/// stays when it ends.
fn pulled(name: &str, reference: &str) -> SandboxBuilder {
    Sandbox::builder(name)
        .image(reference)
        .registry(|registry| registry.insecure())
        .memory(128u32)
        .ephemeral(true)
}

/// What a script prints, as root; it must succeed.
async fn prints(sandbox: &Sandbox, script: &str) -> Result<String> {
    let asked = sandbox.shell_with(script, |options| options.user("root").cwd("/"));
    let output = within(asked).await?;
    let stderr = output.stderr()?;
    ensure!(output.status().success, "{script}: {stderr}");
    Ok(output.stdout()?)
}

/// Stops a sandbox in good order, however long that takes.
async fn stop(sandbox: &Sandbox) -> Result<()> {
    Ok(within(sandbox.stop_with_timeout(PATIENCE)).await?)
}

/// Why a sandbox was not made: its image was not brought here.
#[track_caller]
fn not_pulled(created: Result<Sandbox, MicrosandboxError>) -> PullError {
    match created {
        Err(MicrosandboxError::Image(ImageError::Pull { source, .. })) => *source,
        other => panic!("{other:?}"),
    }
}

/// The same: its registry did not give it.
#[track_caller]
fn not_given(created: Result<Sandbox, MicrosandboxError>) -> RegistryError {
    match not_pulled(created) {
        PullError::Registry(error) => error,
        other => panic!("{other:?}"),
    }
}

/// Whether the disk had no room for an image.
fn is_full(error: &PullError) -> bool {
    use ImageStoreError as E;
    matches!(
        error,
        PullError::Store(E::DiskFull { .. } | E::SpaceMissing { .. })
    )
}

/// What is in a directory, in the order of the names.
fn entries(dir: &Path) -> Result<Vec<PathBuf>> {
    let read = fs::read_dir(dir).with_context(|| format!("cannot read {}", dir.display()))?;
    let mut entries = read
        .map(|entry| Ok(entry?.path()))
        .collect::<Result<Vec<_>>>()?;
    entries.sort();
    Ok(entries)
}

/// Bytes on the disk of all files in a directory and below.
fn bytes(dir: &Path) -> Result<u64> {
    let mut sum = 0;
    for path in entries(dir)? {
        let metadata = path.symlink_metadata()?;
        sum += match metadata.is_dir() {
            true => bytes(&path)?,
            false => metadata.blocks() * 512,
        };
    }
    Ok(sum)
}
