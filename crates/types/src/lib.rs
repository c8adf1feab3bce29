//! Names, sizes and settings of a sandbox: plain, validated data without I/O.
//!
//! What a person or a program asks for ([`SandboxConfig`] and its parts) lives here, so
//! that the library, the supervisor and later a remote server speak of the same thing.

mod config;
mod name;
mod size;
mod status;

pub use config::{DiskImageFormat, EnvVar, Resources, RootfsSource, RuntimeOptions, SandboxConfig};
pub use name::{
    InvalidName, MAX_HOSTNAME_BYTES, MAX_SANDBOX_NAME_BYTES, derived_hostname, validate_hostname,
    validate_sandbox_name,
};
pub use size::{Mebibytes, SizeExt};
pub use status::{InvalidTransition, SandboxStatus, StatusEvent};
