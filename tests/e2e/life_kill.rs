//! SIGKILL in the middle of a sandbox's life: whatever it hits, the next program sees the truth.
//!
//! A driver makes, starts, stops, pauses, drains and removes one sandbox at random, attached and
//! detached. At a random instant it is killed, or the supervisor, or the VMM, or all of them. Then
//! a fresh process looks: all has to agree, and the sandbox has to start.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use msb_tests::soak::{self, Limit};
use msb_tests::{Fixture, host};
use tokio::io::AsyncWriteExt;
use tokio::process::{Child, Command};

const DRIVER: &str = env!("CARGO_BIN_EXE_msb-test-driver");

const NAME: &str = "life";

const ROUNDS: u64 = 12;

/// How many rounds a soak has that is given no limit.
const SOAK_ROUNDS: u64 = 200;

/// Later than a boot takes, so that the kill hits every part of a life.
const LATEST: Duration = Duration::from_secs(8);

/// How long a driver may take to end or a look to be done: longer than any one of their steps.
const PATIENCE: Duration = Duration::from_secs(400);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Target {
    Program,
    Supervisor,
    Vmm,
    All,
}

/// What a round does, from its seed alone.
#[derive(Clone, Copy, Debug)]
struct Round {
    walk: u64,
    target: Target,
    after: Duration,
}

impl Round {
    fn new(seed: u64) -> Self {
        let mut random = fastrand::Rng::with_seed(seed);
        let targets = [
            Target::Program,
            Target::Supervisor,
            Target::Vmm,
            Target::All,
        ];
        Self {
            walk: random.u64(..),
            target: targets[random.usize(..targets.len())],
            after: LATEST.mul_f64(random.f64()),
        }
    }

    async fn run(self, fixture: &Fixture) -> Result<()> {
        let disk = fixture.disk_of(NAME)?;
        let mut driver = Program::start(fixture, ["alone", &self.walk.to_string(), NAME], &disk)?;
        tokio::time::sleep(self.after).await;
        self.strike(&mut driver.child).await?;
        // The end of its input has a driver end that lives on.
        let status = driver.ended().await?;
        if status.code().is_some_and(|code| code != 0) {
            bail!("the driver found a fault: {}", driver.told());
        }
        let mut look = Program::start(fixture, ["check", NAME], &disk)?;
        if !look.ended().await?.success() {
            bail!("what a fresh program sees is not true: {}", look.told());
        }
        Ok(())
    }

    /// Kills what is to be killed.
    async fn strike(self, driver: &mut Child) -> Result<()> {
        let pid = driver.id().context("the driver was not waited for yet")?;
        let pid = i32::try_from(pid)?;
        // Supervisors stay children of the program that started them for as long as it lives,
        // detached or not.
        let supervisors = host::children(pid, "msb-runtime");
        let vmms: Vec<i32> = supervisors
            .iter()
            .flat_map(|supervisor| host::children(*supervisor, "msb-vmm"))
            .collect();
        let hit = match self.target {
            Target::Program => vec![pid],
            Target::Supervisor => supervisors,
            Target::Vmm => vmms,
            Target::All => [vec![pid], supervisors, vmms].concat(),
        };
        // Nothing there at this instant: then the program it is.
        let hit = if hit.is_empty() { vec![pid] } else { hit };
        if let Some(mut orders) = driver.stdin.take() {
            // It may have found a fault and ended; then that is told below.
            let _ = orders.write_all(b"hurt\n").await;
            hit.iter().for_each(|pid| host::kill(*pid));
            if !hit.contains(&pid) {
                // Time to meet what has happened.
                tokio::time::sleep(self.after / 4).await;
            }
        }
        Ok(())
    }
}

/// A driver, and the file that it writes its errors to. A pipe would not do: with `MSB_LOG` a
/// supervisor that outlives the driver keeps it open.
struct Program {
    child: Child,
    errors: PathBuf,
}

impl Program {
    fn start<const N: usize>(fixture: &Fixture, args: [&str; N], disk: &Path) -> Result<Self> {
        let errors = fixture.path().join("errors");
        let child = Command::new(DRIVER)
            .args(args)
            .arg(disk)
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(File::create(&errors)?)
            .kill_on_drop(true)
            .spawn()?;
        Ok(Self { child, errors })
    }

    async fn ended(&mut self) -> Result<ExitStatus> {
        // Should nobody have done so yet: the end of its input.
        drop(self.child.stdin.take());
        match tokio::time::timeout(PATIENCE, self.child.wait()).await {
            Ok(status) => Ok(status?),
            Err(_) => bail!("it did not end within {PATIENCE:?}: {}", self.told()),
        }
    }

    fn told(&self) -> String {
        let errors = fs::read(&self.errors).unwrap_or_default();
        String::from_utf8_lossy(&errors).trim().to_owned()
    }
}

async fn rounds(limit: Limit) -> Result<()> {
    let seed = soak::seed()?;
    println!("MSB_TEST_SEED={seed}");
    let fixture = Fixture::new()?;
    let mut rounds = 0;
    while !limit.is_reached(rounds) {
        // A run that is given this seed begins with this round.
        let own = seed.wrapping_add(rounds);
        let round = Round::new(own);
        round.run(&fixture).await.with_context(|| {
            format!(
                "round {rounds} of MSB_TEST_SEED={seed} ({round:?}); again: MSB_TEST_SEED={own}"
            )
        })?;
        rounds += 1;
    }
    println!("{rounds} rounds");
    msb_tests::truth::emptied().await
}

#[tokio::test]
async fn a_fresh_program_sees_the_truth_after_any_kill() -> Result<()> {
    rounds(Limit::Rounds(ROUNDS)).await
}

/// `cargo xtask soak life_kill::soak --rounds N`
#[tokio::test]
#[ignore = "runs for as long as it is given"]
async fn soak() -> Result<()> {
    rounds(Limit::from_env(SOAK_ROUNDS)?).await
}
