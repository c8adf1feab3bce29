//! Images to pull, load and compare: those that `cargo xtask test` has made, with the tools of other people.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, ensure};
use msb_test_tree::Tree;
use serde_json::Value;
use tempfile::TempDir;

/// The directory with all of them.
pub fn dir() -> Result<PathBuf> {
    std::env::var_os("MSB_TEST_IMAGES")
        .map(PathBuf::from)
        .context("MSB_TEST_IMAGES is not set; use cargo xtask test")
}

/// Busybox in a file: `docker` or `oci`.
pub fn archive(kind: &str) -> Result<PathBuf> {
    Ok(dir()?.join(format!("busybox.{kind}.tar")))
}

/// What busybox is called in its archives.
pub const ARCHIVED: &str = "registry.example/busybox:1";

/// An image of a layout.
#[derive(Clone, Debug)]
pub struct Image {
    layout: PathBuf,
    tag: String,
}

/// The image with this tag: `debian`, `busybox`, `everything`, `everything-zstd`, `others`, `app-0` to `app-9`.
pub fn image(tag: &str) -> Result<Image> {
    Ok(Image {
        layout: dir()?.join("layout"),
        tag: tag.to_owned(),
    })
}

/// The image with this tag, of those for several platforms: `amd64`, `arm64`, `index`, `nested`.
pub fn platforms(tag: &str) -> Result<Image> {
    Ok(Image {
        layout: dir()?.join("platforms"),
        tag: tag.to_owned(),
    })
}

impl Image {
    /// The directory with the layout.
    pub fn layout(&self) -> &Path {
        &self.layout
    }

    /// The layout and the tag, as the tools take it.
    pub fn in_layout(&self) -> String {
        format!("{}:{}", self.layout.display(), self.tag)
    }

    /// The digest of its manifest, or of the index.
    pub fn digest(&self) -> Result<String> {
        let index = std::fs::read(self.layout.join("index.json"))?;
        let index: Value = serde_json::from_slice(&index)?;
        let all = index["manifests"].as_array().context("an empty layout")?;
        let named = |one: &&Value| {
            one["annotations"]["org.opencontainers.image.ref.name"] == self.tag.as_str()
        };
        let found = all
            .iter()
            .find(named)
            .with_context(|| format!("no {}", self.tag))?;
        Ok(found["digest"].as_str().context("no digest")?.to_owned())
    }

    /// A document of the layout that has this digest.
    pub fn document(&self, digest: &str) -> Result<Value> {
        Ok(serde_json::from_slice(&self.blob(digest)?)?)
    }

    /// The bytes of the layout that have this digest.
    pub fn blob(&self, digest: &str) -> Result<Vec<u8>> {
        let hex = digest.strip_prefix("sha256:").context("another digest")?;
        Ok(std::fs::read(self.layout.join("blobs/sha256").join(hex))?)
    }

    /// The digests of its blobs: configuration and layers.
    pub fn blobs(&self) -> Result<Vec<String>> {
        let manifest = self.document(&self.digest()?)?;
        let layers = manifest["layers"].as_array().context("no layers")?;
        [&manifest["config"]]
            .into_iter()
            .chain(layers)
            .map(|one| Ok(one["digest"].as_str().context("no digest")?.to_owned()))
            .collect()
    }

    /// The tree that `umoci` unpacks it to. Only root gets it as it is.
    pub fn unpacked(&self) -> Result<Tree> {
        let dir = TempDir::new()?;
        let bundle = dir.path().join("bundle");
        let image = self.in_layout();
        run(Command::new("umoci")
            .args(["unpack", "--image", &image])
            .arg(&bundle))?;
        Ok(msb_test_tree::list(&bundle.join("rootfs"))?)
    }
}

/// Runs a command that has to succeed, and returns what it wrote.
pub fn run(command: &mut Command) -> Result<Vec<u8>> {
    let program = command.get_program().display().to_string();
    let output = command
        .stdin(Stdio::null())
        .output()
        .with_context(|| format!("cannot start {program}; `cargo xtask setup` installs it"))?;
    ensure!(
        output.status.success(),
        "{command:?}: {}\n{}",
        output.status,
        String::from_utf8_lossy(&output.stderr)
    );
    Ok(output.stdout)
}
