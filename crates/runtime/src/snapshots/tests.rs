//! Snapshots of sandboxes that are forged on disk, as a supervisor leaves them.

use std::fs::OpenOptions;
use std::os::unix::fs::{FileExt, PermissionsExt};

use chrono::Utc;
use msb_image::snapshot::{UpperState, always};
use msb_types::{RootfsSource, SandboxConfig, SandboxStatus};

use super::*;
use crate::end::{EndReason, EndRecord, EndSource};
use crate::registry::{Owned, Registry};
use crate::rundir::{RunDir, RunDirError};
use crate::sandbox_dir::{RunFile, SandboxDir};

mod found;
mod killed;
mod sent;
mod taken;

struct Home {
    dir: tempfile::TempDir,
    registry: Registry,
    snapshots: Snapshots,
}

impl Home {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        Self {
            registry: Registry::open(dir.path()).unwrap(),
            snapshots: Snapshots::of(dir.path()),
            dir,
        }
    }

    fn path(&self) -> &Path {
        self.dir.path()
    }

    /// A sandbox whose supervisor holds its lock, with a disk that has been written to.
    fn running(&self, config: &SandboxConfig) -> (Owned, RunFile) {
        let lock = RunDir::of(self.path(), &config.name).lock().unwrap();
        let owned = self.registry.own(lock, config.name.clone());
        let run = RunFile {
            id: 1,
            pid: std::process::id(),
            started_at: Utc::now(),
            ended: None,
            isolation: Default::default(),
        };
        owned.create(config, &run).unwrap();
        owned.note(&run, SandboxStatus::Running).unwrap();
        ext4(&owned.dir().path().join("upper.ext4"), &config.name);
        (owned, run)
    }

    /// One that was stopped in order.
    fn stopped(&self, config: &SandboxConfig) {
        let (owned, mut run) = self.running(config);
        let end = EndRecord {
            reason: EndReason::Stopped,
            exit_code: Some(0),
            signal: None,
            observed_at: Utc::now(),
            source: EndSource::Supervisor,
        };
        owned.end(&mut run, &end).unwrap();
        owned.lock.remove().unwrap();
    }

    fn status(&self, name: &str) -> Option<SandboxStatus> {
        self.registry.get(name).unwrap().map(|record| record.status)
    }

    fn take(&self, sandbox: &str, target: Target) -> Result<SnapshotDir, TakeError> {
        self.snapshots
            .take(&self.registry, take(sandbox, target), &mut always)
    }

    fn named(&self, sandbox: &str, name: &str) -> SnapshotDir {
        self.take(sandbox, Target::Name(name.to_owned())).unwrap()
    }

    fn sandbox(&self, name: &str) -> SandboxDir {
        SandboxDir::of(self.path(), name)
    }

    fn names(&self) -> Vec<String> {
        let found = self.snapshots.list().unwrap();
        found.into_iter().filter_map(|found| found.name).collect()
    }
}

fn take(sandbox: &str, target: Target) -> Take {
    Take {
        sandbox: sandbox.to_owned(),
        target,
        labels: std::collections::BTreeMap::new(),
        replace: false,
        record_integrity: true,
    }
}

fn image() -> Digest {
    Digest::of(b"image")
}

fn config(name: &str) -> SandboxConfig {
    SandboxConfig {
        name: name.to_owned(),
        image: RootfsSource::Oci {
            reference: "docker.io/library/python:3.12".to_owned(),
            upper_size_mib: Some(64),
        },
        manifest_digest: Some(image().to_string()),
        ..SandboxConfig::default()
    }
}

fn child(name: &str, parent: &SnapshotDir) -> SandboxConfig {
    SandboxConfig {
        parent_snapshot: Some(parent.sealed().digest().to_string()),
        ..config(name)
    }
}

/// As much of a file system as is looked at, and a word in it.
fn ext4(path: &Path, word: &str) {
    let file = OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(true)
        .open(path)
        .unwrap();
    file.set_len(64 << 20).unwrap();
    file.write_all_at(&[0x53, 0xef, 1, 0], 1024 + 0x38).unwrap();
    file.write_all_at(word.as_bytes(), 32 << 20).unwrap();
}

fn word(snapshot: &SnapshotDir) -> String {
    let mut bytes = [0; 32];
    let upper = snapshot.upper().unwrap();
    upper.read_exact_at(&mut bytes, 32 << 20).unwrap();
    String::from_utf8(bytes.to_vec())
        .unwrap()
        .trim_end_matches('\0')
        .to_owned()
}

/// What another program would have there that may write.
fn scribble(path: &Path, bytes: &[u8]) {
    fs::set_permissions(path, fs::Permissions::from_mode(0o600)).unwrap();
    fs::write(path, bytes).unwrap();
}
