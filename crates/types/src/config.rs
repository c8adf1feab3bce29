//! The configuration of a sandbox, as it is asked for and as it is stored.
//!
//! A stored configuration has what differs from the default, except for what the first release of this
//! format wrote always; so a field that comes later changes nothing for who does not use it.
//! What is a matter of one creation, and what nobody may read from a file, is never stored.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::isolation::IsolationLevel;
use crate::limit::ResourceLimit;
use crate::mount::VolumeMount;
use crate::network::NetworkSpec;
use crate::patch::Patch;
use crate::registry::RegistryAuth;
use crate::rootfs::{PullPolicy, RootfsSource};
use crate::runtime::{EnvVar, HandoffInit, LifecycleOptions, RuntimeOptions, SecurityProfile};

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
    /// What is mounted beside its root.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub mounts: Vec<VolumeMount>,
    /// What is changed in its root before it is first booted.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub patches: Vec<Patch>,
    /// What network it has.
    #[serde(default, skip_serializing_if = "NetworkSpec::is_default")]
    pub network: NetworkSpec,
    /// What becomes its PID 1, if not the agent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub init: Option<HandoffInit>,
    /// When its image is pulled.
    #[serde(default, skip_serializing_if = "is_default")]
    pub pull_policy: PullPolicy,
    /// The digest of the manifest that its image's reference stood for when it was created: `sha256:` and
    /// 64 hex digits. It is what the sandbox is of from then on, whatever the reference comes to mean.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub manifest_digest: Option<String>,
    /// How much its commands may do.
    #[serde(default, skip_serializing_if = "is_default")]
    pub security_profile: SecurityProfile,
    /// What has to stand around its VMM, or it does not start; as much as this host has when not given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub require_isolation: Option<IsolationLevel>,
    /// When it ends by itself, and what is left of it then.
    #[serde(default)]
    pub lifecycle: LifecycleOptions,
    /// The digest of the snapshot that it began from, if it did: `sha256:` and 64 hex digits.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub parent_snapshot: Option<String>,
    /// Who it is to the registry of its image. Never stored.
    #[serde(skip)]
    pub registry_auth: Option<RegistryAuth>,
    /// Whether that registry is talked to without TLS. A matter of one pull: never stored.
    #[serde(skip)]
    pub insecure: bool,
    /// Authorities that are trusted there beside the host's, PEM. Never stored.
    #[serde(skip)]
    pub ca_certs: Vec<Vec<u8>>,
    /// The snapshot's writable layer that it begins from. A matter of one creation: never stored.
    #[serde(skip)]
    pub snapshot_upper_source: Option<PathBuf>,
    /// Whether its default command runs when it starts. A matter of one creation: never stored.
    #[serde(skip)]
    pub startup_command_requested: bool,
    /// The command that its creator runs first. A matter of one creation: never stored.
    #[serde(skip)]
    pub initial_command: Option<Vec<String>>,
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
            mounts: Vec::new(),
            patches: Vec::new(),
            network: NetworkSpec::default(),
            init: None,
            pull_policy: PullPolicy::default(),
            security_profile: SecurityProfile::default(),
            require_isolation: None,
            lifecycle: LifecycleOptions::default(),
            parent_snapshot: None,
            registry_auth: None,
            insecure: false,
            ca_certs: Vec::new(),
            manifest_digest: None,
            snapshot_upper_source: None,
            startup_command_requested: false,
            initial_command: None,
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

fn is_default<T: Default + PartialEq>(value: &T) -> bool {
    *value == T::default()
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

#[cfg(test)]
#[path = "config_tests.rs"]
mod tests;
