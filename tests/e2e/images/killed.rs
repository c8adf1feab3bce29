//! SIGKILL in the middle of a pull: what is there by its name is complete, the next pull goes on, and nothing builds
//! up.

use std::path::Path;
use std::process::Stdio;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use microsandbox::Image;
use msb_tests::registry::Registry;
use msb_tests::soak::{self, Limit};
use msb_tests::{PATIENCE, host, images, within};
use tokio::process::{Child, Command};

use super::{Home, at_home};

const PULLER: &str = env!("CARGO_BIN_EXE_msb-test-puller");

const ROUNDS: u64 = 6;

/// How many rounds a soak has that is given no limit.
const SOAK_ROUNDS: u64 = 50;

/// From one look at what has come to the next.
const LOOK: Duration = Duration::from_millis(10);

/// Bytes of the layer at most, and of answers that pass of it.
const LAYER: u64 = 1_100_000;
const PASSES: u64 = 600_000;

/// Bytes of all files in a directory that changes.
fn bytes_in(dir: &Path) -> u64 {
    let entries = std::fs::read_dir(dir).into_iter().flatten().flatten();
    entries
        .filter_map(|entry| Some(entry.metadata().ok()?.len()))
        .sum()
}

fn puller(home: &Home, reference: &str) -> Result<Child> {
    Ok(Command::new(PULLER)
        .args(["killed", "go", reference])
        .env("MSB_HOME", &home.path)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .kill_on_drop(true)
        .spawn()?)
}

/// Pulls, boots and stops to the end, and says how long that took.
async fn undisturbed(home: &Home, reference: &str) -> Result<Duration> {
    let started = Instant::now();
    let end = within(puller(home, reference)?.wait_with_output()).await?;
    let errors = String::from_utf8_lossy(&end.stderr).into_owned();
    ensure!(end.status.success(), "{}: {errors}", end.status);
    Ok(started.elapsed())
}

async fn rounds(limit: Limit) -> Result<()> {
    let seed = soak::seed()?;
    println!("MSB_TEST_SEED={seed}");
    at_home(async |home| {
        let mut registry = Registry::start()?;
        let image = images::image("everything")?;
        let reference = registry.push(&image, "app:1")?;
        let whole = undisturbed(home, &reference).await?;
        home.emptied().await?;
        let mut rounds = 0;
        while !limit.is_reached(rounds) {
            let own = seed.wrapping_add(rounds);
            let mut random = fastrand::Rng::with_seed(own);
            let after = whole.mul_f64(random.f64());
            let round = round(home, &reference, after, random.bool()).await;
            round.with_context(|| {
                format!("round {rounds}, killed after {after:?}; again: MSB_TEST_SEED={own}")
            })?;
            rounds += 1;
        }
        println!("{rounds} rounds");
        undisturbed(home, &reference).await?;
        home.ensure_sound().await?;
        assert_eq!(Image::list(&home.local).await?.len(), 1);
        home.emptied().await?;
        registry.end()?;
        Ok(())
    })
    .await
}

/// Kills a program that pulls, and looks at what it left. `anew`: the next pull begins with nothing.
async fn round(home: &Home, reference: &str, after: Duration, anew: bool) -> Result<()> {
    let mut child = puller(home, reference)?;
    // The moment is what is drawn; whatever it hits is right.
    let ended = tokio::time::timeout(after, child.wait()).await;
    if ended.is_err() {
        child.start_kill()?;
    }
    tokio::time::timeout(PATIENCE, child.wait())
        .await
        .context("it does not die")??;
    host::nothing_left().await?;
    home.ensure_sound().await?;
    for handle in Image::list(&home.local).await? {
        ensure!(handle.layer_count() == 10, "{handle:?}");
    }
    if anew {
        return home.emptied().await;
    }
    // What is nobody's goes, and what comes next needs nothing of it.
    Image::gc(&home.local).await?;
    let tmp = home.counts()?.get("tmp").copied();
    ensure!(
        tmp == Some(0),
        "left over: {:?}",
        super::entries(&home.images("tmp"))?
    );
    Ok(())
}

#[tokio::test]
async fn a_pull_that_is_killed_leaves_nothing_by_halves() -> Result<()> {
    rounds(Limit::Rounds(ROUNDS)).await
}

/// `cargo xtask soak images::killed::soak --rounds N`
#[tokio::test]
#[ignore = "runs for as long as it is given"]
async fn soak() -> Result<()> {
    rounds(Limit::from_env(SOAK_ROUNDS)?).await
}

#[tokio::test]
async fn the_next_pull_goes_on_where_a_killed_one_ended() -> Result<()> {
    at_home(async |home| {
        let mut registry = Registry::start()?;
        registry.push(&images::image("busybox")?, "app:1")?;
        let gate = msb_tests::registry::Gate::to(registry.port())?;
        let reference = msb_tests::registry::reference(gate.port(), "app:1");
        // Some of the layer is here when the program dies; nothing more comes.
        let (tell, told) = std::sync::mpsc::channel();
        let partial = home.images("tmp");
        gate.close_after(PASSES, move || {
            let deadline = Instant::now() + PATIENCE;
            while Instant::now() < deadline && bytes_in(&partial) < PASSES / 2 {
                std::thread::sleep(LOOK);
            }
            told.recv().into_iter().for_each(host::kill);
        });
        let mut child = puller(home, &reference)?;
        tell.send(i32::try_from(child.id().context("it has ended")?)?)?;
        let status = within(child.wait()).await?;
        ensure!(!status.success(), "it was not killed");
        host::nothing_left().await?;
        home.ensure_sound().await?;
        let before = registry.end()?.len();
        registry.run()?;
        gate.open();
        undisturbed(home, &reference).await?;
        let requests = registry.end()?;
        let later = requests.get(before..).unwrap_or_default();
        let resumed = later.iter().find(|request| request.status == 206);
        let resumed = resumed.with_context(|| format!("it began anew: {later:?}"))?;
        ensure!(resumed.bytes < LAYER - PASSES / 2, "{resumed:?}");
        home.emptied().await
    })
    .await
}
