//! What is asked for: what a sandbox has as it was asked for, and what is refused by name.

use anyhow::Result;
use microsandbox::sandbox::PullPolicy;
use microsandbox::{MicrosandboxError, Sandbox};
use msb_tests::{Fixture, host, within};

use super::{nothing_of, removed, stop};

#[tokio::test]
async fn a_creation_in_a_task_is_like_any_other() -> Result<()> {
    let fixture = Fixture::new()?;
    let builder = fixture.builder("asked-pull")?;
    let (mut progress, creation) = builder.create_with_pull_progress()?;
    // A disk needs no pull.
    assert_eq!(within(progress.recv()).await, None);
    let sandbox = within(creation).await??;
    assert!(sandbox.owns_lifecycle());
    assert!(sandbox.exec("true", [""; 0]).await?.status().success);
    drop(sandbox);
    nothing_of("asked-pull").await?;

    let builder = fixture.builder("asked-pull")?;
    let (_, creation) = builder.create_detached_with_pull_progress()?;
    let sandbox = within(creation).await??;
    assert!(!sandbox.owns_lifecycle());
    stop(&sandbox).await?;
    nothing_of("asked-pull").await
}

#[tokio::test]
async fn what_costs_nothing_is_kept_with_the_sandbox() -> Result<()> {
    let fixture = Fixture::new()?;
    let sandbox = fixture
        .kept("asked-kept")?
        .disable_network()
        .entrypoint(["busybox", "sh"])
        .pull_policy(PullPolicy::Never)
        .create()
        .await?;
    // No way out: none of its interfaces has a device behind it, and none but the loopback is up.
    let links = "ls -d /sys/class/net/*/device 2> /dev/null; \
        grep -l 1 /sys/class/net/*/carrier 2> /dev/null | grep -v '/lo/'; cat /proc/net/route | tail -n +2";
    assert_eq!(sandbox.shell(links).await?.stdout()?, "");
    stop(&sandbox).await?;
    let sandbox = Sandbox::start("asked-kept").await?;
    let config = sandbox.config();
    assert!(!config.network.enabled);
    assert_eq!(config.pull_policy, PullPolicy::Never);
    let entrypoint = config.runtime.entrypoint.as_deref();
    assert_eq!(entrypoint.map(<[_]>::len), Some(2));
    stop(&sandbox).await?;
    removed("asked-kept").await
}

#[tokio::test]
async fn what_cannot_be_had_yet_is_refused_and_leaves_what_is_there() -> Result<()> {
    let fixture = Fixture::new()?;
    let sandbox = fixture.builder("asked-later")?.create().await?;
    // It would have taken the place of the one that runs.
    let later = fixture.builder("asked-later")?.replace();
    let refused = later.port(8080, 80).create().await;
    assert!(matches!(
        refused,
        Err(MicrosandboxError::Unsupported { .. })
    ));
    let snapshot = Sandbox::get("asked-later").await?.snapshot("base").await;
    assert!(
        matches!(&snapshot, Err(MicrosandboxError::SnapshotSandboxRunning(name)) if name == "asked-later"),
        "{snapshot:?}"
    );
    assert!(sandbox.exec("true", [""; 0]).await?.status().success);
    stop(&sandbox).await?;
    host::nothing_left().await
}
