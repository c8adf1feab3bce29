//! SIGKILL, to anything, at any moment: nothing is left, and the next start works.

use std::fs::File;
use std::process::Stdio;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use msb_tests::soak::{self, Limit};
use msb_tests::{Fixture, host, within};
use tokio::process::Command;

const ROUNDS: u64 = 50;

#[derive(Clone, Copy, Debug)]
enum Target {
    Program,
    Supervisor,
    Vmm,
}

/// One kill. Whether there was a supervisor by then.
async fn round(fixture: &Fixture, target: Target, after: Duration) -> Result<bool> {
    // A supervisor that fails by itself says why there.
    let said = fixture.path().join("said");
    let mut owner = Command::new(env!("CARGO_BIN_EXE_msb-test-owner"))
        .arg("victim")
        .arg(fixture.disk()?)
        .env("MSB_LOG", "warn")
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(File::create(&said)?)
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
    if let Err(error) = host::nothing_left().await {
        let said = std::fs::read_to_string(&said).unwrap_or_default();
        return Err(error.context(format!("they said: {said:?}")));
    }
    Ok(supervisor.is_some())
}

/// Kills until the limit is reached; then a sandbox must start.
async fn kill_until(limit: Limit) -> Result<()> {
    let seed = soak::seed()?;
    println!("MSB_TEST_SEED={seed}");
    let mut random = fastrand::Rng::with_seed(seed);
    let fixture = Fixture::new()?;
    // Later than a boot takes here, so that some rounds hit a sandbox that runs commands.
    let latest = 2 * boot_time().await?;
    let (mut rounds, mut hits) = (0, 0);
    while !limit.is_reached(rounds) {
        let target = [Target::Program, Target::Supervisor, Target::Vmm][random.usize(..3)];
        let after = latest.mul_f64(random.f64());
        let hit = round(&fixture, target, after)
            .await
            .with_context(|| format!("round {rounds}: {target:?} after {after:?}"))?;
        rounds += 1;
        hits += u64::from(hit);
    }
    println!("{rounds} rounds, {hits} of a sandbox that had a supervisor");
    // Else it was not sandboxes that were killed.
    assert!(hits >= rounds / 4, "{hits} of {rounds}");
    boot_time().await?;
    Ok(())
}

/// How long it takes until a sandbox has run its first command. Nothing is left of it.
async fn boot_time() -> Result<Duration> {
    let fixture = Fixture::new()?;
    let begun = Instant::now();
    let sandbox = fixture.sandbox("victim").await?;
    let output = within(sandbox.exec("true", [""; 0])).await?;
    assert!(output.status().success, "{output:?}");
    let took = begun.elapsed();
    within(sandbox.stop()).await?;
    host::nothing_left().await?;
    Ok(took)
}

#[tokio::test]
async fn fifty_kills_leave_nothing() -> Result<()> {
    kill_until(Limit::Rounds(ROUNDS)).await
}

/// `cargo xtask soak kill::soak --seconds N`
#[tokio::test]
#[ignore = "runs for as long as it is given"]
async fn soak() -> Result<()> {
    kill_until(Limit::from_env(ROUNDS)?).await
}
