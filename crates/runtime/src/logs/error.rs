//! What can go wrong with a log.

use std::io;
use std::path::{Path, PathBuf};

/// A log that could not be written or read.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum LogError {
    /// The host refused.
    #[error("cannot use {}", path.display())]
    Io {
        /// What was to be used.
        path: PathBuf,
        /// Why not.
        #[source]
        source: io::Error,
    },
    /// Entries are gone: the reader was slower than as many files as are kept.
    #[error(
        "log entries after offset {dropped_from_offset} are gone: their file was rotated out before it was read"
    )]
    MissedRotation {
        /// Up to where in its file the log had been read.
        dropped_from_offset: u64,
    },
    /// The cursor is no place between two entries of this log.
    #[error("the cursor is no place in this log; use one that an entry or a snapshot carried")]
    InvalidCursor,
    /// The kernel refused to watch the directory.
    #[error(
        "cannot watch {} for changes; fs.inotify.max_user_watches or max_user_instances may be too low",
        path.display()
    )]
    Watch {
        /// The directory.
        path: PathBuf,
        /// Why not.
        #[source]
        source: io::Error,
    },
}

impl LogError {
    /// Names the path to an error of the host's.
    pub(super) fn io(path: &Path) -> impl FnOnce(io::Error) -> Self {
        move |source| Self::Io {
            path: path.to_owned(),
            source,
        }
    }
}
