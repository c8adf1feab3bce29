//! Sandboxes that are stored: what handles on them can do, and what is refused, without a machine.
#![allow(clippy::unwrap_used, clippy::panic)]

use std::path::Path;
use std::sync::Arc;

use chrono::Utc;
use microsandbox::sandbox::NetworkSpec;
use microsandbox::{Backend, LocalBackend, MicrosandboxError, Sandbox, SandboxConfig};
use msb_runtime::registry::{Owned, Registry};
use msb_runtime::rundir::RunDir;
use msb_runtime::sandbox_dir::RunFile;

/// A sandbox whose supervisor has just written it down, and holds its lock.
fn starting(home: &Path, config: &SandboxConfig) -> Owned {
    let registry = Registry::open(home).unwrap();
    let lock = RunDir::of(home, &config.name).lock().unwrap();
    let owned = registry.own(lock, config.name.clone());
    let run = RunFile {
        id: 1,
        pid: std::process::id(),
        started_at: Utc::now(),
        ended: None,
        isolation: Default::default(),
    };
    owned.create(config, &run).unwrap();
    owned
}

async fn config() -> SandboxConfig {
    let builder = Sandbox::builder("web").image("/nowhere/disk.ext4");
    builder.build().await.unwrap()
}

/// Runs with a home of its own.
async fn at_home<T>(test: impl AsyncFnOnce(&Path) -> T) -> T {
    let home = tempfile::tempdir().unwrap();
    let local = LocalBackend::builder().home(home.path()).lazy();
    let backend: Arc<dyn Backend> = Arc::new(local);
    microsandbox::with_backend(backend, test(home.path())).await
}

fn unsupported<T>(result: Result<T, MicrosandboxError>) -> bool {
    matches!(result, Err(MicrosandboxError::Unsupported { .. }))
}

#[tokio::test]
async fn a_stored_sandbox_that_asks_for_more_than_there_is_does_not_start() {
    at_home(async |home| {
        // As a newer library would have stored it.
        let network = NetworkSpec {
            trust_host_cas: true,
            ..NetworkSpec::default()
        };
        let asking = SandboxConfig {
            network: network.clone(),
            ..config().await
        };
        drop(starting(home, &asking));
        let handle = Sandbox::get("web").await.unwrap();
        assert_eq!(handle.config().unwrap().network, network);
        assert!(unsupported(handle.start().await));
        assert!(unsupported(handle.start_detached().await));
        assert!(unsupported(Sandbox::start("web").await));
    })
    .await;
}
