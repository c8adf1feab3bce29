//! Names, sizes and settings of a sandbox: plain, validated data without I/O.
//!
//! What a person or a program asks for ([`SandboxConfig`] and its parts) lives here, so
//! that the library, the supervisor and later a remote server speak of the same thing.

mod bytes64;
mod config;
mod isolation;
mod label;
mod limit;
mod mount;
mod name;
pub mod network;
mod patch;
mod registry;
mod rootfs;
mod runtime;
mod script;
mod secret;
mod size;
mod status;

pub use config::{DEFAULT_REPLACE_TIMEOUT, Resources, SandboxConfig};
pub use isolation::IsolationLevel;
pub use label::{InvalidLabel, MAX_LABEL_KEY_BYTES, MAX_LABEL_VALUE_BYTES, validate_label};
pub use limit::{Resource, ResourceLimit};
pub use mount::{
    HostPermissions, MountOptions, MountSource, NamedVolume, NamedVolumeMode, StatVirtualization,
    VolumeKind, VolumeMount,
};
pub use name::{
    InvalidName, MAX_HOSTNAME_BYTES, MAX_SANDBOX_NAME_BYTES, derived_hostname, validate_hostname,
    validate_sandbox_name,
};
pub use network::{DomainName, NetworkSpec};
pub use patch::Patch;
pub use registry::RegistryAuth;
pub use rootfs::{
    DEFAULT_UPPER_MIB, DiskImageFormat, MAX_UPPER_MIB, MIN_UPPER_MIB, PullPolicy, RootfsSource,
};
pub use runtime::{
    EnvVar, HandoffInit, LifecycleOptions, LogLevel, RuntimeOptions, SecurityProfile,
};
pub use script::{
    InvalidScript, MAX_SCRIPT_BYTES, MAX_SCRIPT_NAME_BYTES, MAX_SCRIPTS, validate_script,
};
pub use secret::{
    HostPattern, InvalidSecret, MAX_PLACEHOLDER_BYTES, SecretEntry, SecretInjection, SecretValue,
    SecretsConfig, ViolationAction,
};
pub use size::{Mebibytes, SizeExt};
pub use status::{InvalidTransition, SandboxStatus, StatusEvent};
