//! The client against a registry that misbehaves.

mod access;
mod blobs;
mod documents;
mod pulls;
mod secure;

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use super::blob::Told;
use super::error::RegistryError;
use super::pull::PullError;
use super::resolve::{LayerBlob, Resolved};
use super::testing::{Access, FakeRegistry, Fault};
use super::*;
use crate::limits::Limits;
use crate::manifest::Platform;
use crate::store::{Blob, Claim, Store};
use crate::{Digest, Reference};

/// Tries that cost a test no time, and deadlines that a busy host keeps.
fn timing() -> Timing {
    Timing {
        pause: Duration::from_millis(1),
        tries: 4,
        stall: Duration::from_secs(20),
        ..Timing::default()
    }
}

/// Deadlines for a registry that does not keep them.
fn impatient() -> Timing {
    Timing {
        connect: Duration::from_millis(200),
        stall: Duration::from_millis(300),
        ..timing()
    }
}

fn options() -> RegistryOptions {
    RegistryOptions {
        insecure: true,
        timing: timing(),
        ..RegistryOptions::default()
    }
}

fn reference(registry: &FakeRegistry, rest: &str) -> Reference {
    format!("{}/team/app{rest}", registry.host())
        .parse()
        .unwrap()
}

fn repository(registry: &FakeRegistry, options: RegistryOptions) -> Repository {
    Repository::new(&reference(registry, ""), options).unwrap()
}

async fn resolve(
    registry: &FakeRegistry,
    rest: &str,
    options: RegistryOptions,
) -> Result<Resolved, RegistryError> {
    let reference = reference(registry, rest);
    let repository = Repository::new(&reference, options)?;
    let platform = Platform::LINUX_AMD64;
    repository
        .resolve(&reference, &platform, &Limits::default())
        .await
}

/// Bytes that are nowhere the same.
fn bytes(length: usize) -> Vec<u8> {
    let scattered = |at: u64| at.wrapping_mul(0x9e37_79b9_7f4a_7c15).to_be_bytes()[1];
    (0..length as u64).map(scattered).collect()
}

/// A store, and what is downloaded into it.
struct Host {
    dir: tempfile::TempDir,
    claim: Arc<Claim>,
    seen: Arc<Mutex<Vec<u64>>>,
}

impl Host {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(dir.path()).unwrap();
        Self {
            claim: Arc::new(store.claim().unwrap()),
            dir,
            seen: Arc::default(),
        }
    }

    fn told(&self) -> Told {
        let seen = Arc::clone(&self.seen);
        Arc::new(move |bytes| {
            seen.lock()
                .unwrap_or_else(PoisonError::into_inner)
                .push(bytes);
        })
    }

    async fn blob(
        &self,
        repository: &Repository,
        digest: Digest,
        size: usize,
    ) -> Result<Blob, PullError> {
        let layer = layer(digest, size);
        repository.blob(&self.claim, layer, &self.told()).await
    }

    fn partial(&self, digest: &Digest) -> std::path::PathBuf {
        self.dir.path().join("tmp").join(digest.hex() + ".partial")
    }
}

fn layer(digest: Digest, size: usize) -> LayerBlob {
    LayerBlob {
        digest,
        size: size as u64,
        diff_id: digest,
    }
}

fn refused(error: PullError) -> RegistryError {
    match error {
        PullError::Registry(error) => error,
        other => panic!("{other:?}"),
    }
}

/// Waits until something is so, looking now and then.
async fn until(mut is_so: impl FnMut() -> bool) {
    let waiting = async {
        while !is_so() {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(60), waiting)
        .await
        .unwrap();
}
