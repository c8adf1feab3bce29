//! Reading what is in the log now.
//!
//! All files are opened first, so that no rotation takes one away while they are read.

use std::collections::VecDeque;
use std::path::Path;

use super::backward::{LinesBack, last_boundary};
use super::chain::{self, LogFile};
use super::forward::Lines;
use super::types::Filter;
use super::{LogCursor, LogEntry, LogError, LogOptions, LogSnapshot, format};

/// The entries that are in the log of this directory, oldest first. A directory without a log, or that
/// does not exist, has none.
///
/// With [`LogOptions::tail`] the files are read from their end and memory is needed for that many
/// entries only. It reads files and may block.
pub fn read_logs(dir: &Path, options: &LogOptions) -> Result<Vec<LogEntry>, LogError> {
    Ok(read_logs_snapshot(dir, options)?.entries)
}

/// As [`read_logs`], and with the place where the log ended: a stream
/// [from](super::LogStreamStart::From) there goes on without loss or repetition.
pub fn read_logs_snapshot(dir: &Path, options: &LogOptions) -> Result<LogSnapshot, LogError> {
    let filter = Filter::new(&options.sources, options.since, options.until);
    let chain = chain::open(dir)?;
    let cursor = match chain.last() {
        Some(live) => {
            live.at(last_boundary(&live.file, live.length).map_err(LogError::io(&live.path))?)
        }
        None => LogCursor::empty(),
    };
    let entries = match options.tail {
        Some(count) => last(&chain, &filter, count)?,
        None => all(&chain, &filter)?,
    };
    Ok(LogSnapshot { entries, cursor })
}

fn all(chain: &[LogFile], filter: &Filter) -> Result<Vec<LogEntry>, LogError> {
    let mut entries = Vec::new();
    for log in chain {
        let mut lines = Lines::from(0);
        let mut keep = |line: &[u8], end| entries.extend(wanted(log, filter, line, end));
        while lines
            .read(&log.file, log.length, &mut keep)
            .map_err(LogError::io(&log.path))?
            > 0
        {}
    }
    Ok(entries)
}

fn last(chain: &[LogFile], filter: &Filter, count: usize) -> Result<Vec<LogEntry>, LogError> {
    let mut entries = VecDeque::new();
    for log in chain.iter().rev() {
        let mut lines = LinesBack::before(&log.file, log.length);
        while entries.len() < count {
            match lines.next().map_err(LogError::io(&log.path))? {
                Some((line, end)) => {
                    if let Some(entry) = wanted(log, filter, &line, end) {
                        entries.push_front(entry);
                    }
                }
                None => break,
            }
        }
    }
    Ok(entries.into())
}

fn wanted(log: &LogFile, filter: &Filter, line: &[u8], end: u64) -> Option<LogEntry> {
    let entry = format::parse_line(line, log.at(end))?;
    filter
        .passes(entry.source, entry.timestamp)
        .then_some(entry)
}
