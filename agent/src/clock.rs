//! The guest's clock, kept to the host's.
//!
//! The kernel takes the time from the host once, when it starts. When the host's clock jumps after that
//! (it slept, or somebody set it), the host says what time it is. What it says was on its way for
//! nobody knows how long, so a difference that matters is asked about: the answer is no older than
//! the question, and half of the time between the two is the most that it is wrong by.

use std::cell::Cell;
use std::time::Duration;

use rustix::time::{ClockId, Timespec, clock_gettime, clock_settime};

use crate::log;

/// What the clock may be wrong by: less is not worth a jump.
const WRONG: u64 = 100_000_000;

/// How often one jump is asked about, where answers take long.
const QUESTIONS: u32 = 8;

const SECOND: u64 = 1_000_000_000;

/// What is known of the host's clock.
#[derive(Debug, Default)]
pub(crate) struct Clock {
    last: Cell<u32>,
    asked: Cell<Option<Question>>,
}

#[derive(Clone, Copy, Debug)]
struct Question {
    id: u32,
    at: Duration,
    /// How many more may follow.
    left: u32,
}

impl Clock {
    /// The host said what time it is, in answer to question `id` or (0) by itself. Sets the clock
    /// if it is wrong. Returns the question to be asked next, if there is one.
    pub(crate) fn told(&self, id: u32, unix_ns: u64) -> Option<u32> {
        let now = nanoseconds(ClockId::Realtime);
        if id == 0 {
            let differs = now.abs_diff(unix_ns) > WRONG;
            return differs.then(|| self.ask(QUESTIONS - 1));
        }
        let question = self.asked.get().filter(|question| question.id == id)?;
        self.asked.set(None);
        let took = uptime().saturating_sub(question.at);
        let took = u64::try_from(took.as_nanos()).unwrap_or(u64::MAX);
        if let Some(right) = correction(now, unix_ns, took) {
            set(right);
        }
        (took / 2 > WRONG && question.left > 0).then(|| self.ask(question.left - 1))
    }

    fn ask(&self, left: u32) -> u32 {
        let id = self.last.get().checked_add(1).unwrap_or(1);
        self.last.set(id);
        let at = uptime();
        self.asked.set(Some(Question { id, at, left }));
        id
    }
}

/// What the clock is to be set to, if it shows `now` and the host, `took` after it was asked, has
/// been heard to say `told`. All in nanoseconds.
fn correction(now: u64, told: u64, took: u64) -> Option<u64> {
    let right = told.saturating_add(took / 2);
    (now.abs_diff(right) > WRONG.saturating_add(took / 2)).then_some(right)
}

fn set(unix_ns: u64) {
    let time = Timespec {
        tv_sec: i64::try_from(unix_ns / SECOND).unwrap_or(i64::MAX),
        // Less than a second.
        tv_nsec: i64::try_from(unix_ns % SECOND).unwrap_or_default(),
    };
    match clock_settime(ClockId::Realtime, time) {
        Ok(()) => log::info("the clock was set by the host's"),
        Err(error) => log::error(&format!("the clock is wrong and cannot be set: {error}")),
    }
}

/// Time that no setting changes and no sleep stops.
fn uptime() -> Duration {
    Duration::from_nanos(nanoseconds(ClockId::Boottime))
}

/// A clock's nanoseconds; 0 for a time before it began.
fn nanoseconds(clock: ClockId) -> u64 {
    let now = clock_gettime(clock);
    let seconds = u64::try_from(now.tv_sec).unwrap_or_default();
    let rest = u64::try_from(now.tv_nsec).unwrap_or_default();
    seconds.saturating_mul(SECOND).saturating_add(rest)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const MS: u64 = 1_000_000;

    #[test]
    fn what_is_nearly_right_stays() {
        let host = 1_700_000_000 * SECOND;
        assert_eq!(correction(host, host, 0), None);
        assert_eq!(correction(host + 100 * MS, host, 0), None);
        assert_eq!(correction(host - 99 * MS, host, 0), None);
        assert_eq!(correction(host + 101 * MS, host, 0), Some(host));
        assert_eq!(correction(host - 101 * MS, host, 0), Some(host));
        assert_eq!(correction(0, host, 10 * MS), Some(host + 5 * MS));
    }

    #[test]
    fn a_slow_answer_is_no_reason_to_set_a_clock_that_is_right() {
        let host = 1_700_000_000 * SECOND;
        // It was read at once and its answer took all of three seconds, or the other way round.
        assert_eq!(correction(host + 3000 * MS, host, 3000 * MS), None);
        assert_eq!(correction(host, host, 3000 * MS), None);
    }

    proptest! {
        #[test]
        fn a_clock_that_is_right_is_never_set(
            host in 0..u64::MAX / 2, took in 0..100 * SECOND, part in 0.0..=1.0_f64
        ) {
            // The host read its clock somewhere on the way.
            #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)]
            #[allow(clippy::cast_precision_loss)]
            let since = (took as f64 * part) as u64;
            prop_assert_eq!(correction(host.saturating_add(since), host, took), None);
        }

        #[test]
        fn nothing_overflows(now: u64, told: u64, took: u64) {
            correction(now, told, took);
        }
    }

    #[test]
    fn a_difference_is_asked_about_and_only_its_own_answer_counts() {
        let clock = Clock::default();
        assert_eq!(clock.told(0, nanoseconds(ClockId::Realtime)), None);
        let id = clock.told(0, 0).unwrap();
        assert_eq!(clock.told(id + 7, 0), None, "never asked");
        // Right, and quick: all is well.
        assert_eq!(clock.told(id, nanoseconds(ClockId::Realtime)), None);
        assert_eq!(clock.told(id, 0), None, "answered already");
    }
}
