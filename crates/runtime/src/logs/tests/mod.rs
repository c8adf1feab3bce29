//! Tests of writing, reading and following.

mod crash;
mod files;
mod follow;
mod hostile;
mod roundtrip;

use std::path::Path;

use chrono::{DateTime, TimeDelta, Utc};

use super::*;

/// A time of the test's own, so that nothing depends on the clock.
fn at(milliseconds: i64) -> DateTime<Utc> {
    DateTime::UNIX_EPOCH + TimeDelta::milliseconds(1_767_323_045_678 + milliseconds)
}

fn stdout(data: &[u8]) -> Entry<'_> {
    Entry {
        timestamp: at(0),
        source: LogSource::Stdout,
        session_id: Some(7),
        data,
    }
}

fn small(file_bytes: u64) -> Limits {
    Limits {
        file_bytes,
        ..Limits::default()
    }
}

/// As much as never rotates away in a test.
fn roomy(file_bytes: u64) -> Limits {
    Limits {
        file_bytes,
        kept: MAX_KEPT,
    }
}

/// Every source.
fn everything() -> LogOptions {
    LogOptions {
        sources: vec![
            LogSource::Stdout,
            LogSource::Stderr,
            LogSource::Output,
            LogSource::System,
        ],
        ..LogOptions::default()
    }
}

fn texts(entries: &[LogEntry]) -> Vec<String> {
    entries
        .iter()
        .map(|entry| String::from_utf8_lossy(&entry.data).into_owned())
        .collect()
}

fn read_texts(dir: &Path, options: &LogOptions) -> Vec<String> {
    texts(&read_logs(dir, options).unwrap())
}
