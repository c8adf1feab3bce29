//! Why an operation on files failed.
//!
//! The kind is what a program matches on. It is told apart by what a caller would do about it,
//! not by error number, of which several come to the same.

use serde::{Deserialize, Serialize};

/// An operation on files that failed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FsFailure {
    /// What a program matches on.
    pub kind: FsFailureKind,
    /// What a person reads, with the path in it.
    pub message: String,
    /// The error number behind it, if any.
    pub errno: Option<i32>,
}

impl FsFailure {
    /// One that no error number is behind.
    pub fn new(kind: FsFailureKind, message: impl Into<String>) -> Self {
        Self {
            kind,
            message: message.into(),
            errno: None,
        }
    }
}

impl std::fmt::Display for FsFailure {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for FsFailure {}

/// Kinds of [`FsFailure`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[non_exhaustive]
pub enum FsFailureKind {
    /// There is nothing of that name.
    NotFound,
    /// It is there, and may not be used so.
    PermissionDenied,
    /// Something of that name is there already.
    AlreadyExists,
    /// A directory was needed, and something else is there.
    NotADirectory,
    /// A directory is there, where something else was needed.
    IsADirectory,
    /// The directory has something in it.
    NotEmpty,
    /// The file system, or the quota, is full.
    NoSpace,
    /// The file system is mounted read-only.
    ReadOnly,
    /// The name or the path is longer than the kernel takes.
    NameTooLong,
    /// Symbolic links lead round in a circle, or are too many.
    Loop,
    /// The name is empty, or has a zero byte or a slash in it, or is `.` or `..`.
    InvalidName,
    /// It became something else while it was worked on.
    ChangedUnderneath,
    /// It is more than fits: in memory, for a call that returns all at once, or in a file.
    TooLarge,
    /// Directories are within one another deeper than is followed.
    TooDeep,
    /// It is in use: a running program, a mount point.
    Busy,
    /// The two places are on different file systems.
    CrossDevice,
    /// This kind of file, or this file system, cannot do that.
    NotSupported,
    /// An argument makes no sense.
    InvalidArgument,
    /// It is not text in UTF-8.
    NotUtf8,
    /// No memory, descriptor or worker was left for it; it may be tried again.
    ResourceExhausted,
    /// Whoever asked for it is gone.
    Cancelled,
    /// The parts that were sent are not a tree.
    BadTree,
    /// The device failed, or anything else the kernel said.
    Other,
}
