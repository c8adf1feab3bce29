//! The clock that all processes of a host share.

use rustix::time::{ClockId, clock_gettime};

/// `CLOCK_MONOTONIC` in nanoseconds.
pub fn monotonic_ns() -> u64 {
    let now = clock_gettime(ClockId::Monotonic);
    let seconds = u64::try_from(now.tv_sec).unwrap_or_default();
    let nanoseconds = u64::try_from(now.tv_nsec).unwrap_or_default();
    seconds * 1_000_000_000 + nanoseconds
}

/// Says at debug level when a stage of the start was reached, after a time in `CLOCK_MONOTONIC`
/// nanoseconds.
pub fn stage(since_ns: u64, reached: &str) {
    if tracing::enabled!(tracing::Level::DEBUG) {
        let us = monotonic_ns().saturating_sub(since_ns) / 1000;
        tracing::debug!(us, "{reached}");
    }
}
