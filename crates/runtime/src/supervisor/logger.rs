//! Writes the sandbox's logs, on a thread of its own: a slow disk holds up nothing but logs.
//!
//! Behind a bounded queue. Who fills it waits, and so in the end does the guest's agent, which
//! then drops copies and says how much ([`super::monitor`]); no command waits for a log.

use std::io;
use std::path::Path;
use std::thread::JoinHandle;

use bytes::Bytes;
use chrono::{DateTime, Utc};
use msb_runtime::logs::{BoundedFile, Entry, ExecLog, Limits, LogSource};
use tokio::sync::mpsc;

/// How many pieces may wait to be written.
const QUEUE: usize = 64;

/// One thing to be written.
#[derive(Debug)]
pub(crate) enum Piece {
    /// A piece of a command's output, for `exec.log`.
    Output {
        at: DateTime<Utc>,
        session: u64,
        source: LogSource,
        data: Bytes,
    },
    /// What the supervisor itself says, for `exec.log`.
    System { at: DateTime<Utc>, text: String },
    /// Bytes of the guest's console, for `kernel.log`.
    Console(Bytes),
}

impl Piece {
    /// A piece of output that came just now.
    pub(crate) fn output(session: u64, source: LogSource, data: Bytes) -> Self {
        Self::Output {
            at: Utc::now(),
            session,
            source,
            data,
        }
    }

    /// A line of the supervisor's own.
    pub(crate) fn system(text: impl Into<String>) -> Self {
        Self::System {
            at: Utc::now(),
            text: text.into(),
        }
    }
}

/// Where to put them.
pub(crate) type Pieces = mpsc::Sender<Piece>;

/// The thread that writes.
#[derive(Debug)]
pub(crate) struct Logger {
    pieces: Pieces,
    thread: JoinHandle<()>,
}

impl Logger {
    /// Opens the logs in `dir` and starts writing.
    pub(crate) fn start(dir: &Path) -> io::Result<Self> {
        let exec = ExecLog::open(dir, Limits::default()).map_err(io::Error::other)?;
        let console =
            BoundedFile::open(dir, "kernel.log", BoundedFile::KERNEL).map_err(io::Error::other)?;
        let (pieces, waiting) = mpsc::channel(QUEUE);
        let thread = std::thread::Builder::new()
            .name("logger".to_owned())
            .spawn(move || write(exec, console, waiting))?;
        Ok(Self { pieces, thread })
    }

    /// Where to put what is to be written.
    pub(crate) fn pieces(&self) -> Pieces {
        self.pieces.clone()
    }

    /// Writes a line of the supervisor's own; without waiting, and not at all if the disk is
    /// that far behind.
    pub(crate) fn say(&self, text: &str) {
        let _ = self.pieces.try_send(Piece::system(text));
    }

    /// Says a last word and waits until everything is written. The other ends must be gone.
    pub(crate) async fn finish(self, last: &str) {
        let _ = self.pieces.send(Piece::system(last)).await;
        drop(self.pieces);
        let thread = self.thread;
        let _ = tokio::task::spawn_blocking(move || thread.join()).await;
    }
}

fn write(mut exec: ExecLog, mut console: BoundedFile, mut waiting: mpsc::Receiver<Piece>) {
    while let Some(piece) = waiting.blocking_recv() {
        let written = match piece {
            Piece::Output {
                at,
                session,
                source,
                data,
            } => exec.append(&Entry {
                timestamp: at,
                source,
                session_id: Some(session),
                data: &data,
            }),
            Piece::System { at, text } => exec.append(&Entry {
                timestamp: at,
                source: LogSource::System,
                session_id: None,
                data: text.as_bytes(),
            }),
            Piece::Console(bytes) => console.append(&bytes),
        };
        if let Err(error) = written {
            // What is lost is counted, and said in the log itself once it can be written again.
            tracing::debug!(%error, "a log cannot be written");
        }
    }
}
