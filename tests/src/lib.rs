//! What the end-to-end tests share: a disk to boot, sandboxes with names of their own, and
//! a look at what is left on the host.
//!
//! The tests run where `/dev/kvm` is real: `cargo xtask test` sees to that, and to the
//! environment variables that name the parts.

#[path = "../../crates/microsandbox/examples/demo/busybox.rs"]
mod busybox;
#[path = "../../xtask/src/bench/smaps.rs"]
mod smaps;

pub mod agent;
pub mod bulk;
pub mod holdings;
pub mod host;
pub mod memory;
pub mod screen;
pub mod sessions;
pub mod soak;
pub mod truth;
pub mod walk;

use std::fs::{self, File};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;
use std::time::Duration;

use anyhow::{Context, Result};
use microsandbox::{Sandbox, SandboxBuilder};
use tempfile::TempDir;

/// How long anything may take before a test calls it hung. Generous: the machine may be
/// emulated, and busy.
pub const PATIENCE: Duration = Duration::from_secs(90);

/// Size of the tests' root disks in MiB.
const DISK_MIB: u32 = 32;

/// A directory for one test: its disk, and whatever else it makes.
#[derive(Debug)]
pub struct Fixture {
    dir: TempDir,
}

impl Fixture {
    /// A fresh directory.
    pub fn new() -> Result<Self> {
        home()?;
        Ok(Self {
            dir: tempfile::tempdir().context("no temporary directory")?,
        })
    }

    /// The same, whose root disk has so many MiB. It takes the room only of what is written to it.
    pub fn with_disk(mebibytes: u32) -> Result<Self> {
        let fixture = Self::new()?;
        busybox::make_disk(&fixture.path().join("root.ext4"), mebibytes)?;
        Ok(fixture)
    }

    /// The directory.
    pub fn path(&self) -> &Path {
        self.dir.path()
    }

    /// A root disk of its own.
    pub fn disk(&self) -> Result<PathBuf> {
        let disk = self.path().join("root.ext4");
        if !disk.exists() {
            copy_disk(&disk)?;
        }
        Ok(disk)
    }

    /// One more root disk of its own, named after a sandbox; what was there is replaced.
    pub fn disk_of(&self, name: &str) -> Result<PathBuf> {
        let disk = disk_in(self.path(), name);
        copy_disk(&disk)?;
        Ok(disk)
    }

    /// A sandbox of one CPU and 128 MiB on this fixture's disk, yet to be created. Nothing of it
    /// stays when it ends.
    pub fn builder(&self, name: &str) -> Result<SandboxBuilder> {
        Ok(self.kept(name)?.ephemeral(true))
    }

    /// The same, but its record stays.
    pub fn kept(&self, name: &str) -> Result<SandboxBuilder> {
        Ok(Sandbox::builder(name).image(self.disk()?).memory(128u32))
    }

    /// The same, created.
    pub async fn sandbox(&self, name: &str) -> Result<Sandbox> {
        self.builder(name)?
            .create()
            .await
            .with_context(|| format!("sandbox {name}"))
    }
}

/// Fails a future that does not end in time.
pub async fn within<T>(future: impl Future<Output = T>) -> T {
    in_time(PATIENCE, future).await
}

/// The same, with a time of its own for what is long by nature.
pub async fn in_time<T>(limit: Duration, future: impl Future<Output = T>) -> T {
    match tokio::time::timeout(limit, future).await {
        Ok(value) => value,
        Err(_) => panic!("it did not end within {limit:?}"),
    }
}

/// The home that all sandboxes of this run share.
pub fn home() -> Result<PathBuf> {
    let home = std::env::var_os("MSB_HOME").context("MSB_HOME is not set; use cargo xtask test")?;
    Ok(PathBuf::from(home))
}

/// Where the root disk of the sandbox `name` is, for those that share a directory of disks.
pub fn disk_in(dir: &Path, name: &str) -> PathBuf {
    dir.join(format!("{name}.ext4"))
}

/// Copies the template to `disk` and leaves its holes out: fifty disks are to fit into memory.
fn copy_disk(disk: &Path) -> Result<()> {
    const BLOCK: usize = 4096;
    let bytes = fs::read(template()?).context("cannot read the disk template")?;
    let copy = || -> std::io::Result<()> {
        let file = File::create(disk)?;
        let mut at = 0;
        for block in bytes.chunks(BLOCK) {
            if block.iter().any(|byte| *byte != 0) {
                file.write_all_at(block, at)?;
            }
            at += block.len() as u64;
        }
        file.set_len(at)
    };
    copy().with_context(|| format!("cannot make the disk {}", disk.display()))
}

/// A root disk made once for each process.
fn template() -> Result<&'static Path> {
    static TEMPLATE: OnceLock<(TempDir, PathBuf)> = OnceLock::new();
    if TEMPLATE.get().is_none() {
        let dir = tempfile::tempdir()?;
        let disk = dir.path().join("template.ext4");
        busybox::make_disk(&disk, DISK_MIB)?;
        // Another thread may have been quicker; then this copy goes.
        let _ = TEMPLATE.set((dir, disk));
    }
    TEMPLATE
        .get()
        .map(|(_, disk)| disk.as_path())
        .context("the template was just made")
}
