//! What passes between a supervisor and its clients.
//!
//! Two kinds of stream carry the same JSON lines: the launch channel, a socket pair
//! whose other end is the supervisor's standard input, and connections to
//! `control.sock` in the run directory. Only the launch channel takes
//! [`Request::Launch`]; when it closes without [`Request::Detach`], the creator is
//! gone and the sandbox ends.
//!
//! Every request but `Launch` has one answer, in order: [`Notice::Accepted`], [`Notice::Status`]
//! or [`Notice::Refused`]. [`Notice::Changed`] comes in between to those who watch, and
//! [`Notice::Ended`] to everybody, last.

use std::path::PathBuf;

use msb_types::{SandboxConfig, SandboxStatus};
use serde::{Deserialize, Serialize};

use crate::boot::{BootError, BootTimings};
use crate::end::EndRecord;

/// What a client says.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Request {
    /// Boot a sandbox. The first line of the launch channel.
    Launch(Box<Launch>),
    /// The creator lets go: its end no longer ends the sandbox.
    Detach,
    /// End gracefully; by force when the guest is not off after `timeout_ms`.
    Stop {
        /// Milliseconds that the guest has.
        timeout_ms: u64,
    },
    /// Refuse new commands, let running ones finish, then end.
    Drain,
    /// End now.
    Kill,
    /// Stop the processors.
    Pause,
    /// Set them running again.
    Resume,
    /// Say in what state it is.
    Status,
    /// Say so now, and from now on whenever it changes.
    Watch,
}

/// What the supervisor says.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Notice {
    /// All that the sandbox's machine needs is there, and its boot begins, which has a deadline. What came before
    /// may take long: large images are read when they were touched, and directories of the host copied.
    Prepared,
    /// The sandbox is up. The answer to [`Request::Launch`].
    Running(BootTimings),
    /// The sandbox was not booted; the supervisor ends.
    NotLaunched(LaunchError),
    /// What was asked for is done, or under way.
    Accepted,
    /// What was asked for cannot be.
    Refused(Refusal),
    /// The answer to [`Request::Status`] and [`Request::Watch`].
    Status(SandboxStatus),
    /// The state is another now.
    Changed(SandboxStatus),
    /// The sandbox is over; the last line.
    Ended(EndRecord),
}

/// Why a request was refused.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Refusal {
    /// It does not go with the state the sandbox is in.
    #[error("the sandbox is {0}")]
    Status(SandboxStatus),
    /// The VMM would not, or could not.
    #[error("the VMM refused: {0}")]
    Vmm(String),
    /// The catalog would not take it.
    #[error("the catalog refused: {0}")]
    Catalog(String),
    /// The guest's agent cannot be reached.
    #[error("the guest's agent does not answer")]
    Agent,
    /// Not on this connection.
    #[error("this is not asked on this connection")]
    Misplaced,
}

/// Why a sandbox was not launched.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum LaunchError {
    /// It was to be created, and is there.
    #[error("a sandbox of this name exists already")]
    Exists,
    /// It was to be started, and is not there.
    #[error("there is no sandbox of this name")]
    Missing,
    /// A supervisor has it.
    #[error("the sandbox is running")]
    Running,
    /// What the catalog has of it makes no sense any more.
    #[error("its stored configuration cannot be read: {0}")]
    Config(String),
    /// The catalog, the home or its directory cannot be used.
    #[error("{0}")]
    Home(HomeError),
    /// It did not come up.
    #[error(transparent)]
    Boot(BootError),
}

/// A home that cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[error("{message}")]
pub struct HomeError {
    /// What a program matches on.
    pub kind: HomeErrorKind,
    /// What a person reads, with its causes.
    pub message: String,
}

/// Kinds of [`HomeError`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum HomeErrorKind {
    /// The catalog is damaged or not one of ours.
    Damaged,
    /// A newer release made it.
    Newer,
    /// Another process holds it for too long.
    Busy,
    /// The file system is full.
    Full,
    /// It may not be read or written.
    Forbidden,
    /// Anything else the host said.
    Other,
}

/// What to boot.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Launch {
    /// Whether it is new.
    pub what: LaunchKind,
    /// The home: catalog, sandboxes, runs.
    pub home: PathBuf,
    /// Whether it outlives whoever launches it.
    pub detached: bool,
    /// The VMM executable.
    pub vmm: PathBuf,
    /// The guest kernel.
    pub kernel: PathBuf,
    /// The initramfs with the agent in it.
    pub initramfs: PathBuf,
    /// The template of writable layers, where one is installed. Only a creation needs it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub upper_template: Option<PathBuf>,
    /// Whether images may be mapped into the memory of guests, so that sandboxes have their pages in common.
    pub map_images: bool,
    /// The writable layer of a snapshot, which a creation begins with.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub snapshot_upper: Option<PathBuf>,
    /// When the sandbox was asked for (`CLOCK_MONOTONIC`, ns).
    pub requested_ns: u64,
    /// How long the boot may take, in milliseconds.
    pub boot_timeout_ms: u64,
}

/// Whether a sandbox is made or found.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum LaunchKind {
    /// It is created from this configuration.
    Create(Box<SandboxConfig>),
    /// The one of this name is booted again.
    Start(String),
}

impl LaunchKind {
    /// The sandbox's name.
    pub fn name(&self) -> &str {
        match self {
            Self::Create(config) => &config.name,
            Self::Start(name) => name,
        }
    }
}
