//! Run code you do not trust in a microVM of its own.
//!
//! No daemon, no root, no server: a program adds this crate, asks for a [`Sandbox`] from
//! a container image or a disk image, runs commands in it, and lets it go. Underneath is a virtual machine on
//! KVM, with its own kernel, started by this library as a child process.
//!
//! ```no_run
//! use microsandbox::Sandbox;
//!
//! # async fn example() -> microsandbox::MicrosandboxResult<()> {
//! let sandbox = Sandbox::builder("hello")
//!     .image("python:3.12")
//!     .cpus(2)
//!     .memory(512)
//!     .create()
//!     .await?;
//! let output = sandbox.shell("uname -a; nproc").await?;
//! println!("{}", String::from_utf8_lossy(output.stdout_bytes()));
//! sandbox.stop().await?;
//! # Ok(())
//! # }
//! ```
//!
//! A sandbox made this way belongs to the program that made it: dropping it, or the
//! program's end by whatever cause, ends the machine. What stays is its record, with its
//! configuration and its logs, until it is removed: any program can find it by its name, with
//! [`Sandbox::get`], and start it again.

pub mod agent;
pub mod attach;
pub mod backend;
mod blocking;
pub mod config;
mod error;
pub mod exec;
pub mod fs;
mod home;
pub mod image;
pub mod isolation;
pub mod logs;
pub mod network;
pub mod sandbox;
pub mod snapshot;

/// Sizes in mebibytes: `512.mib()`, `4.gib()`.
pub mod size {
    pub use msb_types::{Mebibytes, SizeExt};
}

pub use agent::{AgentBridge, AgentClient, AgentClientError, AgentProtocol};
pub use attach::{AttachOptions, AttachOptionsBuilder, DetachKeys, TerminalError};
pub use backend::{
    Backend, BackendKind, LocalBackend, LocalBackendBuilder, SandboxBackend, default_backend,
    set_default_backend, swap_default_backend, with_backend,
};
pub use error::{
    BootError, BootErrorKind, BootStage, BuildError, Component, CredentialSource, EndReason, Errno,
    ExecFailed, ExecFailedKind, HomeError, HomeErrorKind, HttpError, ImageError, MicrosandboxError,
    MicrosandboxResult, PullError, RegistryError, VmErrorKind,
};
pub use exec::{
    ExecControl, ExecEvent, ExecHandle, ExecOptions, ExecOptionsBuilder, ExecOutput, ExecSink,
    ExecStdinError, Exit, ExitStatus, RlimitResource, SessionInfo, SessionState, StdinMode,
};
pub use fs::{FsError, FsErrorKind, FsSide};
pub use home::set_libkrunfw_path;
pub use image::{
    Image, ImageConfigDetail, ImageDetail, ImageHandle, ImageLayerDetail, ImagePruneReport,
};
pub use isolation::IsolationLevel;
pub use msb_protocol as protocol;
pub use msb_types::{LogLevel, MAX_HOSTNAME_BYTES, MAX_SANDBOX_NAME_BYTES, RegistryAuth};
pub use network::NetworkPolicy;
pub use sandbox::{Sandbox, SandboxBuilder, SandboxConfig, validate_sandbox_name};
pub use snapshot::{
    ExportOpts, Snapshot, SnapshotBuilder, SnapshotConfig, SnapshotDestination, SnapshotFormat,
    SnapshotHandle, SnapshotVerifyReport, UpperVerifyStatus,
};

/// The examples of the README are compiled with those of the documentation.
#[cfg(doctest)]
#[doc = include_str!("../../../README.md")]
struct Readme;
