//! How long is waited for a registry, and how often it is tried.

use std::time::Duration;

use tokio::time::Instant;

use super::error::{Failure, RegistryError};

/// How many bytes a try must bring for the tries to be counted anew: a large blob over a bad line comes in many
/// pieces, and one byte at a time is no way to be downloaded.
const WORTH_IT: u64 = 1 << 20;

/// How long is waited, and how often.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Timing {
    /// For a connection, with its TLS.
    pub connect: Duration,
    /// For the beginning of an answer, and for its next bytes.
    pub stall: Duration,
    /// For a whole manifest, configuration or token.
    pub document: Duration,
    /// Tries of one thing, with the first.
    pub tries: u32,
    /// Between the first try and the second. It doubles from one to the next, and is a little different each
    /// time, so that many who were cut at once do not come back at once.
    pub pause: Duration,
    /// The longest pause, also when a registry asks for more.
    pub longest_pause: Duration,
    /// How long somebody else on this host may download without anything coming.
    pub elsewhere: Duration,
}

impl Default for Timing {
    fn default() -> Self {
        Self {
            connect: Duration::from_secs(20),
            stall: Duration::from_secs(30),
            document: Duration::from_secs(60),
            tries: 6,
            pause: Duration::from_millis(250),
            longest_pause: Duration::from_secs(30),
            elsewhere: Duration::from_secs(300),
        }
    }
}

/// The tries of one thing.
#[derive(Debug)]
pub(super) struct Tries {
    timing: Timing,
    made: u32,
    came: u64,
}

impl Tries {
    pub(super) fn new(timing: Timing) -> Self {
        Self {
            timing,
            made: 0,
            came: 0,
        }
    }

    /// So many bytes came that had not come before.
    pub(super) fn came(&mut self, bytes: u64) {
        self.came = self.came.saturating_add(bytes);
        if self.came >= WORTH_IT {
            (self.made, self.came) = (0, 0);
        }
    }

    /// After a try that failed: waits until the next, or says that there is none.
    pub(super) async fn again(&mut self, failure: Failure) -> Result<(), RegistryError> {
        let (error, after) = match failure {
            Failure::Final(error) => return Err(error),
            Failure::Passing { error, after } => (error, after),
        };
        self.made += 1;
        if self.made >= self.timing.tries {
            return Err(error);
        }
        let longest = self.timing.longest_pause;
        let pause = match after {
            // Whoever is told to come tomorrow need not stay.
            Some(after) if after > longest => return Err(error),
            Some(after) => after,
            None => {
                let doubled = 1 << (self.made - 1).min(16);
                let pause = self.timing.pause.saturating_mul(doubled).min(longest);
                pause.mul_f64(0.75 + fastrand::f64() / 2.0)
            }
        };
        tracing::debug!(%error, ?pause, "another try");
        tokio::time::sleep_until(Instant::now() + pause).await;
        Ok(())
    }
}
