//! What a reader asks for and what it gets.

use bytes::Bytes;
use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};

use super::LogCursor;

/// Where output came from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum LogSource {
    /// A command's standard output.
    Stdout,
    /// A command's standard error.
    Stderr,
    /// What a command on a terminal printed: both streams in one.
    Output,
    /// What the supervisor has to say: start, stop, what was lost.
    System,
}

impl LogSource {
    /// As it stands in the file.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Stdout => "stdout",
            Self::Stderr => "stderr",
            Self::Output => "output",
            Self::System => "system",
        }
    }
}

impl std::fmt::Display for LogSource {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.as_str())
    }
}

/// A piece of output, as it came.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogEntry {
    /// When the supervisor got it.
    pub timestamp: DateTime<Utc>,
    /// Where it came from.
    pub source: LogSource,
    /// The session that printed it; none for [`LogSource::System`].
    pub session_id: Option<u64>,
    /// The bytes, exactly as printed.
    pub data: Bytes,
    /// The place right after this entry, for [`LogStreamStart::From`].
    pub cursor: LogCursor,
}

/// Which entries [`read_logs`](super::read_logs) gives.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LogOptions {
    /// Only the last so many of those that the other options let through.
    pub tail: Option<usize>,
    /// Only entries of this time or later.
    pub since: Option<DateTime<Utc>>,
    /// Only entries before this time.
    pub until: Option<DateTime<Utc>>,
    /// Only entries of these sources. Empty means all that commands printed: stdout, stderr and
    /// output.
    pub sources: Vec<LogSource>,
}

/// What was in the log at one moment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogSnapshot {
    /// The entries asked for, oldest first.
    pub entries: Vec<LogEntry>,
    /// The end of the log at that moment: following from here gives all that came later.
    pub cursor: LogCursor,
}

/// Where a [`log_stream`](super::log_stream) begins.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum LogStreamStart {
    /// With the oldest entry that is kept.
    #[default]
    Beginning,
    /// With the first entry of this time or later.
    Since(DateTime<Utc>),
    /// Right after a place that was seen before. The empty cursor is the beginning.
    From(LogCursor),
}

/// Which entries a [`log_stream`](super::log_stream) gives, and when it ends.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LogStreamOptions {
    /// As in [`LogOptions::sources`].
    pub sources: Vec<LogSource>,
    /// Where to begin.
    pub start: LogStreamStart,
    /// The stream ends at the first entry of this time or later, or when this time comes.
    pub until: Option<DateTime<Utc>>,
    /// Whether to wait for more at the end of the log. Otherwise the stream ends there.
    pub follow: bool,
}

/// What entries must be to be given out.
#[derive(Clone, Debug)]
pub(super) struct Filter {
    sources: [bool; 4],
    since: Option<DateTime<Utc>>,
    pub(super) until: Option<DateTime<Utc>>,
}

impl Filter {
    pub(super) fn new(
        sources: &[LogSource],
        since: Option<DateTime<Utc>>,
        until: Option<DateTime<Utc>>,
    ) -> Self {
        use LogSource::{Output, Stderr, Stdout, System};
        let wanted = match sources {
            [] => &[Stdout, Stderr, Output],
            some => some,
        };
        Self {
            sources: [Stdout, Stderr, Output, System].map(|source| wanted.contains(&source)),
            since,
            until,
        }
    }

    /// Whether an entry is wanted.
    pub(super) fn passes(&self, source: LogSource, timestamp: DateTime<Utc>) -> bool {
        let [stdout, stderr, output, system] = self.sources;
        let wanted = match source {
            LogSource::Stdout => stdout,
            LogSource::Stderr => stderr,
            LogSource::Output => output,
            LogSource::System => system,
        };
        wanted && self.since.is_none_or(|since| timestamp >= since) && !self.is_past(timestamp)
    }

    /// Whether an entry of this time is past the end that was asked for.
    pub(super) fn is_past(&self, timestamp: DateTime<Utc>) -> bool {
        self.until.is_some_and(|until| timestamp >= until)
    }
}
