//! What the nested machine boots: a stock Debian cloud kernel, and an initramfs made of busybox and
//! that kernel's KVM modules. Both come from packages that are unpacked, not installed.

use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result};

use crate::cpio::Archive;
use crate::progress::Progress;
use crate::{apt, cache, proc};

/// Metapackages that name a suitable kernel: Debian 12 (backported), Debian 13.
const METAPACKAGES: [&str; 2] = ["linux-image-6.12-cloud-amd64", "linux-image-cloud-amd64"];
const INIT: &str = include_str!("../../guest/nested-init.sh");
/// Changes when the archive below does, beyond what is hashed anyway.
const RECIPE: &str = "1: busybox, modules, init";
const NOTE: &str = "package";
const NEEDED: [&str; 3] = [
    "virt/lib/irqbypass",
    "arch/x86/kvm/kvm",
    "arch/x86/kvm/kvm-amd",
];
const WANTED: [&str; 6] = [
    "drivers/net/tun",
    "fs/overlayfs/overlay",
    "net/vmw_vsock/vsock",
    "net/vmw_vsock/vmw_vsock_virtio_transport_common",
    "net/vmw_vsock/vsock_loopback",
    "drivers/block/loop",
];
const APPLETS: [&str; 14] = [
    "sh",
    "mount",
    "umount",
    "insmod",
    "mkdir",
    "cp",
    "ln",
    "ip",
    "chmod",
    "chgrp",
    "chroot",
    "hostname",
    "switch_root",
    "poweroff",
];

/// Kernel and initramfs of the nested machine, in the cache.
#[derive(Debug)]
pub(super) struct Image {
    pub(super) kernel: PathBuf,
    pub(super) initramfs: PathBuf,
}

impl Image {
    /// Finds them in the cache, or makes them.
    pub(super) fn build() -> Result<Self> {
        let kind = cache::Kind::open("nested")?;
        let busybox = busybox()?;
        let package = package(&kind)?;
        let key = cache::key(&[
            RECIPE.as_bytes(),
            package.as_bytes(),
            INIT.as_bytes(),
            &busybox,
        ]);
        let dir = kind.get_or_make(&key, |made| make(&package, &busybox, made))?;
        Ok(Self {
            kernel: dir.join("vmlinuz"),
            initramfs: dir.join("initramfs.cpio"),
        })
    }
}

/// Debian's static busybox.
fn busybox() -> Result<Vec<u8>> {
    let path = proc::find_on_path("busybox")
        .context("busybox is missing: run `cargo xtask setup` (package busybox-static)")?;
    fs::read(&path).with_context(|| format!("cannot read {}", path.display()))
}

/// The kernel package: the one used before, or what apt has now.
fn package(kind: &cache::Kind) -> Result<String> {
    let note = kind.dir().join(NOTE);
    if let Ok(package) = fs::read_to_string(&note) {
        return Ok(package.trim().to_owned());
    }
    let find = || {
        METAPACKAGES
            .iter()
            .find_map(|meta| apt::dependency(meta, "linux-image-").ok().flatten())
    };
    let package = match find() {
        Some(package) => package,
        None => {
            apt::refresh()?;
            find().with_context(|| {
                format!(
                    "apt knows none of the kernel packages {}",
                    METAPACKAGES.join(", ")
                )
            })?
        }
    };
    cache::write_atomically(&note, package.as_bytes())?;
    Ok(package)
}

fn make(package: &str, busybox: &[u8], made: &Path) -> Result<()> {
    let progress = Progress::new("preparing the nested machine", 1);
    let scratch = made
        .parent()
        .context("the build has no scratch directory")?
        .join("package");
    fs::create_dir(&scratch)?;
    apt::unpack(package, &scratch)?;

    let kernel = only_entry(&scratch.join("boot"), |name| name.starts_with("vmlinuz-"))?;
    fs::copy(&kernel, made.join("vmlinuz"))?;
    let modules = [scratch.join("lib/modules"), scratch.join("usr/lib/modules")]
        .into_iter()
        .find(|dir| dir.is_dir())
        .context("the kernel package has no modules")?;
    let modules = only_entry(&modules, |_| true)?.join("kernel");

    let mut archive = Archive::default();
    for dir in ["bin", "dev", "proc", "sys", "root", "modules"] {
        archive.dir(dir)?;
    }
    archive.char_device("dev/console", 5, 1)?;
    archive.executable("bin/busybox", busybox)?;
    for applet in APPLETS {
        archive.symlink(&format!("bin/{applet}"), "busybox")?;
    }
    for module in NEEDED {
        let content = module_content(&modules, module)?
            .with_context(|| format!("{package} has no module {module}"))?;
        add_module(&mut archive, module, &content)?;
    }
    for module in WANTED {
        if let Some(content) = module_content(&modules, module)? {
            add_module(&mut archive, module, &content)?;
        }
    }
    archive.executable("init", INIT.as_bytes())?;
    fs::File::create(made.join("initramfs.cpio"))?.write_all(&archive.finish()?)?;
    progress.finish();
    Ok(())
}

fn add_module(archive: &mut Archive, module: &str, content: &[u8]) -> Result<()> {
    let name = module.rsplit('/').next().unwrap_or(module);
    archive.executable(&format!("modules/{name}.ko"), content)?;
    Ok(())
}

/// A module's file, decompressed; `None` when the package has it not (built in, perhaps).
fn module_content(modules: &Path, module: &str) -> Result<Option<Vec<u8>>> {
    let plain = modules.join(format!("{module}.ko"));
    if plain.exists() {
        return Ok(Some(fs::read(plain)?));
    }
    let packed = modules.join(format!("{module}.ko.xz"));
    if packed.exists() {
        return Ok(Some(proc::output(
            Command::new("xz").arg("-dc").arg(packed),
        )?));
    }
    Ok(None)
}

fn only_entry(dir: &Path, wanted: impl Fn(&str) -> bool) -> Result<PathBuf> {
    fs::read_dir(dir)
        .with_context(|| format!("cannot list {}", dir.display()))?
        .filter_map(|entry| entry.ok())
        .find(|entry| wanted(&entry.file_name().to_string_lossy()))
        .map(|entry| entry.path())
        .with_context(|| format!("{} has not what was expected", dir.display()))
}
