//! The guest's clock follows the host's.

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use anyhow::{Result, ensure};
use microsandbox::Sandbox;
use msb_tests::{Fixture, PATIENCE};
use rustix::io::Errno;
use rustix::time::{ClockId, clock_gettime, clock_settime};

use super::{LOOK, prints};

/// By how many seconds the clock may be wrong: it says whole ones, and looking takes time.
const WRONG: f64 = 5.0;

async fn difference(sandbox: &Sandbox) -> Result<f64> {
    let guest: f64 = prints(sandbox, "date +%s").await?.trim().parse()?;
    let host = SystemTime::now().duration_since(UNIX_EPOCH)?.as_secs_f64();
    Ok((guest - host).abs())
}

async fn is_right(sandbox: &Sandbox) -> Result<()> {
    let deadline = Instant::now() + PATIENCE;
    loop {
        let wrong = difference(sandbox).await?;
        if wrong < WRONG {
            return Ok(());
        }
        ensure!(Instant::now() < deadline, "wrong by {wrong} s");
        tokio::time::sleep(LOOK).await;
    }
}

#[tokio::test]
async fn a_clock_that_went_wrong_is_right_after_a_resume() -> Result<()> {
    let fixture = Fixture::new()?;
    let sandbox = fixture.sandbox("clock-pause").await?;
    ensure!(difference(&sandbox).await? < WRONG);
    prints(&sandbox, "date -s @1000000000").await?;
    ensure!(difference(&sandbox).await? > WRONG);
    sandbox.pause().await?;
    sandbox.resume().await?;
    is_right(&sandbox).await?;
    sandbox.stop_with_timeout(PATIENCE).await?;
    Ok(())
}

/// The host's clock is set to what it shows: to the kernel that is a jump like any other, and nobody
/// else notices.
#[tokio::test]
async fn a_clock_that_went_wrong_is_right_when_the_hosts_was_set() -> Result<()> {
    let fixture = Fixture::new()?;
    let sandbox = fixture.sandbox("clock-jump").await?;
    prints(&sandbox, "date -s @1000000000").await?;
    // The supervisor may not have begun to watch when the sandbox runs, so once may not be enough.
    let deadline = Instant::now() + PATIENCE;
    while difference(&sandbox).await? > WRONG {
        ensure!(Instant::now() < deadline, "the guest was not told");
        match clock_settime(ClockId::Realtime, clock_gettime(ClockId::Realtime)) {
            Err(Errno::PERM) => {
                println!("skipped: the host's clock may not be set");
                break;
            }
            other => other?,
        }
        tokio::time::sleep(Duration::from_millis(500)).await;
    }
    sandbox.stop_with_timeout(PATIENCE).await?;
    Ok(())
}
