//! Images for tests, made here and in the form that `docker save` writes: no registry is needed.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use tar::{Builder, EntryType, Header};

/// Where a busybox is that needs no libraries.
const BUSYBOX: [&str; 2] = ["/bin/busybox", "/usr/bin/busybox"];

/// One layer of an image, in the making.
pub struct Layer {
    tar: Builder<Vec<u8>>,
}

impl std::fmt::Debug for Layer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Layer")
    }
}

impl Default for Layer {
    fn default() -> Self {
        Self {
            tar: Builder::new(Vec::new()),
        }
    }
}

impl Layer {
    /// One that changes nothing yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// One with busybox as `/bin/busybox`, a name for each thing that it can do, and the users `root` and `user`.
    pub fn busybox() -> Result<Self> {
        let path = BUSYBOX.iter().map(Path::new).find(|path| path.is_file());
        let path = path.context("no busybox; install the package busybox-static")?;
        let mut layer =
            Self::new()
                .directory("bin", 0o755)?
                .file("bin/busybox", &fs::read(path)?, 0o755)?;
        let applets = Command::new(path).arg("--list").output()?;
        for applet in String::from_utf8(applets.stdout)?
            .lines()
            .filter(|name| *name != "busybox")
        {
            layer = layer.link(&format!("bin/{applet}"), "busybox")?;
        }
        layer
            .directory("root", 0o700)?
            .file(
                "etc/passwd",
                b"root:x:0:0:root:/root:/bin/sh\nuser:x:1000:1000::/home:/bin/sh\n",
                0o644,
            )?
            .file("etc/group", b"root:x:0:\nuser:x:1000:\n", 0o644)
    }

    /// A directory.
    pub fn directory(self, path: &str, mode: u32) -> Result<Self> {
        self.add(path, EntryType::Directory, mode, &[], None)
    }

    /// A file.
    pub fn file(self, path: &str, bytes: &[u8], mode: u32) -> Result<Self> {
        self.add(path, EntryType::Regular, mode, bytes, None)
    }

    /// A symbolic link.
    pub fn link(self, path: &str, target: &str) -> Result<Self> {
        self.add(path, EntryType::Symlink, 0o777, &[], Some(target))
    }

    /// Removes what a layer below has there.
    pub fn without(self, path: &str) -> Result<Self> {
        let (directory, name) = path.rsplit_once('/').unwrap_or((".", path));
        self.file(&format!("{directory}/.wh.{name}"), b"", 0o644)
    }

    fn add(
        mut self,
        path: &str,
        kind: EntryType,
        mode: u32,
        bytes: &[u8],
        target: Option<&str>,
    ) -> Result<Self> {
        let mut header = Header::new_gnu();
        header.set_entry_type(kind);
        header.set_mode(mode);
        header.set_uid(0);
        header.set_gid(0);
        header.set_mtime(1_700_000_000);
        header.set_size(bytes.len() as u64);
        match target {
            Some(target) => self.tar.append_link(&mut header, path, target)?,
            None => self.tar.append_data(&mut header, path, bytes)?,
        }
        Ok(self)
    }
}

/// An image in the making.
#[derive(Debug, Default)]
pub struct Archive {
    layers: Vec<Vec<u8>>,
    config: Value,
}

impl Archive {
    /// An image without layers.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a layer on top.
    pub fn layer(mut self, layer: Layer) -> Result<Self> {
        self.layers.push(layer.tar.into_inner()?);
        Ok(self)
    }

    /// How it wants to be run: `{"Env": ["A=1"], "Cmd": ["sh"]}`.
    #[must_use]
    pub fn config(mut self, config: Value) -> Self {
        self.config = config;
        self
    }

    /// Writes it to the file `path`, called `reference`.
    pub fn write(self, reference: &str, path: &Path) -> Result<PathBuf> {
        let diff_ids: Vec<_> = self
            .layers
            .iter()
            .map(|layer| format!("sha256:{}", hex(layer)))
            .collect();
        let config = json!({
            "architecture": "amd64",
            "os": "linux",
            "config": self.config,
            "rootfs": {"type": "layers", "diff_ids": diff_ids},
        });
        let config = config.to_string().into_bytes();
        let config_name = format!("{}.json", hex(&config));
        let names: Vec<_> = self
            .layers
            .iter()
            .map(|layer| format!("{}/layer.tar", hex(layer)))
            .collect();
        let manifest = json!([{
            "Config": config_name,
            "RepoTags": [reference],
            "Layers": names,
        }]);
        let manifest = manifest.to_string().into_bytes();
        let mut files = Layer::new().file(&config_name, &config, 0o644)?.file(
            "manifest.json",
            &manifest,
            0o644,
        )?;
        for (name, layer) in names.iter().zip(&self.layers) {
            files = files.file(name, layer, 0o644)?;
        }
        fs::write(path, files.tar.into_inner()?)?;
        Ok(path.to_path_buf())
    }
}

fn hex(bytes: &[u8]) -> String {
    let digest = Sha256::digest(bytes);
    digest.iter().map(|byte| format!("{byte:02x}")).collect()
}
