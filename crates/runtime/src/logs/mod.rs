//! What a sandbox printed: written by its supervisor, read by any program.
//!
//! `<dir>/exec.log` has one JSON object in each line:
//!
//! ```text
//! {"log":"9f0c...","seq":4}                                                  the header, first line only
//! {"t":"2026-01-02T03:04:05.678Z","s":"stdout","d":"hello\n","id":7}
//! {"t":"2026-01-02T03:04:05.702Z","s":"stderr","d":"//4=","id":7,"e":"b64"}   not UTF-8
//! {"t":"2026-01-02T03:04:05.900Z","s":"system","d":"--- sandbox stopped ---"}
//! ```
//!
//! When the file would grow past its limit it becomes `exec.log.1`, that one `exec.log.2`, and so
//! on up to as many as are kept. The header says which log a file belongs to and which file of
//! it this is, counted from 1. A place in the log ([`LogCursor`]) is these two and an offset, so it
//! survives renaming, and a gap or a replaced log is noticed and never silently skipped.
//!
//! Each line is one write to a file opened for appending. Whoever is killed in the middle leaves at
//! most one torn line at the end; the reader does not take it for an entry, and the next writer
//! ends it with a newline. What the lines carry was said by a guest: the reader bounds
//! every line and passes over what it cannot understand.
//!
//! - writing: [`ExecLog`], and [`BoundedFile`] for bytes that are not lines (`kernel.log`)
//! - reading what is there: [`read_logs`], [`read_logs_snapshot`]
//! - following: [`log_stream`]

mod backward;
mod bounded;
mod chain;
mod cursor;
mod error;
mod follow;
mod format;
mod forward;
mod rotate;
mod scan;
mod snapshot;
#[cfg(test)]
mod tests;
mod types;
mod watch;
mod writer;

pub use bounded::BoundedFile;
pub use cursor::{LogCursor, LogCursorParseError};
pub use error::LogError;
pub use follow::log_stream;
pub use rotate::{Limits, MAX_KEPT};
pub use snapshot::{read_logs, read_logs_snapshot};
pub use types::{LogEntry, LogOptions, LogSnapshot, LogSource, LogStreamOptions, LogStreamStart};
pub use writer::{Entry, ExecLog, Losses, MAX_CHUNK, STARTED, STOPPED};

/// The live file's name; older ones have `.1`, `.2` ... behind it.
pub const EXEC_LOG: &str = "exec.log";

/// The guest kernel's console.
pub const KERNEL_LOG: &str = "kernel.log";
