//! A tiny image: Debian's static busybox, three users, and some files for the layers above to change.

use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result};

use super::tar::{Layer, mode};
use crate::proc;

const DIRECTORIES: [(&str, u32); 13] = [
    (".", 0o755),
    ("bin", 0o755),
    ("dev", 0o755),
    ("etc", 0o755),
    ("home", 0o755),
    ("proc", 0o755),
    ("root", 0o700),
    ("run", 0o755),
    ("sys", 0o755),
    ("tmp", 0o1777),
    ("usr", 0o755),
    ("var", 0o755),
    ("base", 0o755),
];
/// One of them is called as one of Debian's.
const PASSWD: &str = "root:x:0:0:root:/root:/bin/sh\nwww-data:x:33:33::/var/www:/bin/false\n\
    user:x:1000:1000::/home/user:/bin/sh\n";
const GROUP: &str = "root:x:0:\nwww-data:x:33:\nuser:x:1000:\nstaff:x:50:user\n";
/// In /base, with their own names as their contents.
const FILES: [&str; 8] = [
    "changed", "dir/one", "dir/two", "kept", "linked", "removed", "shadow", "turned",
];

/// Busybox as it is installed here.
pub(super) fn program() -> Result<Vec<u8>> {
    let path = proc::find_on_path("busybox")
        .context("busybox is missing: run `cargo xtask setup` (package busybox-static)")?;
    std::fs::read(&path).with_context(|| format!("cannot read {}", path.display()))
}

/// Writes the layer.
pub(super) fn layer(path: &Path, program: &[u8]) -> Result<()> {
    let mut layer = Layer::create(path)?;
    for (name, bits) in DIRECTORIES {
        layer.dir(name, mode(bits))?;
    }
    layer.file("bin/busybox", mode(0o755), program)?;
    for applet in proc::text(Command::new("busybox").arg("--list"))?.lines() {
        if applet != "busybox" {
            layer.symlink(format!("bin/{applet}"), "busybox")?;
        }
    }
    layer.symlink("sbin", "bin")?;
    layer.symlink("usr/bin", "../bin")?;
    layer.file("etc/passwd", mode(0o644), PASSWD)?;
    layer.file("etc/group", mode(0o644), GROUP)?;
    layer.dir("home/user", mode(0o750).owner(1000, 1000))?;
    for dir in ["dir", "emptied", "filled", "refilled", "turning"] {
        layer.dir(format!("base/{dir}"), mode(0o755))?;
    }
    for name in FILES {
        layer.file(format!("base/{name}"), mode(0o644), name)?;
    }
    for dir in ["emptied", "refilled", "turning"] {
        layer.file(format!("base/{dir}/old"), mode(0o644), "of the base")?;
    }
    layer.finish()
}
