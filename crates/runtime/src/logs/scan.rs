//! Walking through the log from some place on, from file to file while they are being rotated.
//!
//! The file being read stays open, so renaming or removing it takes nothing away. It is finished when
//! another one has come after it; then what is left of it is read, and only then the next one begun.

use std::collections::VecDeque;
use std::path::PathBuf;

use super::chain::{self, LogFile};
use super::forward::Lines;
use super::types::Filter;
use super::{LogCursor, LogEntry, LogError, format};

/// What a read came upon.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Found {
    /// Perhaps entries; there is more to read.
    More,
    /// The end of what is there now.
    Idle,
    /// The end of what was asked for.
    End,
}

/// A reader's place in the log. Its calls read files.
#[derive(Debug)]
pub(super) struct Scanner {
    dir: PathBuf,
    filter: Filter,
    /// Where to begin, while no file is open.
    start: LogCursor,
    current: Option<(LogFile, Lines)>,
    /// The file after the current one, and whether some between them are gone.
    next: Option<(LogFile, bool)>,
    /// What comes later is not asked for.
    closing: bool,
    /// The end of the log when closing began.
    limit: Option<LogCursor>,
}

impl Scanner {
    pub(super) fn new(dir: PathBuf, filter: Filter, start: LogCursor) -> Self {
        Self {
            dir,
            filter,
            start,
            current: None,
            next: None,
            closing: false,
            limit: None,
        }
    }

    /// From now on only what the log has at this moment is read.
    pub(super) fn close(&mut self) -> Result<(), LogError> {
        if !self.closing {
            self.limit = chain::open(&self.dir)?
                .last()
                .map(|live| live.at(live.length));
            self.closing = true;
        }
        Ok(())
    }

    /// Reads on, a block at most, and adds the entries that are wanted.
    pub(super) fn read(&mut self, ready: &mut VecDeque<LogEntry>) -> Result<Found, LogError> {
        let Some((log, lines)) = &mut self.current else {
            return self.locate();
        };
        let limit = self.limit.filter(|limit| limit.file == log.id);
        let end = limit.map_or(u64::MAX, |limit| limit.offset);
        let filter = &self.filter;
        let mut past = false;
        let read = lines
            .read(&log.file, end, |line, end| {
                let Some(entry) = format::parse_line(line, log.at(end)) else {
                    return;
                };
                past |= filter.is_past(entry.timestamp);
                if !past && filter.passes(entry.source, entry.timestamp) {
                    ready.push_back(entry);
                }
            })
            .map_err(LogError::io(&log.path))?;
        match read {
            _ if past => Ok(Found::End),
            0 if limit.is_some() => Ok(Found::End),
            0 => self.at_end_of_file(),
            _ => Ok(Found::More),
        }
    }

    /// Opens the file to begin with.
    fn locate(&mut self) -> Result<Found, LogError> {
        let mut files = chain::open(&self.dir)?.into_iter();
        let found = match self.start.is_empty() {
            true => files.next(),
            false => files.find(|file| file.id == self.start.file),
        };
        let Some(log) = found else {
            if self.start.is_empty() {
                return Ok(self.idle());
            }
            let dropped_from_offset = self.start.offset;
            self.start = LogCursor::empty();
            return Err(LogError::MissedRotation {
                dropped_from_offset,
            });
        };
        let offset = self.start.offset;
        if !log.is_boundary(offset).map_err(LogError::io(&log.path))? {
            return Err(LogError::InvalidCursor);
        }
        self.current = Some((log, Lines::from(offset)));
        Ok(Found::More)
    }

    fn idle(&self) -> Found {
        match self.closing {
            true => Found::End,
            false => Found::Idle,
        }
    }

    /// There is no more in the current file: for now, or for ever?
    fn at_end_of_file(&mut self) -> Result<Found, LogError> {
        let Some((log, lines)) = &self.current else {
            return Ok(self.idle());
        };
        let dropped_from_offset = lines.boundary();
        if let Some((next, gap)) = self.next.take() {
            let passed = self.limit.is_some_and(|limit| {
                limit.file.log == log.id.log
                    && (next.id.log != limit.file.log || next.id.seq > limit.file.seq)
            });
            if passed {
                return Ok(Found::End);
            }
            self.current = Some((next, Lines::from(0)));
            return match gap {
                true => Err(LogError::MissedRotation {
                    dropped_from_offset,
                }),
                false => Ok(Found::More),
            };
        }
        let metadata = log.file.metadata().map_err(LogError::io(&log.path))?;
        if metadata.len() < lines.read_to() {
            // Somebody emptied it.
            self.current = None;
            self.start = LogCursor::empty();
            return Err(LogError::MissedRotation {
                dropped_from_offset,
            });
        }
        if chain::is_live(&self.dir, log.inode) {
            return Ok(self.idle());
        }
        self.next = successor(chain::open(&self.dir)?, log);
        // What was written to this one before the next one came is read first.
        Ok(match self.next {
            Some(_) => Found::More,
            None => self.idle(),
        })
    }
}

/// The file after `log`, and whether some between them are gone.
fn successor(mut files: Vec<LogFile>, log: &LogFile) -> Option<(LogFile, bool)> {
    let id = log.id;
    let gap = |next: &LogFile| match next.id.log == id.log {
        true => Some(next.id.seq) != id.seq.checked_add(1),
        // Another log: nothing of it is gone if its first file is there.
        false => next.id.seq > 1 && id.seq > 0,
    };
    let known = files.iter().position(|file| file.inode == log.inode);
    let at = match known {
        Some(known) => known + 1,
        None => files
            .iter()
            .position(|file| file.id.log == id.log && file.id.seq > id.seq)
            .or_else(|| files.iter().position(|file| file.id.log != id.log))?,
    };
    (at < files.len()).then(|| {
        let next = files.swap_remove(at);
        let gap = gap(&next);
        (next, gap)
    })
}
