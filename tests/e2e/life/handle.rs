//! Handles: what they say of a sandbox, and that it stays what was true when they were made.

use std::time::SystemTime;

use anyhow::{Context, Result};
use microsandbox::sandbox::{SandboxConfig, SandboxFilter, SandboxHandle, SandboxStatus};
use microsandbox::{BackendKind, Sandbox};
use msb_tests::{Fixture, PATIENCE, host, within};

use super::{TRIPLE_FAULT, nothing_of, removed, stop, supervisor};

fn names(handles: &[SandboxHandle]) -> Vec<&str> {
    handles.iter().map(SandboxHandle::name).collect()
}

/// Those of these names, as the list of all has them.
async fn ours(of: &[&str]) -> Result<Vec<SandboxHandle>> {
    let mut all = Sandbox::list().await?;
    all.retain(|handle| of.contains(&handle.name()));
    Ok(all)
}

#[tokio::test]
async fn a_list_has_the_oldest_first_and_only_what_the_labels_ask_for() -> Result<()> {
    let fixtures = [Fixture::new()?, Fixture::new()?, Fixture::new()?];
    // Not in the order of their names.
    let wanted = ["list-b", "list-c", "list-a"];
    let mut sandboxes = Vec::new();
    for (fixture, (name, tier)) in
        fixtures
            .iter()
            .zip([("list-b", "front"), ("list-c", "back"), ("list-a", "front")])
    {
        let builder = fixture.kept(name)?.label("suite", "list");
        sandboxes.push(builder.labels([("tier", tier)]).create().await?);
    }
    stop(sandboxes.first().context("there are three")?).await?;

    assert_eq!(names(&ours(&wanted).await?), wanted);
    let filtered = async |filter: SandboxFilter| Sandbox::list_with(filter).await;
    let all = filtered(SandboxFilter::new().label("suite", "list")).await?;
    assert_eq!(names(&all), wanted);
    let states: Vec<_> = all.iter().map(SandboxHandle::status_snapshot).collect();
    use SandboxStatus::{Running, Stopped};
    assert_eq!(states, [Stopped, Running, Running]);
    let front = SandboxFilter::new().labels([("suite", "list"), ("tier", "front")]);
    assert_eq!(names(&filtered(front).await?), ["list-b", "list-a"]);
    for nobodys in [("tier", "middle"), ("suite", "front"), ("none", "list")] {
        let filter = SandboxFilter::new().labels([("suite", "list"), nobodys]);
        assert_eq!(names(&filtered(filter).await?), [""; 0]);
    }

    for sandbox in sandboxes.iter().skip(1) {
        stop(sandbox).await?;
    }
    for name in wanted {
        removed(name).await?;
    }
    assert_eq!(names(&ours(&wanted).await?), [""; 0]);
    Ok(())
}

#[tokio::test]
async fn a_handle_remembers_and_a_refreshed_one_knows_better() -> Result<()> {
    let fixture = Fixture::new()?;
    let before = SystemTime::now();
    let sandbox = fixture.kept("snapshot")?.create().await?;
    let running = sandbox.handle().await?;
    let text = r#"SandboxHandle { name: "snapshot", backend_kind: Local, status: Running }"#;
    assert_eq!(format!("{running:?}"), text);
    assert_eq!(running.backend_kind(), BackendKind::Local);
    assert!(running.cloud().is_none());
    let created = running.created_at().context("it was created")?;
    assert!((before..=SystemTime::now()).contains(&SystemTime::from(created)));
    assert!(running.updated_at() >= running.created_at());
    let local = running.local().context("it is of this machine")?.clone();
    assert_eq!(local.pid, sandbox.local().and_then(|local| local.pid));
    let me = i32::try_from(std::process::id())?;
    assert_eq!(host::child(me, "msb-runtime"), Some(supervisor(&running)?));

    stop(&sandbox).await?;
    assert_eq!(running.status_snapshot(), SandboxStatus::Running);
    assert_eq!(running.local().and_then(|local| local.pid), local.pid);
    let stopped = running.refresh().await?;
    assert_eq!(stopped.status_snapshot(), SandboxStatus::Stopped);
    assert_eq!(sandbox.status().await?, SandboxStatus::Stopped);
    assert_eq!(stopped.last_error_snapshot(), None);
    assert_eq!(stopped.created_at(), Some(created));
    assert!(stopped.updated_at() > running.updated_at());
    let now = stopped.local().context("it is of this machine")?;
    assert_eq!((now.db_id, now.pid), (local.db_id, None));
    assert_eq!(now.status, SandboxStatus::Stopped);
    removed("snapshot").await?;
    // It still says what it said.
    assert_eq!(running.status_snapshot(), SandboxStatus::Running);
    super::not_found(running.refresh().await, "snapshot");
    Ok(())
}

#[tokio::test]
async fn the_configuration_is_what_was_built() -> Result<()> {
    let fixture = Fixture::new()?;
    let builder = fixture.kept("config")?.cpus(2).env("COLOR", "green");
    let config = builder
        .label("color", "green")
        .workdir("/tmp")
        .hostname("configured")
        .max_duration(3600)
        .build()
        .await?;
    let sandbox = Sandbox::create(config.clone()).await?;
    assert_eq!(sandbox.config(), &config);
    let handle = Sandbox::get("config").await?;
    assert_eq!(handle.config()?, config);
    let stored: SandboxConfig = serde_json::from_str(handle.config_json())?;
    assert_eq!(stored, config);
    let local = handle.local().context("it is of this machine")?;
    assert_eq!(local.config_json, handle.config_json());
    stop(&sandbox).await?;

    let again = within(handle.start()).await?;
    assert_eq!(again.config(), &config);
    let output = again.shell("hostname; echo $COLOR; pwd; nproc").await?;
    assert_eq!(output.stdout()?, "configured\ngreen\n/tmp\n2\n");
    stop(&again).await?;
    removed("config").await
}

#[tokio::test]
async fn a_kill_leaves_it_stopped_and_without_an_error() -> Result<()> {
    let fixture = Fixture::new()?;
    let sandbox = fixture.kept("killed")?.create().await?;
    let handle = sandbox.handle().await?;
    within(handle.kill_with_timeout(PATIENCE)).await?;
    let killed = handle.refresh().await?;
    assert_eq!(killed.status_snapshot(), SandboxStatus::Stopped);
    assert_eq!(killed.last_error_snapshot(), None);
    // Over is over: asking again is fine.
    handle.kill().await?;
    handle.stop().await?;
    handle.request_kill().await?;
    handle.request_stop().await?;
    removed("killed").await
}

#[tokio::test]
async fn a_crash_is_told_with_its_cause() -> Result<()> {
    let fixture = Fixture::new()?;
    let sandbox = fixture.kept("crash")?.create().await?;
    // The conversation breaks with the guest.
    let _ = within(sandbox.shell(TRIPLE_FAULT)).await;
    within(sandbox.wait_until_ended()).await;
    let handle = Sandbox::get("crash").await?;
    assert_eq!(handle.status_snapshot(), SandboxStatus::Crashed);
    let error = handle.last_error_snapshot().context("it has crashed")?;
    assert!(error.contains("triple fault"), "{error}");
    assert_eq!(sandbox.last_error().await?, Some(error));
    assert_eq!(handle.local().and_then(|local| local.pid), None);

    // A new run begins with a clean slate.
    let again = within(handle.start()).await?;
    assert_eq!(again.last_error().await?, None);
    stop(&again).await?;
    assert_eq!(handle.refresh().await?.last_error_snapshot(), None);
    handle.remove().await?;
    nothing_of("crash").await
}
