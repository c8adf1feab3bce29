//! The configuration of a sandbox, as it is asked for and as it is stored.

use std::collections::BTreeMap;
use std::num::NonZeroU64;
use std::path::PathBuf;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::limit::ResourceLimit;

/// Everything that says what a sandbox is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SandboxConfig {
    /// Its name, unique within one home.
    pub name: String,
    /// What its root file system is made from.
    pub image: RootfsSource,
    /// Processors and memory.
    #[serde(default)]
    pub resources: Resources,
    /// What commands in it run with, unless they say otherwise.
    #[serde(default)]
    pub runtime: RuntimeOptions,
    /// Environment of every command.
    #[serde(default)]
    pub env: Vec<EnvVar>,
    /// What its owner files it under; `list` can be asked for them.
    #[serde(default)]
    pub labels: BTreeMap<String, String>,
    /// Limits of every command, under the command's own.
    #[serde(default)]
    pub rlimits: Vec<ResourceLimit>,
    /// When it ends by itself, and what is left of it then.
    #[serde(default)]
    pub lifecycle: LifecycleOptions,
    /// Takes the place of a sandbox of the same name. A matter of one creation: never stored.
    #[serde(skip)]
    pub replace_existing: bool,
    /// How long the one that is replaced may take to stop.
    #[serde(skip, default = "default_replace_timeout")]
    pub replace_with_timeout: Duration,
}

impl Default for SandboxConfig {
    /// No name and no image: both are to be set.
    fn default() -> Self {
        Self {
            name: String::new(),
            image: RootfsSource::Oci {
                reference: String::new(),
                upper_size_mib: None,
            },
            resources: Resources::default(),
            runtime: RuntimeOptions::default(),
            env: Vec::new(),
            labels: BTreeMap::new(),
            rlimits: Vec::new(),
            lifecycle: LifecycleOptions::default(),
            replace_existing: false,
            replace_with_timeout: DEFAULT_REPLACE_TIMEOUT,
        }
    }
}

/// How long a sandbox that is replaced may take to stop, when nobody says.
pub const DEFAULT_REPLACE_TIMEOUT: Duration = Duration::from_secs(10);

fn default_replace_timeout() -> Duration {
    DEFAULT_REPLACE_TIMEOUT
}

/// What a root file system is made from.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum RootfsSource {
    /// A directory on the host.
    Bind(PathBuf),
    /// An image in an OCI registry.
    Oci {
        /// The reference, `python:3.12`.
        reference: String,
        /// Size of the writable layer.
        upper_size_mib: Option<u32>,
    },
    /// A disk image with a file system on it.
    DiskImage {
        /// The image file.
        path: PathBuf,
        /// Its format.
        format: DiskImageFormat,
        /// Its file system; found out when not given.
        fstype: Option<String>,
    },
}

/// Formats of disk images.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum DiskImageFormat {
    /// QEMU copy-on-write.
    Qcow2,
    /// Byte for byte.
    Raw,
    /// VMware.
    Vmdk,
}

/// Processors and memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Resources {
    /// Number of vCPUs.
    pub cpus: u8,
    /// Memory in MiB.
    pub memory_mib: u32,
}

impl Default for Resources {
    fn default() -> Self {
        Self {
            cpus: 1,
            memory_mib: 512,
        }
    }
}

/// What commands run with unless they say otherwise.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct RuntimeOptions {
    /// Working directory.
    pub workdir: Option<String>,
    /// The shell that runs scripts.
    pub shell: Option<String>,
    /// Host name; derived from the sandbox's name when not given.
    pub hostname: Option<String>,
    /// Who runs commands: `name`, `uid`, `user:group`.
    pub user: Option<String>,
    /// How much its supervisor writes to its own log.
    pub log_level: Option<LogLevel>,
    /// Milliseconds between two samples of its metrics; one second when not given.
    pub metrics_sample_interval_ms: Option<NonZeroU64>,
    /// Whether no metrics are sampled.
    pub disable_metrics_sample: bool,
}

/// Milliseconds between two samples of a sandbox's metrics, when nobody says.
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
