//! Images put together by the tools that people use: `umoci` makes them of layers, `skopeo` compresses and
//! packs them. Only an index of several platforms is written here, since neither writes one.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use crate::proc;

const INDEX: &str = "application/vnd.oci.image.index.v1+json";
const NAME: &str = "org.opencontainers.image.ref.name";

/// A directory with images, called by tags.
pub(super) struct Layout {
    dir: PathBuf,
}

impl Layout {
    /// An empty one.
    pub(super) fn create(dir: PathBuf) -> Result<Self> {
        proc::output(
            Command::new("umoci")
                .args(["init", "--layout"])
                .arg(&dir)
                .stdin(std::process::Stdio::null()),
        )?;
        Ok(Self { dir })
    }

    /// Makes an image of layers, the lowest first, with what `umoci config` sets by these arguments.
    pub(super) fn image(&self, tag: &str, layers: &[&Path], config: &[&str]) -> Result<()> {
        umoci(&["new"], &self.at(tag), &[])?;
        self.extend(tag, layers, config)
    }

    /// Makes an image of another one and more layers.
    pub(super) fn on(
        &self,
        base: &str,
        tag: &str,
        layers: &[&Path],
        config: &[&str],
    ) -> Result<()> {
        umoci(&["tag"], &self.at(base), &[tag.as_ref()])?;
        self.extend(tag, layers, config)
    }

    fn extend(&self, tag: &str, layers: &[&Path], config: &[&str]) -> Result<()> {
        let image = self.at(tag);
        for layer in layers {
            umoci(&["raw", "add-layer"], &image, &[layer])?;
        }
        let config: Vec<&Path> = config.iter().map(Path::new).collect();
        if config.is_empty() {
            return Ok(());
        }
        umoci(&["config"], &image, &config)
    }

    /// The same image with its layers compressed by zstd.
    pub(super) fn zstd(&self, tag: &str, to: &str) -> Result<()> {
        let format = ["--dest-compress-format", "zstd"];
        skopeo(&format, &oci(&self.at(tag)), &oci(&self.at(to)))
    }

    /// The image in a file of this kind, `docker-archive` or `oci-archive`.
    pub(super) fn pack(&self, tag: &str, kind: &str, file: &Path, name: &str) -> Result<()> {
        let to = format!("{kind}:{}:{name}", file.display());
        skopeo(&[], &oci(&self.at(tag)), &to)
    }

    /// Removes what was there only while the images were made.
    pub(super) fn tidy(&self) -> Result<()> {
        proc::output(
            Command::new("umoci")
                .args(["gc", "--layout"])
                .arg(&self.dir),
        )
        .map(drop)
    }

    /// Gives a tag to an index of images, which is written in the order of the entries.
    pub(super) fn index(&self, tag: &str, entries: &[Entry<'_>]) -> Result<()> {
        let path = self.dir.join("index.json");
        let mut top: Value = serde_json::from_slice(&fs::read(&path)?)?;
        let known = top["manifests"].as_array().cloned().unwrap_or_default();
        let mut manifests = Vec::new();
        for entry in entries {
            let named = |one: &&Value| one["annotations"][NAME] == entry.tag;
            let found = known.iter().find(named);
            let found = found.with_context(|| format!("there is no image {}", entry.tag))?;
            let mut descriptor = found.clone();
            descriptor["annotations"] = entry.annotations.clone();
            if let Some((os, architecture)) = entry.platform {
                descriptor["platform"] = json!({ "os": os, "architecture": architecture });
            }
            manifests.push(descriptor);
        }
        let index = json!({ "schemaVersion": 2, "mediaType": INDEX, "manifests": manifests });
        let bytes = serde_json::to_vec(&index)?;
        let digest = hex::encode(Sha256::digest(&bytes));
        fs::write(self.dir.join("blobs/sha256").join(&digest), &bytes)?;
        let all = top["manifests"].as_array_mut();
        all.context("the layout has no list of images")?
            .push(json!({
                "mediaType": INDEX,
                "digest": format!("sha256:{digest}"),
                "size": bytes.len(),
                "annotations": { NAME: tag },
            }));
        Ok(fs::write(path, serde_json::to_vec(&top)?)?)
    }

    fn at(&self, tag: &str) -> String {
        format!("{}:{tag}", self.dir.display())
    }
}

/// What an index says of one of its images.
pub(super) struct Entry<'a> {
    /// The image's tag in the same layout.
    pub(super) tag: &'a str,
    /// Operating system and architecture.
    pub(super) platform: Option<(&'a str, &'a str)>,
    pub(super) annotations: Value,
}

fn oci(image: &str) -> String {
    format!("oci:{image}")
}

fn umoci(words: &[&str], image: &str, more: &[&Path]) -> Result<()> {
    let mut command = Command::new("umoci");
    command.args(words).args(["--image", image]).args(more);
    proc::output(&mut command).map(drop)
}

fn skopeo(options: &[&str], from: &str, to: &str) -> Result<()> {
    // What it keeps for the next time. It takes the place from what it is told of a user.
    let kept = tempfile::tempdir().context("cannot make a temporary directory")?;
    let mut command = Command::new("skopeo");
    command
        // Of images that nobody has signed, whatever this host's policy is.
        .args(["--insecure-policy", "copy", "--quiet"])
        .args(options)
        .args([from, to])
        .env("_CONTAINERS_ROOTLESS_UID", "1")
        .env("XDG_DATA_HOME", kept.path());
    proc::output(&mut command).map(drop)
}
