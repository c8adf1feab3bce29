//! Measures a sandbox's life through the public API: the half of `cargo xtask bench lifecycle` that
//! is a program of the library.
//!
//! `msb-test-lifecycle ROUNDS` writes one JSON object in each line: `{"what": .., "ms": ..}` for a
//! measurement, and once `{"idle": {"runtime": PID, "vmm": PID, "memory_mib": ..}}` while a sandbox
//! runs and does nothing; then it waits for a line on standard input before it goes on.

use std::fs;
use std::io::{BufRead, Write};
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use microsandbox::{
    ExecEvent, LocalBackend, Sandbox, SandboxConfig, set_default_backend, with_backend,
};
use msb_tests::{Fixture, home, host};
use serde_json::json;

const NAME: &str = "lifecycle";

/// Records of the long list.
const RECORDS: usize = 1_000;

/// How often `get` is asked in each round. It is quick, and a round is slow.
const GETS: u32 = 10;

/// What a stop is given.
const ENDING: Duration = Duration::from_secs(60);

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<()> {
    let rounds: u32 = std::env::args()
        .nth(1)
        .context("how many rounds?")?
        .parse()?;
    // The catalog is opened before the first measurement, as a program that goes on has it.
    set_default_backend(Arc::new(LocalBackend::new().await?));
    for round in 0..rounds {
        one_life(round + 1 == rounds).await?;
    }
    let fixture = Fixture::new()?;
    long_list(&fixture.kept("record")?.build().await?, rounds).await
}

/// From nothing to nothing. The sandbox of the last round stands still for a while.
async fn one_life(last: bool) -> Result<()> {
    let fixture = Fixture::new()?;
    let builder = fixture.kept(NAME)?;
    let started = Instant::now();
    let sandbox = builder.create().await?;
    first_output(&sandbox).await?;
    tell("create_exec_ms", started)?;

    for _ in 0..GETS {
        let started = Instant::now();
        let handle = Sandbox::get(NAME).await?;
        tell("get_ms", started)?;
        ensure!(handle.status_snapshot().is_active(), "{handle:?}");
    }
    let started = Instant::now();
    sandbox.stop_with_timeout(ENDING).await?;
    tell("stop_ms", started)?;

    let started = Instant::now();
    let sandbox = Sandbox::start(NAME).await?;
    tell("start_ms", started)?;
    if last {
        first_output(&sandbox).await?;
        idle(&sandbox)?;
    }
    sandbox.kill_with_timeout(ENDING).await?;
    sandbox.remove_persisted().await?;
    Ok(())
}

async fn first_output(sandbox: &Sandbox) -> Result<()> {
    let mut command = sandbox.exec_stream("echo", ["there"]).await?;
    let mut seen = false;
    while let Some(event) = command.recv().await {
        if matches!(event, ExecEvent::Stdout(_)) {
            seen = true;
            break;
        }
    }
    ensure!(seen, "a command in the sandbox wrote nothing");
    Ok(())
}

/// Lets the sandbox be looked at from outside.
fn idle(sandbox: &Sandbox) -> Result<()> {
    let runtime = sandbox.local().and_then(|local| local.pid);
    let runtime = i32::try_from(runtime.context("it has no supervisor")?)?;
    let vmm = host::child(runtime, "msb-vmm").context("its supervisor has no VMM")?;
    let memory_mib = sandbox.config().resources.memory_mib;
    say(&json!({ "idle": { "runtime": runtime, "vmm": vmm, "memory_mib": memory_mib } }))?;
    let mut line = String::new();
    std::io::stdin().lock().read_line(&mut line)?;
    Ok(())
}

/// A home of its own with so many records, made from their directories: no machine boots for them.
async fn long_list(config: &SandboxConfig, rounds: u32) -> Result<()> {
    let home = tempfile::tempdir_in(home()?)?;
    for number in 0..RECORDS {
        let name = format!("record-{number}");
        write_directory(
            home.path(),
            SandboxConfig {
                name,
                ..config.clone()
            },
        )?;
    }
    let backend = LocalBackend::builder().home(home.path()).build().await?;
    fs::remove_file(home.path().join("db/catalog.redb"))?;
    backend.rebuild_catalog().await?;
    with_backend(Arc::new(backend), async {
        for _ in 0..rounds {
            let started = Instant::now();
            let handles = Sandbox::list().await?;
            tell("list1000_ms", started)?;
            ensure!(handles.len() == RECORDS, "{} records", handles.len());
        }
        Ok(())
    })
    .await
}

/// A sandbox's directory, in the form that docs/architecture.md gives it.
fn write_directory(home: &Path, config: SandboxConfig) -> Result<()> {
    let dir = home.join("sandboxes").join(&config.name);
    fs::create_dir_all(dir.join("logs"))?;
    let file = json!({ "created_at": "2026-01-01T00:00:00Z", "config": config });
    fs::write(dir.join("config.json"), file.to_string())?;
    Ok(())
}

fn tell(what: &str, started: Instant) -> Result<()> {
    let ms = started.elapsed().as_secs_f64() * 1e3;
    say(&json!({ "what": what, "ms": ms }))
}

fn say(value: &serde_json::Value) -> Result<()> {
    let mut stdout = std::io::stdout().lock();
    writeln!(stdout, "{value}")?;
    Ok(stdout.flush()?)
}
