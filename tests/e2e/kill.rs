//! SIGKILL, to anything, at any moment: nothing is left, and the next start works.

use std::process::Stdio;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use msb_tests::{Fixture, host, within};
use tokio::process::Command;

const ROUNDS: u32 = 50;

/// Later than a boot takes, so that some rounds hit a sandbox that runs commands.
const LATEST: Duration = Duration::from_secs(5);

#[derive(Clone, Copy, Debug)]
enum Target {
    Program,
    Supervisor,
    Vmm,
}

async fn round(fixture: &Fixture, target: Target, after: Duration) -> Result<()> {
    let mut owner = Command::new(env!("CARGO_BIN_EXE_msb-test-owner"))
        .arg("victim")
        .arg(fixture.disk()?)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .kill_on_drop(true)
        .spawn()?;
    let pid = i32::try_from(owner.id().context("it has just been started")?)?;
    tokio::time::sleep(after).await;
    let supervisor = host::child(pid, "msb-runtime");
    let hit = match target {
        Target::Program => Some(pid),
        Target::Supervisor => supervisor,
        Target::Vmm => supervisor.and_then(|supervisor| host::child(supervisor, "msb-vmm")),
    };
    // Too early for a supervisor or a VMM: then the program it is.
    host::kill(hit.unwrap_or(pid));
    within(owner.wait()).await?;
    host::nothing_left().await
}

/// Kills until `done`, given the number of rounds so far, says so; then a sandbox must start.
async fn kill_until(done: impl Fn(u32) -> bool) -> Result<()> {
    let seed = std::env::var("MSB_TEST_SEED")
        .ok()
        .and_then(|seed| seed.parse().ok());
    let seed: u64 = seed.unwrap_or_else(|| fastrand::u64(..));
    println!("MSB_TEST_SEED={seed}");
    let mut random = fastrand::Rng::with_seed(seed);
    let fixture = Fixture::new()?;
    let mut rounds = 0;
    while !done(rounds) {
        let target = [Target::Program, Target::Supervisor, Target::Vmm][random.usize(..3)];
        let after = LATEST.mul_f64(random.f64());
        round(&fixture, target, after)
            .await
            .with_context(|| format!("round {rounds}: {target:?} after {after:?}"))?;
        rounds += 1;
    }
    println!("{rounds} rounds");
    let fresh = Fixture::new()?;
    let sandbox = fresh.sandbox("victim").await?;
    assert!(
        within(sandbox.exec("true", [""; 0]))
            .await?
            .status()
            .success
    );
    sandbox.stop().await?;
    host::nothing_left().await
}

#[tokio::test]
async fn fifty_kills_leave_nothing() -> Result<()> {
    kill_until(|rounds| rounds == ROUNDS).await
}

/// `cargo xtask soak kill::soak --seconds N`
#[tokio::test]
#[ignore = "runs for as long as MSB_SOAK_SECONDS says"]
async fn soak() -> Result<()> {
    let seconds = std::env::var("MSB_SOAK_SECONDS")?.parse()?;
    let started = Instant::now();
    kill_until(|_| started.elapsed() >= Duration::from_secs(seconds)).await
}
