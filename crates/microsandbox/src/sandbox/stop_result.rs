//! What is known of a sandbox that is over.

use chrono::{DateTime, Utc};
use msb_runtime::end::EndRecord;
use msb_types::SandboxStatus;

/// What is known of a sandbox that is over.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SandboxStopResult {
    /// The sandbox.
    pub name: String,
    /// The state it ended in.
    pub status: SandboxStatus,
    /// The exit code of its VMM process, if it exited and that was seen.
    pub exit_code: Option<i32>,
    /// The signal that ended its VMM process, if one did and that was seen.
    pub signal: Option<i32>,
    /// When the end was seen.
    pub observed_at: DateTime<Utc>,
    /// Where this is known from: `supervisor`, which reaped the VMM, or `free lock`, when all that
    /// is known is that nobody runs it any more.
    pub source: Option<String>,
}

impl SandboxStopResult {
    /// Of one whose supervisor vanished, and its record with it.
    pub(crate) fn lost(name: &str) -> Self {
        Self {
            name: name.to_owned(),
            status: SandboxStatus::Crashed,
            exit_code: None,
            signal: None,
            observed_at: Utc::now(),
            source: None,
        }
    }

    pub(crate) fn of(name: &str, end: &EndRecord) -> Self {
        Self {
            name: name.to_owned(),
            status: SandboxStatus::Running
                .after(end.reason.event())
                .unwrap_or(SandboxStatus::Stopped),
            exit_code: end.exit_code,
            signal: end.signal,
            observed_at: end.observed_at,
            source: Some(end.source.as_str().to_owned()),
        }
    }
}
