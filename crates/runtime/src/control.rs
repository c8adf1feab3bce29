//! What passes between a supervisor and its clients.
//!
//! Two kinds of stream carry the same JSON lines: the launch channel, a socket pair
//! whose other end is the supervisor's standard input, and connections to
//! `control.sock` in the run directory. Only the launch channel takes
//! [`Request::Launch`]; when it closes without [`Request::Detach`], the creator is
//! gone and the sandbox ends.

use std::path::PathBuf;

use chrono::{DateTime, Utc};
use msb_types::SandboxConfig;
use serde::{Deserialize, Serialize};

use crate::boot::{BootError, BootTimings};

/// What a client says.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Request {
    /// Boot this sandbox. The first line of the launch channel.
    Launch(Box<Launch>),
    /// The creator lets go: its end no longer ends the sandbox.
    Detach,
    /// End gracefully; by force when the guest is not off after `timeout_ms`.
    Stop {
        /// Milliseconds that the guest has.
        timeout_ms: u64,
    },
    /// End now.
    Kill,
    /// Say what state it is in.
    Status,
}

/// What the supervisor says.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Notice {
    /// The sandbox is up.
    Running(BootTimings),
    /// The sandbox did not come up; the supervisor ends.
    BootFailed(BootError),
    /// The answer to [`Request::Status`].
    Status(RunState),
    /// The sandbox is over; the last line.
    Ended(EndRecord),
}

/// What to boot.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Launch {
    /// The sandbox.
    pub config: SandboxConfig,
    /// The run directory, to be created and locked.
    pub run_dir: PathBuf,
    /// The VMM executable.
    pub vmm: PathBuf,
    /// The guest kernel.
    pub kernel: PathBuf,
    /// The initramfs with the agent in it.
    pub initramfs: PathBuf,
    /// When the sandbox was asked for (`CLOCK_MONOTONIC`, ns).
    pub requested_ns: u64,
    /// How long the boot may take, in milliseconds.
    pub boot_timeout_ms: u64,
}

/// The states of a run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum RunState {
    /// It boots.
    Starting,
    /// Commands are served.
    Running,
    /// It was asked to end.
    Stopping,
}

/// How a run ended.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct EndRecord {
    /// Why.
    pub reason: EndReason,
    /// The VMM's exit code, when it exited.
    pub exit_code: Option<i32>,
    /// The signal that ended the VMM, when one did.
    pub signal: Option<i32>,
    /// When the supervisor saw it.
    pub observed_at: DateTime<Utc>,
}

/// Why a run ended.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum EndReason {
    /// A stop was asked for, and the guest powered off.
    Stopped,
    /// It was killed: asked for, or because a stop took too long, or its creator was gone.
    Killed,
    /// The guest powered off by itself.
    GuestPowerOff,
    /// The guest reset itself.
    GuestReset,
    /// The guest crashed: what the VMM saw.
    GuestCrash(String),
    /// The VMM failed: what it said.
    VmmError(String),
    /// The VMM process ended without a word, as by a signal.
    VmmLost,
}
