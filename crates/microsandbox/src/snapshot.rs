//! Snapshots: what is kept of a stopped sandbox's files, to make others from.
//!
//! This release makes none; asking for one is a typed error.

use std::path::{Path, PathBuf};

use crate::error::{MicrosandboxError, MicrosandboxResult};

/// A snapshot of a sandbox.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Snapshot {
    path: PathBuf,
    digest: String,
    size_bytes: u64,
}

impl Snapshot {
    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// What it is.
    pub fn digest(&self) -> &str {
        &self.digest
    }

    /// How large it is, in bytes.
    pub fn size_bytes(&self) -> u64 {
        self.size_bytes
    }
}

/// The error for all that needs snapshots.
pub(crate) fn unsupported(what: impl Into<String>) -> MicrosandboxError {
    MicrosandboxError::Unsupported {
        feature: what.into(),
        available_when: "make a sandbox from a copy of the stopped sandbox's disk image".to_owned(),
    }
}

/// Checks a snapshot's name: that of a directory, as a sandbox's.
pub(crate) fn validate_name(name: &str) -> MicrosandboxResult<()> {
    msb_types::validate_sandbox_name(name)
        .map_err(|error| MicrosandboxError::InvalidConfig(format!("snapshot name: {error}")))
}
