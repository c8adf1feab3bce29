//! What the end-to-end tests share: a disk to boot, sandboxes with names of their own, and
//! a look at what is left on the host.
//!
//! The tests run where `/dev/kvm` is real: `cargo xtask test` sees to that, and to the
//! environment variables that name the parts.

#[path = "../../crates/microsandbox/examples/demo/busybox.rs"]
mod busybox;
pub mod disk;
#[path = "../../xtask/src/bench/smaps.rs"]
mod smaps;

pub mod agent;
pub mod archive;
pub mod bulk;
pub mod erofs;
pub mod holdings;
pub mod host;
pub mod image;
pub mod images;
pub mod memory;
pub mod registry;
pub mod screen;
pub mod sessions;
pub mod soak;
pub mod ssh;
pub mod tmpfs;
pub mod trace;
pub mod trees;
pub mod truth;
pub mod walk;
pub mod wheel;

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use anyhow::{Context, Result};
use microsandbox::{Sandbox, SandboxBuilder};
use tempfile::TempDir;

/// How long anything may take before a test calls it hung. Generous: the machine may be
/// emulated, and busy.
pub const PATIENCE: Duration = Duration::from_secs(90);

/// A directory for one test: its disk, and whatever else it makes. What is still there of its sandboxes
/// when it is dropped goes with it: a test that fails must not make others fail that look at the home.
#[derive(Debug)]
pub struct Fixture {
    dir: TempDir,
    sandboxes: Mutex<BTreeSet<String>>,
}

impl Drop for Fixture {
    fn drop(&mut self) {
        let names = std::mem::take(
            self.sandboxes
                .get_mut()
                .unwrap_or_else(PoisonError::into_inner),
        );
        // The test's own runtime may be on its way out.
        let removing = std::thread::spawn(move || remove(names));
        let _ = removing.join();
    }
}

/// Removes what is there of these sandboxes.
fn remove(names: BTreeSet<String>) {
    let Ok(runtime) = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
    else {
        return;
    };
    runtime.block_on(async {
        for name in names {
            let Ok(handle) = Sandbox::get(&name).await else {
                continue;
            };
            eprintln!("sandbox {name} was left behind; removing it");
            let removing = async {
                let _ = handle.kill().await;
                let _ = Sandbox::remove(&name).await;
            };
            let _ = tokio::time::timeout(PATIENCE, removing).await;
        }
    });
}

impl Fixture {
    /// A fresh directory.
    pub fn new() -> Result<Self> {
        home()?;
        Ok(Self {
            dir: tempfile::tempdir().context("no temporary directory")?,
            sandboxes: Mutex::default(),
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
            disk::copy(disk::small()?, &disk)?;
        }
        Ok(disk)
    }

    /// One more root disk of its own, named after a sandbox; what was there is replaced.
    pub fn disk_of(&self, name: &str) -> Result<PathBuf> {
        let disk = disk_in(self.path(), name);
        disk::copy(disk::small()?, &disk)?;
        Ok(disk)
    }

    /// A sandbox of one CPU and 128 MiB on this fixture's disk, yet to be created. Nothing of it
    /// stays when it ends.
    pub fn builder(&self, name: &str) -> Result<SandboxBuilder> {
        Ok(self.kept(name)?.ephemeral(true))
    }

    /// The same, but its record stays.
    pub fn kept(&self, name: &str) -> Result<SandboxBuilder> {
        self.owns(name);
        Ok(Sandbox::builder(name).image(self.disk()?).memory(128u32))
    }

    /// A sandbox of one CPU and 256 MiB on a Debian of its own. Nothing of it stays when it ends.
    pub fn debian(&self, name: &str) -> Result<SandboxBuilder> {
        self.owns(name);
        let disk = self.path().join("debian.ext4");
        disk::copy(&disk::debian()?, &disk)?;
        let builder = Sandbox::builder(name).image(disk).memory(256u32);
        Ok(builder.ephemeral(true))
    }

    /// Has what is left of a sandbox removed when this is dropped.
    pub fn owns(&self, name: &str) {
        let mut sandboxes = self
            .sandboxes
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        sandboxes.insert(name.to_owned());
    }

    /// What [`builder`](Self::builder) makes, created.
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
