//! Why an operation on files failed.

use msb_protocol::FsFailure;

use crate::error::MicrosandboxError;

/// What a program matches on, in [`FsError::kind`].
pub use msb_protocol::FsFailureKind as FsErrorKind;

/// An operation on files that failed. Shown, it is a sentence with the path in it.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct FsError {
    /// What a program matches on.
    pub kind: FsErrorKind,
    /// What a person reads.
    pub message: String,
    /// The error number behind it, if any.
    pub errno: Option<i32>,
    /// Whose files it was about.
    pub side: FsSide,
}

/// Whose files something is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum FsSide {
    /// The guest's. It says so itself, so this is as true as the guest is.
    Guest,
    /// The host's, in a copy.
    Host,
}

impl FsError {
    pub(crate) fn guest(kind: FsErrorKind, message: impl Into<String>) -> Self {
        Self::of(FsFailure::new(kind, message), FsSide::Guest)
    }

    pub(crate) fn of(failure: FsFailure, side: FsSide) -> Self {
        Self {
            kind: failure.kind,
            message: failure.message,
            errno: failure.errno,
            side,
        }
    }

    pub(crate) fn too_large(path: &str, limit: usize) -> Self {
        let message = format!("{path}: it is more than the limit of {limit} bytes");
        Self::guest(FsErrorKind::TooLarge, message)
    }
}

impl std::fmt::Display for FsError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.side {
            FsSide::Guest => write!(f, "in the guest: {}", self.message),
            FsSide::Host => write!(f, "on the host: {}", self.message),
        }
    }
}

impl std::error::Error for FsError {}

impl From<FsError> for MicrosandboxError {
    fn from(error: FsError) -> Self {
        Self::SandboxFsOps(error)
    }
}
