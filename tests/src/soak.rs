//! How long a soak runs: the tests marked `#[ignore]`, started by `cargo xtask soak`.

use std::time::{Duration, Instant};

use anyhow::{Context, Result};

/// When a soak is over.
#[derive(Clone, Copy, Debug)]
pub enum Limit {
    /// After so many rounds: `MSB_SOAK_ROUNDS`.
    Rounds(u64),
    /// At this time: `MSB_SOAK_SECONDS` after it began.
    Until(Instant),
}

impl Limit {
    /// What the environment says; `rounds` when it says nothing.
    pub fn from_env(rounds: u64) -> Result<Self> {
        if let Some(rounds) = number("MSB_SOAK_ROUNDS")? {
            return Ok(Self::Rounds(rounds));
        }
        Ok(match number("MSB_SOAK_SECONDS")? {
            Some(seconds) => Self::Until(Instant::now() + Duration::from_secs(seconds)),
            None => Self::Rounds(rounds),
        })
    }

    /// Whether that is enough.
    pub fn is_reached(&self, rounds: u64) -> bool {
        match self {
            Self::Rounds(limit) => rounds >= *limit,
            Self::Until(end) => Instant::now() >= *end,
        }
    }
}

/// The seed of this run: `MSB_TEST_SEED`, or one that nobody had before.
pub fn seed() -> Result<u64> {
    Ok(number("MSB_TEST_SEED")?.unwrap_or_else(|| fastrand::u64(..)))
}

fn number(variable: &str) -> Result<Option<u64>> {
    match std::env::var(variable) {
        Ok(text) => Ok(Some(text.parse().with_context(|| {
            format!("{variable} is {text:?}, which is no number")
        })?)),
        Err(_) => Ok(None),
    }
}
