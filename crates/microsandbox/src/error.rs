//! Everything that can go wrong, in types a program can match on.

mod payload;

use std::path::PathBuf;
use std::time::Duration;

use msb_runtime::conversation::ConversationError;
use msb_runtime::logs::LogError;
use msb_types::{IsolationLevel, SandboxStatus};

pub use payload::{Errno, HttpError, ImageError};

use crate::agent::AgentClientError;
use crate::attach::TerminalError;
use crate::fs::FsError;
pub use crate::network::BuildError;

pub use msb_image::registry::{CredentialSource, PullError, RegistryError};
pub use msb_protocol::ExecFailureKind as ExecFailedKind;
pub use msb_runtime::boot::{BootError, BootErrorKind, BootStage};
pub use msb_runtime::control::{HomeError, HomeErrorKind};
pub use msb_runtime::end::EndReason;

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
    /// A server could not be asked. The payload is this library's own, as it brings no HTTP client.
    #[error("the server could not be asked")]
    Http(#[from] HttpError),
    /// A server refused.
    #[error("the server refused with {status} ({code}): {message}")]
    CloudHttp {
        /// The status of its answer.
        status: u16,
        /// What a program matches on.
        code: String,
        /// What a person reads.
        message: String,
    },
    /// A direct conversation with the guest's agent failed.
    #[error("the agent could not be talked to")]
    AgentClient(#[from] AgentClientError),
    /// A system call failed. The payload is this library's own: the number, and its text.
    #[error("the host refused a system call")]
    Nix(#[from] Errno),
    /// The library with the guest's kernel is not there.
    #[error("{0}")]
    LibkrunfwNotFound(String),
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
    /// Less stands around the sandbox's VMM on this host than what the sandbox requires. Nothing of the guest has run.
    #[error(
        "sandbox {name:?} requires the isolation level {required:?}, and did not start: {message}"
    )]
    Isolation {
        /// The sandbox.
        name: String,
        /// What it requires.
        required: IsolationLevel,
        /// What is lacking, and what to do about it.
        message: String,
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
    /// There is a sandbox of this name.
    #[error(
        "a sandbox {0:?} exists already; start it, remove it, replace() it, or choose another name"
    )]
    SandboxAlreadyExists(String),
    /// The sandbox runs, which is in the way of what was asked.
    #[error("sandbox {0:?} is running; stop it first")]
    SandboxStillRunning(String),
    /// The sandbox is not in a state for what was asked.
    #[error("sandbox {name:?} is {}", describe(*status, reason.as_ref()))]
    SandboxNotRunning {
        /// The sandbox.
        name: String,
        /// The state it is in, when that is known.
        status: Option<SandboxStatus>,
        /// How it ended, when it has and that is known.
        reason: Option<EndReason>,
    },
    /// The home with the catalog of sandboxes cannot be used. The payload is this library's own.
    #[error("the sandboxes' home cannot be used: {0}")]
    Database(HomeError),
    /// The sandbox's configuration turned its metrics off.
    #[error("sandbox {0:?} is configured without metrics")]
    MetricsDisabled(String),
    /// There are no metrics of the sandbox now.
    #[error("there are no metrics of sandbox {0:?}: it does not run, or has only just begun")]
    MetricsUnavailable(String),
    /// Log entries were deleted by rotation before they were read.
    #[error(
        "log entries from offset {dropped_from_offset} on are gone: they were rotated away before \
         they were read; begin anew, or read sooner"
    )]
    MissedRotation {
        /// The offset from which on entries are missing.
        dropped_from_offset: u64,
    },
    /// The cursor is not one of this sandbox's log.
    #[error("the log cursor does not belong to this log; begin anew without it")]
    InvalidCursor,
    /// The command did not end in time and was killed.
    #[error("the command was killed: it did not end within {0:?}")]
    ExecTimeout(Duration),
    /// The command could not be started.
    #[error("the command could not be started: {}", .0.message)]
    ExecFailed(ExecFailed),
    /// There is no such image on this host.
    #[error(
        "there is no image {0:?} on this host; pull it with another PullPolicy, or load it from an archive"
    )]
    ImageNotFound(String),
    /// Sandboxes or snapshots are made from the image, or somebody is about to make one.
    #[error(
        "the image {0:?} is in use; remove the sandboxes and snapshots that are made from it first"
    )]
    ImageInUse(String),
    /// The image cannot be used.
    #[error("the image cannot be used")]
    Image(#[from] ImageError),
    /// A root file system could not be changed as asked.
    #[error("{0}")]
    PatchFailed(String),
    /// There is no volume of this name.
    #[error("there is no volume {0:?}")]
    VolumeNotFound(String),
    /// There is a volume of this name.
    #[error("a volume {0:?} exists already; use it, remove it, or choose another name")]
    VolumeAlreadyExists(String),
    /// The network cannot be as it was described.
    #[error("the network cannot be as it was described")]
    NetworkBuilder(#[from] BuildError),
    /// There is no such snapshot.
    #[error("there is no snapshot {0:?}")]
    SnapshotNotFound(String),
    /// There is a snapshot of this name.
    #[error("a snapshot {0:?} exists already; remove it, or choose another name")]
    SnapshotAlreadyExists(String),
    /// A sandbox that runs cannot be made a snapshot of.
    #[error("sandbox {0:?} is running; stop it, then make a snapshot of it")]
    SnapshotSandboxRunning(String),
    /// Another snapshot comes from it.
    #[error(
        "the snapshot {snapshot:?} is the parent of the one at {}; remove that first, or use force",
        child.display()
    )]
    SnapshotInUse {
        /// The snapshot.
        snapshot: String,
        /// One that comes from it.
        child: PathBuf,
    },
    /// The image that the snapshot builds on is not there.
    #[error(
        "the image {0:?} that the snapshot builds on is not on this host; pull or load it, or import the \
         snapshot with its image"
    )]
    SnapshotImageMissing(String),
    /// The snapshot is not what it was when it was made.
    #[error("{0}")]
    SnapshotIntegrity(String),
    /// What a program of its own has to say.
    #[error("{0}")]
    Custom(String),
    /// An operation on the sandbox's files failed, or a copy to or from the host.
    #[error("{0}")]
    SandboxFsOps(FsError),
    /// The terminal of this program cannot be used.
    #[error(transparent)]
    Terminal(#[from] TerminalError),
    /// There is no such session in the sandbox's present run.
    #[error("there is no session {0}: it never was, or it has ended and was collected")]
    SessionNotFound(String),
    /// Somebody else holds a handle on the session.
    #[error("session {0} is attached elsewhere; detach it there first")]
    SessionAttached(String),
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
    /// The template that writable layers are made from.
    UpperTemplate,
}

impl Component {
    /// The environment variable that names it.
    pub const fn variable(self) -> &'static str {
        match self {
            Self::Runtime => "MSB_RUNTIME_PATH",
            Self::Vmm => "MSB_VMM_PATH",
            Self::Kernel => "MSB_KERNEL_PATH",
            Self::Initramfs => "MSB_INITRAMFS_PATH",
            Self::UpperTemplate => "MSB_UPPER_TEMPLATE_PATH",
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
            Self::UpperTemplate => "the template of writable layers (upper.ext4)",
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

fn describe(status: Option<SandboxStatus>, reason: Option<&EndReason>) -> String {
    match (status, reason) {
        (Some(status), Some(reason)) => format!("{status}: {reason}"),
        (Some(status), None) => status.to_string(),
        (None, Some(reason)) => format!("not running: {reason}"),
        (None, None) => "not running".to_owned(),
    }
}

impl From<LogError> for MicrosandboxError {
    fn from(error: LogError) -> Self {
        match error {
            LogError::MissedRotation {
                dropped_from_offset,
            } => Self::MissedRotation {
                dropped_from_offset,
            },
            LogError::InvalidCursor => Self::InvalidCursor,
            LogError::Io { source, .. } => Self::Io(source),
            other => Self::Runtime(other.to_string()),
        }
    }
}
