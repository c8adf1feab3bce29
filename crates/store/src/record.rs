//! What the catalog knows of a sandbox.
//!
//! A record is stored as JSON: it says what its own fields are, so a field can be added with a
//! `serde` default and no migration. One limit: a library that does not know a field
//! drops it when it writes the record. A field that must survive that needs a new schema version.

use std::collections::BTreeMap;

use chrono::{DateTime, Utc};
use msb_types::SandboxStatus;
use serde::{Deserialize, Serialize};

/// The longest a record may be as it is stored, in bytes: many times what the largest sensible
/// configuration takes, and few enough that a list of hundreds fits in memory.
pub const MAX_RECORD_BYTES: usize = 1 << 20;

/// One sandbox.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SandboxRecord {
    /// Given by the catalog and never given again, not even after the sandbox is removed.
    pub id: u64,
    /// Its name, of which there is one at a time.
    pub name: String,
    /// What it does.
    pub status: SandboxStatus,
    /// How it is configured, kept exactly as it was given.
    pub config_json: String,
    /// What its owner calls it by.
    #[serde(default)]
    pub labels: BTreeMap<String, String>,
    /// Whether it is removed when it ends.
    #[serde(default)]
    pub ephemeral: bool,
    /// When it was inserted.
    pub created_at: DateTime<Utc>,
    /// When the record last changed.
    pub updated_at: DateTime<Utc>,
    /// The latest run, if it ever ran.
    #[serde(default)]
    pub run: Option<RunRecord>,
}

/// One run of a sandbox.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RunRecord {
    /// A random number that the supervisor chose: it tells this run from any other.
    pub id: u64,
    /// The supervisor's process. A hint for people: whether it lives is said by its lock alone.
    #[serde(default)]
    pub pid: Option<u32>,
    /// When it began.
    pub started_at: DateTime<Utc>,
    /// How it ended, once it has.
    #[serde(default)]
    pub ended: Option<RunEnd>,
    /// What stood around its VMM when it booted, as JSON.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub isolation: Option<String>,
}

/// How a run ended.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RunEnd {
    /// When.
    pub at: DateTime<Utc>,
    /// The kind of end, in `snake_case`.
    pub reason: String,
    /// What a person should know besides.
    #[serde(default)]
    pub detail: Option<String>,
    /// The exit code, where there was one.
    #[serde(default)]
    pub exit_code: Option<i32>,
    /// The signal, where there was one.
    #[serde(default)]
    pub signal: Option<i32>,
    /// Where this is known from.
    pub source: String,
}

/// A sandbox that is to be inserted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NewSandbox {
    /// Its name.
    pub name: String,
    /// The state it begins in.
    pub status: SandboxStatus,
    /// Its configuration.
    pub config_json: String,
    /// Its labels.
    pub labels: BTreeMap<String, String>,
    /// Whether it is removed when it ends.
    pub ephemeral: bool,
    /// Its first run, if that has begun.
    pub run: Option<RunRecord>,
}

/// Labels that a sandbox must all have. An empty filter lets every sandbox pass.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LabelFilter(pub BTreeMap<String, String>);

impl NewSandbox {
    /// A sandbox that has not run, without labels.
    pub fn new(name: impl Into<String>, config_json: impl Into<String>) -> Self {
        Self {
            name: name.into(),
            status: SandboxStatus::Created,
            config_json: config_json.into(),
            labels: BTreeMap::new(),
            ephemeral: false,
            run: None,
        }
    }
}

impl LabelFilter {
    /// Every sandbox.
    pub fn all() -> Self {
        Self::default()
    }

    /// Whether a sandbox with these labels passes.
    pub fn matches(&self, labels: &BTreeMap<String, String>) -> bool {
        self.0
            .iter()
            .all(|(key, value)| labels.get(key) == Some(value))
    }
}

impl<K: Into<String>, V: Into<String>> FromIterator<(K, V)> for LabelFilter {
    fn from_iter<I: IntoIterator<Item = (K, V)>>(labels: I) -> Self {
        Self(
            labels
                .into_iter()
                .map(|(key, value)| (key.into(), value.into()))
                .collect(),
        )
    }
}
