//! How commands run in a sandbox, and how long it lives.

use std::collections::BTreeMap;
use std::num::NonZeroU64;
use std::path::PathBuf;
use std::time::Duration;

use serde::{Deserialize, Serialize};

/// What commands run with unless they say otherwise.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct RuntimeOptions {
    /// Working directory.
    pub workdir: Option<String>,
    /// The shell that runs scripts.
    pub shell: Option<String>,
    /// What a default command begins with, in place of the image's own. Commands that are named
    /// never use it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub entrypoint: Option<Vec<String>>,
    /// The default command, in place of the image's own. Commands that are named never use it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cmd: Option<Vec<String>>,
    /// Host name; derived from the sandbox's name when not given.
    pub hostname: Option<String>,
    /// Who runs commands: `name`, `uid`, `user:group`.
    pub user: Option<String>,
    /// Files that every command finds in its `PATH`: their contents by their names.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub scripts: BTreeMap<String, String>,
    /// How much its supervisor writes to its own log.
    pub log_level: Option<LogLevel>,
    /// Milliseconds between two samples of its metrics; one second when not given.
    pub metrics_sample_interval_ms: Option<NonZeroU64>,
    /// Whether no metrics are sampled.
    pub disable_metrics_sample: bool,
}

/// Time between two samples of a sandbox's metrics, when nobody says.
const DEFAULT_METRICS_INTERVAL: Duration = Duration::from_secs(1);

impl RuntimeOptions {
    /// How often metrics are sampled; `None` when they are not.
    pub fn metrics_interval(&self) -> Option<Duration> {
        match (self.disable_metrics_sample, self.metrics_sample_interval_ms) {
            (true, _) => None,
            (false, Some(ms)) => Some(Duration::from_millis(ms.get())),
            (false, None) => Some(DEFAULT_METRICS_INTERVAL),
        }
    }
}

/// When a sandbox ends by itself, and what is left of it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct LifecycleOptions {
    /// Its record and directory go when its first run ends.
    pub ephemeral: bool,
    /// Seconds after which a run is stopped.
    pub max_duration_secs: Option<u64>,
    /// Seconds without a command and without work in the guest after which a run is stopped.
    pub idle_timeout_secs: Option<u64>,
}

/// How much is logged.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum LogLevel {
    /// What failed.
    Error,
    /// And what looks wrong.
    Warn,
    /// And what happened.
    Info,
    /// And why.
    Debug,
    /// And everything else.
    Trace,
}

impl LogLevel {
    /// Its name in a filter.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Error => "error",
            Self::Warn => "warn",
            Self::Info => "info",
            Self::Debug => "debug",
            Self::Trace => "trace",
        }
    }
}

/// One environment variable.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct EnvVar {
    /// Its name: not empty, without `=`.
    pub key: String,
    /// Its value.
    pub value: String,
}

/// The program that becomes the guest's PID 1 once the agent has set the guest up.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct HandoffInit {
    /// An absolute path in the guest, or `auto` to look for one in the usual places.
    pub cmd: PathBuf,
    /// Its arguments.
    #[serde(default)]
    pub args: Vec<String>,
    /// Its environment, over the guest's.
    #[serde(default)]
    pub env: Vec<EnvVar>,
}

/// How much commands may do in the guest.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SecurityProfile {
    /// What their user may.
    #[default]
    Default,
    /// No new privileges, no `CAP_SYS_ADMIN`, and mounts without set-uid programs and devices.
    Restricted,
}
