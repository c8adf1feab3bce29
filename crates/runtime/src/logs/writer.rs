//! The supervisor's side of `exec.log`.
//!
//! A full disk must not end a sandbox: a failed append is an error for the caller to look at, what it
//! would have written is counted, and the first append that works again says how much is missing.

use std::fs::File;
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use chrono::{DateTime, Utc};
use rustix::rand::{GetRandomFlags, getrandom};

use super::chain::{self, LogFile};
use super::cursor::FileId;
use super::rotate::Files;
use super::{EXEC_LOG, Limits, LogError, LogSource, format};

/// The most of an entry's data that goes in one line; a longer entry becomes several.
pub const MAX_CHUNK: usize = 64 * 1024;

/// What the log says first of each run.
pub const STARTED: &str = "--- sandbox started ---";

/// What the log says last of each run that ended in order.
pub const STOPPED: &str = "--- sandbox stopped ---";

/// Something to be logged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Entry<'a> {
    /// When it came. The log keeps milliseconds.
    pub timestamp: DateTime<Utc>,
    /// Where it came from.
    pub source: LogSource,
    /// Whose it is.
    pub session_id: Option<u64>,
    /// What it is; any bytes.
    pub data: &'a [u8],
}

/// What could not be written since the log last said so.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Losses {
    /// How many entries, whole or in part.
    pub entries: u64,
    /// How many bytes of their data.
    pub bytes: u64,
}

/// The log of one sandbox, open for writing. There is one writer at a time: the supervisor, which
/// holds the sandbox's lock.
///
/// Its calls write to a file and may block as long as the disk does.
#[derive(Debug)]
pub struct ExecLog {
    dir: PathBuf,
    limits: Limits,
    /// None until it could be opened.
    pub(super) live: Option<Live>,
    losses: Losses,
    line: Vec<u8>,
}

/// The file being written.
#[derive(Debug)]
pub(super) struct Live {
    pub(super) file: File,
    id: FileId,
    length: u64,
    header: u64,
    /// The last line has no newline yet.
    torn: bool,
}

impl ExecLog {
    /// Opens the log in `dir`, making both where they are missing.
    pub fn open(dir: &Path, limits: Limits) -> Result<Self, LogError> {
        let mut log = Self::unopened(dir, limits);
        log.live = Some(Live::open(&log.files(), dir).map_err(LogError::io(&log.path()))?);
        Ok(log)
    }

    /// A log that is opened by the first append that can. For a sandbox that starts although its log
    /// cannot be opened now: what it prints meanwhile is counted, and said when it can.
    pub fn unopened(dir: &Path, limits: Limits) -> Self {
        Self {
            dir: dir.to_owned(),
            limits,
            live: None,
            losses: Losses::default(),
            line: Vec::new(),
        }
    }

    /// Writes an entry. On an error what was not written is counted in [`Self::losses`], and a
    /// later append that works says so in the log first.
    pub fn append(&mut self, entry: &Entry<'_>) -> Result<(), LogError> {
        let mut rest = entry.data;
        let done = self.confess().and_then(|()| {
            loop {
                let (data, later) = rest.split_at(chunk_length(rest));
                self.write(&Entry { data, ..*entry })?;
                rest = later;
                if rest.is_empty() {
                    return Ok(());
                }
            }
        });
        done.map_err(|source| {
            self.losses.entries = self.losses.entries.saturating_add(1);
            self.losses.bytes = self.losses.bytes.saturating_add(count(rest));
            LogError::Io {
                path: self.path(),
                source,
            }
        })
    }

    /// Writes what the supervisor has to say, stamped with the present time: [`STARTED`], [`STOPPED`],
    /// or how much output never reached it.
    pub fn notice(&mut self, text: &str) -> Result<(), LogError> {
        self.append(&notice(text))
    }

    /// What could not be written and was not yet said in the log.
    pub fn losses(&self) -> Losses {
        self.losses
    }

    /// The live file.
    pub fn path(&self) -> PathBuf {
        self.files().path(0)
    }

    fn files(&self) -> Files {
        Files::new(&self.dir, EXEC_LOG, self.limits.kept)
    }

    /// Says in the log what it lacks.
    fn confess(&mut self) -> io::Result<()> {
        let Losses { entries, bytes } = self.losses;
        if self.losses == Losses::default() {
            return Ok(());
        }
        let text = format!(
            "--- {entries} entries ({bytes} bytes) are missing here: they could not be written ---"
        );
        self.write(&notice(&text))?;
        self.losses = Losses::default();
        Ok(())
    }

    fn write(&mut self, entry: &Entry<'_>) -> io::Result<()> {
        let mut line = std::mem::take(&mut self.line);
        line.clear();
        line.push(b'\n');
        let written = format::write_line(&mut line, entry)
            .map_err(io::Error::from)
            .and_then(|()| self.write_line(&line));
        self.line = line;
        written
    }

    /// Writes a line that has a newline at both ends; the first is left out where none is owed.
    fn write_line(&mut self, line: &[u8]) -> io::Result<()> {
        let files = self.files();
        let live = match &mut self.live {
            Some(live) => live,
            none => none.insert(Live::open(&files, &self.dir)?),
        };
        let full = live.length.saturating_add(count(line)) > self.limits.file_bytes;
        if full && live.length > live.header {
            *live = Live::begin(&files, next(live.id))?;
        }
        live.write(line)
    }
}

impl Live {
    /// Opens the live file where it goes on, or begins one.
    fn open(files: &Files, dir: &Path) -> io::Result<Self> {
        files.create_dir()?;
        files.prune();
        let chain = chain::open(dir).map_err(|error| match error {
            LogError::Io { source, .. } => source,
            other => io::Error::other(other),
        })?;
        let id = newest(&chain)?;
        let live = chain
            .last()
            .filter(|live| live.number == 0 && live.id == id);
        let Some(live) = live else {
            // None yet, or one that this module did not begin: that becomes an old one.
            return Self::begin(files, next(id));
        };
        let file = files.open_live()?;
        Ok(Self {
            length: file.metadata()?.len(),
            file,
            id,
            header: count(&format::write_header(id)?),
            torn: live.is_torn()?,
        })
    }

    /// Begins a file.
    fn begin(files: &Files, id: FileId) -> io::Result<Self> {
        let header = format::write_header(id)?;
        let length = count(&header);
        Ok(Self {
            file: files.rotate(&header)?,
            id,
            length,
            header: length,
            torn: false,
        })
    }

    fn write(&mut self, line: &[u8]) -> io::Result<()> {
        let line = line.get(usize::from(!self.torn)..).unwrap_or_default();
        let written = self.file.write_all(line);
        if written.is_ok() {
            self.length = self.length.saturating_add(count(line));
        } else if let Ok(metadata) = self.file.metadata() {
            self.length = metadata.len();
        }
        // Part of a line may be there. It stays, since a reader may have seen it, and ends with the next
        // line's newline.
        self.torn = written.is_err();
        written
    }
}

/// Which file of which log the newest one is; for a log that does not exist, the one before its first.
fn newest(chain: &[LogFile]) -> io::Result<FileId> {
    let known = chain.iter().rev().find(|file| file.id.seq > 0);
    if let Some(file) = known {
        return Ok(file.id);
    }
    let mut log = [0; 8];
    // Eight bytes come at once or not at all.
    getrandom(&mut log, GetRandomFlags::empty())?;
    Ok(FileId {
        log: u64::from_ne_bytes(log),
        seq: 0,
    })
}

fn next(id: FileId) -> FileId {
    FileId {
        seq: id.seq.saturating_add(1),
        ..id
    }
}

fn notice(text: &str) -> Entry<'_> {
    Entry {
        timestamp: Utc::now(),
        source: LogSource::System,
        session_id: None,
        data: text.as_bytes(),
    }
}

/// How much of the data goes in one line: no character of a text is cut for it.
fn chunk_length(data: &[u8]) -> usize {
    if data.len() <= MAX_CHUNK {
        return data.len();
    }
    let starts_character = |at: &usize| data.get(*at).is_some_and(|byte| byte & 0xc0 != 0x80);
    // A character has four bytes at most.
    (MAX_CHUNK - 3..=MAX_CHUNK)
        .rev()
        .find(starts_character)
        .unwrap_or(MAX_CHUNK)
}

fn count(bytes: &[u8]) -> u64 {
    u64::try_from(bytes.len()).unwrap_or(u64::MAX)
}
