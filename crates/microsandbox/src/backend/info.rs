//! What a backend knows of a sandbox at one moment.

use std::sync::Arc;

use chrono::{DateTime, Utc};
use msb_runtime::end::EndReason;

use crate::isolation::Isolation;
use crate::sandbox::SandboxStatus;

/// What was true of a sandbox when it was looked at.
#[derive(Clone, Debug)]
pub struct SandboxInfo {
    pub(crate) name: String,
    pub(crate) status: SandboxStatus,
    pub(crate) config_json: Arc<str>,
    pub(crate) created_at: Option<DateTime<Utc>>,
    pub(crate) updated_at: Option<DateTime<Utc>>,
    pub(crate) last_error: Option<String>,
    /// The number of its latest run.
    pub(crate) run: Option<u64>,
    /// How its latest run ended, if it has.
    pub(crate) end: Option<RunEnd>,
    pub(crate) local: Option<SandboxHandleLocalState>,
    pub(crate) cloud: Option<SandboxHandleCloudState>,
}

/// How a run ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct RunEnd {
    pub(crate) at: DateTime<Utc>,
    pub(crate) reason: Option<EndReason>,
    pub(crate) exit_code: Option<i32>,
    pub(crate) signal: Option<i32>,
    pub(crate) source: String,
}

/// What a handle knows of a sandbox of this machine.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct SandboxHandleLocalState {
    /// Its number in the catalog, never given twice.
    pub db_id: u64,
    /// Its state.
    pub status: SandboxStatus,
    /// Its configuration, as it is stored.
    pub config_json: String,
    /// When it was made.
    pub created_at: DateTime<Utc>,
    /// When its record last changed.
    pub updated_at: DateTime<Utc>,
    /// The process id of its supervisor, while it runs.
    pub pid: Option<u32>,
    /// What stood around its VMM in its latest run, layer by layer; `None` when that did not boot, or was of a release
    /// that did not say.
    pub isolation: Option<Isolation>,
}

/// What a handle knows of a sandbox of a server.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct SandboxHandleCloudState {
    /// Its id there.
    pub id: String,
    /// Whose it is.
    pub org_id: String,
    /// Its state.
    pub status: SandboxStatus,
    /// Its configuration, as the server has it.
    pub config_json: String,
    /// When it was made.
    pub created_at: DateTime<Utc>,
    /// When it last started.
    pub started_at: Option<DateTime<Utc>>,
    /// When it last stopped.
    pub stopped_at: Option<DateTime<Utc>>,
    /// What last went wrong.
    pub last_error: Option<String>,
}
