//! Describing a snapshot, step by step.

use std::path::PathBuf;

use super::Snapshot;
use crate::error::{MicrosandboxError, MicrosandboxResult};

/// Where a snapshot goes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SnapshotDestination {
    /// Among the home's snapshots, under this name.
    Name(String),
    /// To this directory, which is made.
    Path(PathBuf),
}

/// What [`Snapshot::create`] makes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SnapshotConfig {
    /// The sandbox, which does not run.
    pub source_sandbox: String,
    /// Where the snapshot goes.
    pub destination: SnapshotDestination,
    /// What it is filed under. Of two values for one key the last counts.
    pub labels: Vec<(String, String)>,
    /// Whether a snapshot that is there already is replaced. What is no snapshot never is.
    pub force: bool,
    /// Whether the contents of its disk are part of its identity, and can be verified later. Reads all of its data.
    pub record_integrity: bool,
}

/// Describes a [`SnapshotConfig`]. Setters never fail; [`build`](Self::build) tells what is missing.
#[derive(Clone, Debug)]
pub struct SnapshotBuilder {
    source_sandbox: String,
    destination: Option<SnapshotDestination>,
    labels: Vec<(String, String)>,
    force: bool,
    record_integrity: bool,
}

impl SnapshotBuilder {
    pub(super) fn new(source_sandbox: String) -> Self {
        Self {
            source_sandbox,
            destination: None,
            labels: Vec::new(),
            force: false,
            record_integrity: false,
        }
    }

    /// Where it goes.
    #[must_use]
    pub fn destination(mut self, destination: SnapshotDestination) -> Self {
        self.destination = Some(destination);
        self
    }

    /// It goes among the home's snapshots, under this name.
    #[must_use]
    pub fn name(self, name: impl Into<String>) -> Self {
        self.destination(SnapshotDestination::Name(name.into()))
    }

    /// It goes to this directory, which is made.
    #[must_use]
    pub fn path(self, path: impl Into<PathBuf>) -> Self {
        self.destination(SnapshotDestination::Path(path.into()))
    }

    /// Files it under a label.
    #[must_use]
    pub fn label(mut self, key: impl Into<String>, value: impl Into<String>) -> Self {
        self.labels.push((key.into(), value.into()));
        self
    }

    /// Replaces a snapshot that is there already.
    #[must_use]
    pub fn force(mut self) -> Self {
        self.force = true;
        self
    }

    /// Makes the contents of its disk part of its identity, so that they can be verified.
    #[must_use]
    pub fn record_integrity(mut self) -> Self {
        self.record_integrity = true;
        self
    }

    /// What was described.
    ///
    /// # Errors
    ///
    /// [`InvalidConfig`](MicrosandboxError::InvalidConfig) when it has no place to go to.
    pub fn build(self) -> MicrosandboxResult<SnapshotConfig> {
        let destination = self.destination.ok_or_else(|| {
            MicrosandboxError::InvalidConfig(
                "the snapshot has no place to go to; give it a name() or a path()".to_owned(),
            )
        })?;
        Ok(SnapshotConfig {
            source_sandbox: self.source_sandbox,
            destination,
            labels: self.labels,
            force: self.force,
            record_integrity: self.record_integrity,
        })
    }

    /// Makes it ([`Snapshot::create`]).
    pub async fn create(self) -> MicrosandboxResult<Snapshot> {
        Snapshot::create(self.build()?).await
    }
}
