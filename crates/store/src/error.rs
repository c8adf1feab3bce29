//! What can go wrong with the catalog, and what redb's errors mean in those terms.

use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use msb_types::InvalidName;

/// A catalog operation that did not succeed.
///
/// Unless the variant says otherwise, the catalog is as it was before.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StoreError {
    /// Another process held the catalog until the deadline.
    #[error(
        "the catalog {} was busy for {waited:?}; try again, or look for a stopped process that \
         has it open", path.display()
    )]
    Busy {
        /// The catalog.
        path: PathBuf,
        /// How long was waited.
        waited: Duration,
    },
    /// The deadline passed while the disk was writing the change.
    #[error(
        "the disk under {} did not answer within {waited:?} and the change may or may not have \
         been made; read the record before trying again", path.display()
    )]
    InDoubt {
        /// The catalog.
        path: PathBuf,
        /// How long was waited.
        waited: Duration,
    },
    /// The name is taken.
    #[error("a sandbox named {name:?} exists; remove it first, or choose another name")]
    AlreadyExists {
        /// The name.
        name: String,
    },
    /// There is no such sandbox.
    #[error("there is no sandbox named {name:?}")]
    NotFound {
        /// The name.
        name: String,
    },
    /// The name is not one a sandbox may have.
    #[error(transparent)]
    InvalidName(#[from] InvalidName),
    /// An update changed what may not change.
    #[error("the {field} of a sandbox cannot be changed")]
    Immutable {
        /// Which field.
        field: &'static str,
    },
    /// The record is longer than [`MAX_RECORD_BYTES`](crate::MAX_RECORD_BYTES).
    #[error("the record would take {size} bytes and may take {max}; shorten the configuration")]
    TooLarge {
        /// How long it would be.
        size: usize,
        /// How long it may be.
        max: usize,
    },
    /// The file was a catalog and can no longer be read.
    #[error("the catalog {} is damaged ({detail}); rebuild it", path.display())]
    Damaged {
        /// The catalog.
        path: PathBuf,
        /// What is wrong.
        detail: String,
    },
    /// The file is something else.
    #[error("{} is not a catalog ({detail}); move it away", path.display())]
    Foreign {
        /// The file.
        path: PathBuf,
        /// How that is known.
        detail: String,
    },
    /// A newer version of this library wrote the catalog.
    #[error(
        "the catalog {} has schema {found} and this library reads up to {supported}; upgrade it",
        path.display()
    )]
    NewerSchema {
        /// The catalog.
        path: PathBuf,
        /// Its schema.
        found: u64,
        /// The newest schema known here.
        supported: u32,
    },
    /// A process that locks in another way has the catalog open.
    #[error(
        "another program has {} open with an incompatible version of this library; end it, or \
         use the same version", path.display()
    )]
    Incompatible {
        /// The catalog.
        path: PathBuf,
    },
    /// The user may not read and write the file or its directory.
    #[error("no permission to read and write {}; give it to this user", path.display())]
    Permission {
        /// What was to be used.
        path: PathBuf,
        /// Why not.
        #[source]
        source: io::Error,
    },
    /// The file system is mounted read-only.
    #[error("{} is on a read-only file system; choose another MSB_HOME", path.display())]
    ReadOnly {
        /// What was to be used.
        path: PathBuf,
        /// Why not.
        #[source]
        source: io::Error,
    },
    /// The disk or the quota is full. If that was found at the very end of a commit, the change
    /// may have been made.
    #[error("no space is left for {}; free some", path.display())]
    NoSpace {
        /// What was to be written.
        path: PathBuf,
        /// Why not.
        #[source]
        source: io::Error,
    },
    /// The host refused. If it refused the very end of a commit, the change may have been made.
    #[error("cannot use the catalog {}", path.display())]
    Io {
        /// What was to be used.
        path: PathBuf,
        /// Why not.
        #[source]
        source: io::Error,
    },
}

impl StoreError {
    /// An error of the file system at `path`.
    pub(crate) fn io(path: &Path, source: io::Error) -> Self {
        use io::ErrorKind as Kind;
        let path = path.to_owned();
        match source.kind() {
            Kind::PermissionDenied => Self::Permission { path, source },
            Kind::ReadOnlyFilesystem => Self::ReadOnly { path, source },
            Kind::StorageFull | Kind::QuotaExceeded | Kind::FileTooLarge => {
                Self::NoSpace { path, source }
            }
            // redb's word for a page or header that is not there.
            Kind::UnexpectedEof | Kind::InvalidData => Self::Damaged {
                path,
                detail: source.to_string(),
            },
            _ => Self::Io { path, source },
        }
    }

    /// An error of redb about the catalog at `path`.
    fn redb(path: &Path, error: redb::Error) -> Self {
        use redb::Error as E;
        let owned = path.to_owned();
        match error {
            E::Io(source) => Self::io(path, source),
            E::DatabaseAlreadyOpen | E::WouldBlock => Self::Busy {
                path: owned,
                waited: Duration::ZERO,
            },
            E::LockProtocolMismatch => Self::Incompatible { path: owned },
            E::Corrupted(detail) => Self::Damaged {
                path: owned,
                detail,
            },
            E::UpgradeRequired(format) => Self::Foreign {
                path: owned,
                detail: format!("it has file format {format} of redb"),
            },
            error @ E::TableDoesNotExist(_) => Self::Damaged {
                path: owned,
                detail: error.to_string(),
            },
            error @ (E::TableTypeMismatch { .. }
            | E::TypeDefinitionChanged { .. }
            | E::TableIsMultimap(_)
            | E::TableIsNotMultimap(_)) => Self::Foreign {
                path: owned,
                detail: error.to_string(),
            },
            // What is left are misuses that the code here does not commit, a backend without
            // locks, and an earlier I/O error.
            error => Self::Io {
                path: owned,
                source: io::Error::other(error),
            },
        }
    }

    /// Whether the open database must be given up: what it holds in memory may no longer be what
    /// the file holds.
    pub(crate) fn spoils_the_database(&self) -> bool {
        match self {
            Self::AlreadyExists { .. }
            | Self::NotFound { .. }
            | Self::InvalidName(_)
            | Self::Immutable { .. }
            | Self::TooLarge { .. }
            | Self::Busy { .. } => false,
            Self::InDoubt { .. }
            | Self::Damaged { .. }
            | Self::Foreign { .. }
            | Self::NewerSchema { .. }
            | Self::Incompatible { .. }
            | Self::Permission { .. }
            | Self::ReadOnly { .. }
            | Self::NoSpace { .. }
            | Self::Io { .. } => true,
        }
    }
}

/// What fails inside a transaction, before the path of the file is put to it. Every error of redb
/// converts into it, so the code that works on tables reads as plain `?`.
#[derive(Debug)]
pub(crate) enum Fault {
    /// Already in the words of this crate.
    Store(StoreError),
    /// redb refused.
    Redb(Box<redb::Error>),
    /// What was read cannot be a catalog's.
    Damaged(String),
    /// What was read is another program's.
    Foreign(&'static str),
    /// What was read is of a newer schema.
    Newer(u64),
}

impl Fault {
    /// The same, for the catalog at `path`.
    pub(crate) fn at(self, path: &Path) -> StoreError {
        let owned = path.to_owned();
        match self {
            Self::Store(error) => error,
            Self::Redb(error) => StoreError::redb(path, *error),
            Self::Damaged(detail) => StoreError::Damaged {
                path: owned,
                detail,
            },
            Self::Foreign(detail) => StoreError::Foreign {
                path: owned,
                detail: detail.to_owned(),
            },
            Self::Newer(found) => StoreError::NewerSchema {
                path: owned,
                found,
                supported: crate::SCHEMA_VERSION,
            },
        }
    }
}

impl From<StoreError> for Fault {
    fn from(error: StoreError) -> Self {
        Self::Store(error)
    }
}

impl From<InvalidName> for Fault {
    fn from(error: InvalidName) -> Self {
        Self::Store(error.into())
    }
}

macro_rules! from_redb {
    ($($error:ty),+) => {$(
        impl From<$error> for Fault {
            fn from(error: $error) -> Self {
                Self::Redb(Box::new(error.into()))
            }
        }
    )+};
}

from_redb!(
    redb::CommitError,
    redb::DatabaseError,
    redb::StorageError,
    redb::TableError,
    redb::TransactionError
);
