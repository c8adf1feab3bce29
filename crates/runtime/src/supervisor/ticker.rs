//! A tick that wakes its process once.
//!
//! tokio keeps its timers in wheels of several sizes and wakes when one moves from a wheel to the
//! next, so a tick each second costs two wake-ups or three. A timer of the kernel's, watched as a
//! file, costs the one. For what ticks as long as a sandbox runs that is worth a file.

use std::io;
use std::time::Duration;

use rustix::time::{
    Itimerspec, TimerfdClockId, TimerfdFlags, TimerfdTimerFlags, Timespec, timerfd_create,
    timerfd_settime,
};
use tokio::net::unix::pipe::Receiver;

/// No period is shorter.
const SHORTEST: Duration = Duration::from_millis(10);

/// Ticks once at once, and then once each period. Ticks that nobody waited for are one.
#[derive(Debug)]
pub(crate) struct Ticker {
    /// A pipe to tokio: something that is readable now and then.
    timer: Receiver,
}

impl Ticker {
    /// One with this period, within a tokio runtime.
    pub(crate) fn new(period: Duration) -> io::Result<Self> {
        let flags = TimerfdFlags::CLOEXEC | TimerfdFlags::NONBLOCK;
        let timer = timerfd_create(TimerfdClockId::Monotonic, flags)?;
        let period = Timespec::try_from(period.max(SHORTEST)).map_err(io::Error::other)?;
        let times = Itimerspec {
            it_interval: period,
            // Nothing at all would mean that it never ticks.
            it_value: Timespec {
                tv_sec: 0,
                tv_nsec: 1,
            },
        };
        timerfd_settime(&timer, TimerfdTimerFlags::empty(), &times)?;
        Ok(Self {
            timer: Receiver::from_owned_fd_unchecked(timer)?,
        })
    }

    /// Waits for the next tick. A wait that is given up loses none.
    pub(crate) async fn tick(&self) -> io::Result<()> {
        loop {
            self.timer.readable().await?;
            let mut ticks = [0; 8];
            match self.timer.try_read(&mut ticks) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                read => return read.map(drop),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn the_first_tick_is_at_once_and_the_next_after_a_period() {
        let began = std::time::Instant::now();
        let hour = Ticker::new(Duration::from_secs(3600)).unwrap();
        hour.tick().await.unwrap();
        assert!(began.elapsed() < Duration::from_secs(3600));
        let soon = tokio::time::timeout(Duration::from_millis(50), hour.tick());
        assert!(soon.await.is_err());

        let often = Ticker::new(Duration::ZERO).unwrap();
        let began = std::time::Instant::now();
        for _ in 0..4 {
            often.tick().await.unwrap();
        }
        // The first may come late, and the second then comes the sooner.
        assert!(began.elapsed() >= SHORTEST * 2);
    }

    #[tokio::test]
    async fn ticks_that_nobody_waited_for_are_one() {
        let often = Ticker::new(SHORTEST).unwrap();
        tokio::time::sleep(SHORTEST * 8).await;
        let began = std::time::Instant::now();
        for _ in 0..4 {
            often.tick().await.unwrap();
        }
        assert!(began.elapsed() >= SHORTEST * 2);
    }
}
