//! Errors, as a person reads them: what failed, and why, and why; and not too often.

use std::error::Error;
use std::fmt::Write;
use std::sync::atomic::{AtomicU64, Ordering};

/// The error and all its causes in one line.
pub fn chain(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        // Writing to a string does not fail.
        let _ = write!(text, ": {error}");
        cause = error.source();
    }
    text
}

/// Times that something is said each time; after these, at each power of two.
const SAID_EACH_TIME: u64 = 4;

/// Counts something that a guest can cause without end, and says when it is worth a line.
#[derive(Debug, Default)]
pub struct Limiter(AtomicU64);

impl Limiter {
    /// Counts once more. `Some(count)`: say it.
    pub fn count(&self) -> Option<u64> {
        let count = self.0.fetch_add(1, Ordering::Relaxed).saturating_add(1);
        (count <= SAID_EACH_TIME || count.is_power_of_two()).then_some(count)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_thousand_times_are_a_dozen_lines() {
        let limiter = Limiter::default();
        let said: Vec<u64> = (0..1000).filter_map(|_| limiter.count()).collect();
        assert_eq!(said, [1, 2, 3, 4, 8, 16, 32, 64, 128, 256, 512]);
    }
}
