//! The host's clock, watched for jumps: somebody sets it, or the host wakes from a sleep.
//!
//! The kernel tells of both. A timer on the wall clock that is never due is called off when the clock is
//! set, and that is an event like any other: nothing is looked at again and again. A sleep shows
//! itself in the difference of two other clocks, of which only one goes on meanwhile.

use std::io;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use rustix::io::Errno;
use rustix::time::{
    ClockId, Itimerspec, TimerfdClockId, TimerfdFlags, TimerfdTimerFlags, Timespec, clock_gettime,
    timerfd_create, timerfd_settime,
};
use tokio::net::unix::pipe::Receiver;

use super::event::{Event, Events};

/// In which year the timer would be due: the 2200s, and by then somebody has set the clock.
const NEVER: i64 = 1 << 33;

/// Now, as the guest is to have it: nanoseconds since 1970.
pub(crate) fn unix_ns() -> u64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH);
    u64::try_from(now.unwrap_or_default().as_nanos()).unwrap_or(u64::MAX)
}

/// Tells of every jump for as long as the supervisor lives.
pub(crate) fn watch(events: Events) {
    tokio::spawn(async move {
        if let Err(error) = follow(&events).await {
            tracing::warn!(%error, "the host's clock cannot be watched");
        }
    });
}

async fn follow(events: &Events) -> io::Result<()> {
    let timer = Timer::new()?;
    let mut asleep = asleep();
    loop {
        timer.jumped().await?;
        let before = std::mem::replace(&mut asleep, self::asleep());
        let slept = asleep.saturating_sub(before);
        tracing::info!(?slept, "the host's clock jumped");
        if events.send(Event::ClockJumped).await.is_err() {
            return Ok(());
        }
    }
}

/// For how long the host has slept since it started.
fn asleep() -> Duration {
    let since = |clock| {
        let now = clock_gettime(clock);
        let seconds = u64::try_from(now.tv_sec).unwrap_or_default();
        Duration::new(seconds, u32::try_from(now.tv_nsec).unwrap_or_default())
    };
    // In this order, so that the time between the two is none of it.
    let all = since(ClockId::Boottime);
    all.saturating_sub(since(ClockId::Monotonic))
}

/// A timer that is only ever called off.
///
/// Tokio has no type for timers of the kernel; its pipe carries the descriptor and waits for it.
struct Timer(Receiver);

impl Timer {
    fn new() -> io::Result<Self> {
        let flags = TimerfdFlags::CLOEXEC | TimerfdFlags::NONBLOCK;
        let timer = timerfd_create(TimerfdClockId::Realtime, flags)?;
        let timer = Self(Receiver::from_owned_fd_unchecked(timer)?);
        timer.arm()?;
        Ok(timer)
    }

    fn arm(&self) -> io::Result<()> {
        let zero = Timespec {
            tv_sec: 0,
            tv_nsec: 0,
        };
        let never = Itimerspec {
            it_interval: zero,
            it_value: Timespec {
                tv_sec: NEVER,
                tv_nsec: 0,
            },
        };
        let flags = TimerfdTimerFlags::ABSTIME | TimerfdTimerFlags::CANCEL_ON_SET;
        timerfd_settime(&self.0, flags, &never)?;
        Ok(())
    }

    /// Waits until the clock jumps.
    async fn jumped(&self) -> io::Result<()> {
        loop {
            self.0.readable().await?;
            let called_off = Some(Errno::CANCELED.raw_os_error());
            match self.0.try_read(&mut [0; 8]) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) if error.raw_os_error() != called_off => return Err(error),
                // Called off; or, in that year, due.
                Err(_) | Ok(_) => return self.arm(),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_clock_that_is_left_alone_tells_nothing() {
        let timer = Timer::new().unwrap();
        let jumped = tokio::time::timeout(Duration::from_millis(50), timer.jumped()).await;
        assert!(jumped.is_err());
    }

    #[test]
    fn sleep_is_what_one_clock_misses() {
        // This host does not sleep while it runs a test.
        assert!(asleep().abs_diff(asleep()) < Duration::from_secs(1));
        assert!(unix_ns() > 1_700_000_000_000_000_000);
    }
}
