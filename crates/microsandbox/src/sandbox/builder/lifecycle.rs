//! How long it lives, what is told of it, and what it is filed under.

use std::num::NonZeroU64;
use std::time::Duration;

use msb_types::LogLevel;

use super::SandboxBuilder;

impl SandboxBuilder {
    /// Files it under a label, by which it can be listed.
    #[must_use]
    pub fn label(mut self, key: impl Into<String>, value: impl Into<String>) -> Self {
        self.config.labels.insert(key.into(), value.into());
        self
    }

    /// Files it under labels.
    #[must_use]
    pub fn labels(
        mut self,
        labels: impl IntoIterator<Item = (impl Into<String>, impl Into<String>)>,
    ) -> Self {
        self.config.labels.extend(
            labels
                .into_iter()
                .map(|(key, value)| (key.into(), value.into())),
        );
        self
    }

    /// How much its supervisor writes to this program's standard error.
    #[must_use]
    pub fn log_level(mut self, level: LogLevel) -> Self {
        self.config.runtime.log_level = Some(level);
        self
    }

    /// Its supervisor writes nothing to this program's standard error. This is the default.
    #[must_use]
    pub fn quiet_logs(mut self) -> Self {
        self.config.runtime.log_level = None;
        self
    }

    /// No metrics are sampled.
    #[must_use]
    pub fn disable_metrics_sample(mut self) -> Self {
        self.config.runtime.disable_metrics_sample = true;
        self
    }

    /// How often metrics are sampled; every second when not set, and not at all when zero.
    #[must_use]
    pub fn metrics_sample_interval(mut self, interval: Duration) -> Self {
        let ms = match u64::try_from(interval.as_millis()).unwrap_or(u64::MAX) {
            // Less than a millisecond is no reason for none.
            0 if !interval.is_zero() => 1,
            ms => ms,
        };
        self.config.runtime.metrics_sample_interval_ms = NonZeroU64::new(ms);
        self.config.runtime.disable_metrics_sample = ms == 0;
        self
    }

    /// Stops and removes a sandbox of this name, if there is one; it has 10 seconds to stop.
    #[must_use]
    pub fn replace(mut self) -> Self {
        self.config.replace_existing = true;
        self
    }

    /// Stops and removes a sandbox of this name, if there is one; it has `timeout` to stop.
    #[must_use]
    pub fn replace_with_timeout(mut self, timeout: Duration) -> Self {
        self.config.replace_existing = true;
        self.config.replace_with_timeout = timeout;
        self
    }

    /// Whether it outlives this program.
    #[must_use]
    pub fn detached(mut self, detached: bool) -> Self {
        self.detached = detached;
        self
    }

    /// Whether nothing of it stays when it ends: no record, no logs.
    #[must_use]
    pub fn ephemeral(mut self, ephemeral: bool) -> Self {
        self.config.lifecycle.ephemeral = ephemeral;
        self
    }

    /// Stops it after so many seconds.
    #[must_use]
    pub fn max_duration(mut self, secs: u64) -> Self {
        self.config.lifecycle.max_duration_secs = Some(secs);
        self
    }

    /// Stops it when for so many seconds no command has run, no conversation with it was open, and
    /// its guest had no work.
    #[must_use]
    pub fn idle_timeout(mut self, secs: u64) -> Self {
        self.config.lifecycle.idle_timeout_secs = Some(secs);
        self
    }
}
