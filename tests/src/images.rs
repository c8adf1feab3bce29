//! Images to pull, load and compare: those that `cargo xtask test` has made, with the tools of other people.

use std::ffi::OsStr;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, ensure};
use msb_test_tree::Tree;
use serde_json::{Value, json};
use tempfile::TempDir;

/// What busybox is called in its archives.
pub const ARCHIVED: &str = "registry.example/busybox:1";

/// What a layout calls the name of an image.
const NAME: &str = "org.opencontainers.image.ref.name";

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

/// An image of an OCI layout.
#[derive(Clone, Debug)]
pub struct Image {
    layout: PathBuf,
    tag: String,
}

/// The image with this tag: `debian`, `busybox`, `configured`, `everything`, `everything-zstd`, `others`, `app-0` to
/// `app-9`.
pub fn image(tag: &str) -> Result<Image> {
    Ok(Image::at(&dir()?.join("layout"), tag))
}

/// The image with this tag, of those for several platforms: `amd64`, `arm64`, `index`, `nested`.
pub fn platforms(tag: &str) -> Result<Image> {
    Ok(Image::at(&dir()?.join("platforms"), tag))
}

impl Image {
    /// The image that a layout has under this name.
    pub fn at(layout: &Path, tag: &str) -> Self {
        Self {
            layout: layout.to_path_buf(),
            tag: tag.to_owned(),
        }
    }

    /// The layout and the name, as the tools take it.
    pub fn in_layout(&self) -> String {
        format!("{}:{}", self.layout.display(), self.tag)
    }

    fn descriptor(&self) -> Result<Value> {
        let index = fs::read(self.layout.join("index.json"))?;
        let index: Value = serde_json::from_slice(&index)?;
        let all = index["manifests"].as_array().context("an empty layout")?;
        let named = |one: &&Value| one["annotations"][NAME] == self.tag.as_str();
        let found = all.iter().find(named);
        Ok(found
            .with_context(|| format!("there is no {}", self.in_layout()))?
            .clone())
    }

    /// The digest of its manifest, or of the index.
    pub fn digest(&self) -> Result<String> {
        digest(&self.descriptor()?)
    }

    /// The bytes of the layout that have this digest.
    pub fn blob(&self, digest: &str) -> Result<Vec<u8>> {
        let path = self.layout.join("blobs/sha256").join(hex(digest)?);
        fs::read(&path).with_context(|| format!("cannot read {}", path.display()))
    }

    /// The digests of its blobs: its configuration, and its layers from the lowest.
    pub fn blobs(&self) -> Result<Vec<String>> {
        let manifest = self.blob(&self.digest()?)?;
        let manifest: Value = serde_json::from_slice(&manifest)?;
        let layers = manifest["layers"].as_array().context("no layers")?;
        [&manifest["config"]]
            .into_iter()
            .chain(layers)
            .map(digest)
            .collect()
    }

    /// The digests of its layers as they are compressed, from the lowest.
    pub fn layers(&self) -> Result<Vec<String>> {
        Ok(self.blobs()?.split_off(1))
    }

    /// Makes a layout of it alone, under this name.
    pub fn alone(&self, to: &Path, name: &str) -> Result<()> {
        let blobs = to.join("blobs/sha256");
        fs::create_dir_all(&blobs)?;
        let mut descriptor = self.descriptor()?;
        descriptor["annotations"] = json!({ NAME: name });
        let index = json!({ "schemaVersion": 2, "manifests": [descriptor] });
        fs::write(to.join("index.json"), index.to_string())?;
        fs::copy(self.layout.join("oci-layout"), to.join("oci-layout"))?;
        for digest in [self.digest()?].into_iter().chain(self.blobs()?) {
            fs::write(blobs.join(hex(&digest)?), self.blob(&digest)?)?;
        }
        Ok(())
    }

    /// The tree that `umoci` unpacks it to. Only root gets it as it is.
    pub fn unpacked(&self) -> Result<Tree> {
        let dir = TempDir::new()?;
        let bundle = dir.path().join("bundle");
        let mut umoci = Command::new("umoci");
        umoci.args(["unpack", "--image", &self.in_layout()]);
        run(umoci.arg(&bundle))?;
        Ok(msb_test_tree::list(&bundle.join("rootfs"))?)
    }
}

/// The digest that a descriptor has.
fn digest(descriptor: &Value) -> Result<String> {
    let digest = descriptor["digest"].as_str();
    Ok(digest.context("a descriptor without a digest")?.to_owned())
}

/// The hexadecimal digits of a digest.
pub fn hex(digest: &str) -> Result<&str> {
    digest
        .strip_prefix("sha256:")
        .with_context(|| format!("{digest} is no SHA-256"))
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

/// Runs skopeo, which takes images whoever has signed them, and returns what it wrote.
///
/// What it keeps of blobs for the next time would be on the host's file system, where its database does not work
/// in a nested machine; and it takes that place from what it is told of a user.
pub fn skopeo<A: AsRef<OsStr>>(args: impl IntoIterator<Item = A>) -> Result<Vec<u8>> {
    let dir = TempDir::new()?;
    let mut command = Command::new("skopeo");
    command
        .args(["--insecure-policy", "--tmpdir"])
        .arg(dir.path())
        .args(args)
        .env("_CONTAINERS_ROOTLESS_UID", "1")
        .env("XDG_DATA_HOME", dir.path());
    run(&mut command)
}
