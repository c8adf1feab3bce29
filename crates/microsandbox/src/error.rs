//! Everything that can go wrong, in types a program can match on.

use std::path::PathBuf;
use std::time::Duration;

use msb_runtime::conversation::ConversationError;

pub use msb_protocol::ExecFailureKind as ExecFailedKind;
pub use msb_runtime::boot::{BootError, BootErrorKind, BootStage};
pub use msb_runtime::control::EndReason;

/// What the VMM refused, in [`BootErrorKind::Vmm`].
pub use msb_runtime::VmErrorKind;

/// The result of nearly every call.
pub type MicrosandboxResult<T> = Result<T, MicrosandboxError>;

/// An error of this library.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum MicrosandboxError {
    /// The host's operating system refused something.
    #[error("the host refused an operation")]
    Io(#[from] std::io::Error),
    /// A configuration could not be written or read.
    #[error("the sandbox configuration could not be converted")]
    Json(#[from] serde_json::Error),
    /// The conversation with the guest's agent failed.
    #[error("the conversation with the sandbox failed")]
    Protocol(#[from] ConversationError),
    /// A part of this library is not installed where it is looked for.
    #[error(
        "{component} was not found; `cargo xtask install` puts it in place, or {} names it. Looked \
         at: {}", component.variable(), list(searched)
    )]
    ComponentNotFound {
        /// What is missing.
        component: Component,
        /// Every place looked at, in order.
        searched: Vec<PathBuf>,
    },
    /// The sandbox did not come up.
    #[error("sandbox {name:?} did not start: {err}")]
    BootStart {
        /// The sandbox.
        name: String,
        /// Where and why it stopped.
        err: BootError,
    },
    /// The supervisor failed, or ended without a word.
    #[error("{0}")]
    Runtime(String),
    /// A value in the configuration cannot be used.
    #[error("{0}")]
    InvalidConfig(String),
    /// There is no sandbox of this name.
    #[error("there is no sandbox {0:?}")]
    SandboxNotFound(String),
    /// A sandbox of this name runs already.
    #[error("a sandbox {0:?} is running already; stop it first, or choose another name")]
    SandboxAlreadyExists(String),
    /// The sandbox is over.
    #[error("sandbox {name:?} is not running: {}", describe(reason.as_ref()))]
    SandboxNotRunning {
        /// The sandbox.
        name: String,
        /// How it ended, when that is known.
        reason: Option<EndReason>,
    },
    /// The command did not end in time and was killed.
    #[error("the command was killed: it did not end within {0:?}")]
    ExecTimeout(Duration),
    /// The command could not be started.
    #[error("the command could not be started: {}", .0.message)]
    ExecFailed(ExecFailed),
    /// This release cannot do that yet.
    #[error("{feature} is not supported here; {available_when}")]
    Unsupported {
        /// What was asked for.
        feature: String,
        /// What it takes.
        available_when: String,
    },
}

/// A command that could not be started.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct ExecFailed {
    /// What a program matches on.
    pub kind: ExecFailedKind,
    /// What a person reads.
    pub message: String,
    /// The guest's error number, where one was behind it.
    pub errno: Option<i32>,
}

/// The parts that this library starts and that are installed beside it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Component {
    /// The supervisor, `msb-runtime`.
    Runtime,
    /// The VMM, `msb-vmm`.
    Vmm,
    /// The guest kernel.
    Kernel,
    /// The initramfs with the guest's agent.
    Initramfs,
}

impl Component {
    /// The environment variable that names it.
    pub const fn variable(self) -> &'static str {
        match self {
            Self::Runtime => "MSB_RUNTIME_PATH",
            Self::Vmm => "MSB_VMM_PATH",
            Self::Kernel => "MSB_KERNEL_PATH",
            Self::Initramfs => "MSB_INITRAMFS_PATH",
        }
    }
}

impl std::fmt::Display for Component {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Runtime => "the supervisor (msb-runtime)",
            Self::Vmm => "the virtual machine monitor (msb-vmm)",
            Self::Kernel => "the guest kernel (vmlinux)",
            Self::Initramfs => "the guest's initramfs (initramfs.cpio)",
        })
    }
}

fn list(paths: &[PathBuf]) -> String {
    paths
        .iter()
        .map(|path| path.display().to_string())
        .collect::<Vec<_>>()
        .join(", ")
}

fn describe(reason: Option<&EndReason>) -> String {
    match reason {
        None => "it has ended".to_owned(),
        Some(EndReason::Stopped) => "it was stopped".to_owned(),
        Some(EndReason::Killed) => "it was killed".to_owned(),
        Some(EndReason::GuestPowerOff) => "the guest powered off".to_owned(),
        Some(EndReason::GuestReset) => "the guest reset itself".to_owned(),
        Some(EndReason::GuestCrash(what)) => format!("the guest crashed ({what})"),
        Some(EndReason::VmmError(what)) => format!("the VMM failed: {what}"),
        Some(EndReason::VmmLost) => "its VMM process was ended from outside".to_owned(),
        Some(other) => format!("{other:?}"),
    }
}
