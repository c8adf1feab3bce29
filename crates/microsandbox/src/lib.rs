//! Run code you do not trust in a microVM of its own.
//!
//! No daemon, no root, no server: a program adds this crate, asks for a [`Sandbox`] from
//! a disk image, runs commands in it, and lets it go. Underneath is a virtual machine on
//! KVM, with its own kernel, started by this library as a child process.
//!
//! ```no_run
//! use microsandbox::Sandbox;
//!
//! # async fn example() -> microsandbox::MicrosandboxResult<()> {
//! let sandbox = Sandbox::builder("hello")
//!     .image("/var/lib/images/debian.ext4")
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
//! program's end by whatever cause, ends the machine and leaves nothing behind.

mod error;
pub mod exec;
mod home;
pub mod sandbox;
mod supervisor;

/// Sizes in mebibytes: `512.mib()`, `4.gib()`.
pub mod size {
    pub use msb_types::{Mebibytes, SizeExt};
}

pub use error::{
    BootError, BootErrorKind, BootStage, Component, EndReason, ExecFailed, ExecFailedKind,
    MicrosandboxError, MicrosandboxResult, VmErrorKind,
};
pub use exec::{
    ExecControl, ExecEvent, ExecHandle, ExecOptions, ExecOptionsBuilder, ExecOutput, ExecSink,
    ExecStdinError, Exit, ExitStatus, StdinMode,
};
pub use msb_types::{MAX_HOSTNAME_BYTES, MAX_SANDBOX_NAME_BYTES};
pub use sandbox::{Sandbox, SandboxBuilder, SandboxConfig, validate_sandbox_name};
