//! Names, sizes and settings of a sandbox: plain, validated data without I/O.
//!
//! What a person or a program asks for ([`SandboxConfig`] and its parts) lives here, so
//! that the library, the supervisor and later a remote server speak of the same thing.

mod config;
mod label;
mod limit;
mod name;
mod size;
mod status;

pub use config::{
    DEFAULT_REPLACE_TIMEOUT, DiskImageFormat, EnvVar, LifecycleOptions, LogLevel, Resources,
    RootfsSource, RuntimeOptions, SandboxConfig,
};
pub use label::{InvalidLabel, MAX_LABEL_KEY_BYTES, MAX_LABEL_VALUE_BYTES, validate_label};
pub use limit::{Resource, ResourceLimit};
pub use name::{
    InvalidName, MAX_HOSTNAME_BYTES, MAX_SANDBOX_NAME_BYTES, derived_hostname, validate_hostname,
    validate_sandbox_name,
};
pub use size::{Mebibytes, SizeExt};
pub use status::{InvalidTransition, SandboxStatus, StatusEvent};
