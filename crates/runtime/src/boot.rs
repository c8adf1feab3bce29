//! What a boot brings: where its time went, or where and why it stopped.

use std::time::Duration;

use msb_vmapi::ErrorKind;
use serde::{Deserialize, Serialize};

/// The layers a boot goes through, in order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum BootStage {
    /// The supervisor: directories, lock, files, sockets.
    Supervisor,
    /// The VMM: checking and building the machine.
    Vmm,
    /// The guest kernel, up to the agent's first word.
    Kernel,
    /// The agent: mounting the root, opening its port.
    Agent,
    /// The image's own init, where one becomes PID 1.
    Init,
}

impl std::fmt::Display for BootStage {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Supervisor => "supervisor",
            Self::Vmm => "VMM",
            Self::Kernel => "guest kernel",
            Self::Agent => "guest agent",
            Self::Init => "init",
        })
    }
}

/// Why a boot failed, for a program to match on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum BootErrorKind {
    /// The VMM refused the machine, or could not build it.
    Vmm(ErrorKind),
    /// A sandbox of this name runs already.
    AlreadyRunning,
    /// The guest was over (crash, reset, power off) before it was ready.
    GuestEnded,
    /// The guest could not mount its root or begin to serve.
    GuestBoot,
    /// The guest's agent does not speak this release's protocol.
    Protocol,
    /// The deadline passed.
    Timeout,
    /// The boot was called off before it was done.
    Cancelled,
    /// The host refused something.
    Host,
    /// The image that the sandbox is of is not on this host.
    ImageMissing,
    /// The image, or what was made of it, is damaged.
    Image,
    /// The root could not be changed as was asked.
    Patch,
}

/// A boot that failed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[error("the {stage} stage failed: {message}")]
#[non_exhaustive]
pub struct BootError {
    /// How far it came.
    pub stage: BootStage,
    /// What a program matches on.
    pub kind: BootErrorKind,
    /// What a person reads.
    pub message: String,
    /// The last lines of the guest's console, where there were any.
    pub console_tail: Option<String>,
}

impl BootError {
    /// A failure at `stage`.
    pub fn new(stage: BootStage, kind: BootErrorKind, message: impl Into<String>) -> Self {
        Self {
            stage,
            kind,
            message: message.into(),
            console_tail: None,
        }
    }

    /// The same failure with what the guest's console said last.
    #[must_use]
    pub fn with_console(mut self, tail: String) -> Self {
        self.console_tail = Some(tail).filter(|tail| !tail.trim().is_empty());
        self
    }
}

/// Where the time of a boot went. The four parts add up to the whole.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct BootTimings {
    /// From the request until the VMM process began: spawn, lock, files, sockets.
    pub supervisor: Duration,
    /// From there until the first vCPU entered the guest.
    pub vmm: Duration,
    /// From there until the agent began.
    pub kernel: Duration,
    /// From there until commands were served.
    pub agent: Duration,
}

impl BootTimings {
    /// The whole boot.
    pub fn total(&self) -> Duration {
        self.supervisor + self.vmm + self.kernel + self.agent
    }
}

/// Points in time of one boot, from which [`BootTimings`] are made.
#[derive(Clone, Copy, Debug)]
pub struct BootMarks {
    /// When the sandbox was asked for (`CLOCK_MONOTONIC`, ns).
    pub requested_ns: u64,
    /// When the VMM process began.
    pub vmm_started_ns: u64,
    /// When the first vCPU entered the guest.
    pub guest_entered_ns: u64,
    /// When the host heard that the agent was ready.
    pub ready_ns: u64,
    /// How long the agent took, by the guest's own clock.
    pub agent_ns: u64,
}

impl From<BootMarks> for BootTimings {
    fn from(marks: BootMarks) -> Self {
        let in_guest = marks.ready_ns.saturating_sub(marks.guest_entered_ns);
        // A guest may say what it likes of itself; it cannot have taken longer than it ran.
        let agent = marks.agent_ns.min(in_guest);
        Self {
            supervisor: Duration::from_nanos(
                marks.vmm_started_ns.saturating_sub(marks.requested_ns),
            ),
            vmm: Duration::from_nanos(marks.guest_entered_ns.saturating_sub(marks.vmm_started_ns)),
            kernel: Duration::from_nanos(in_guest - agent),
            agent: Duration::from_nanos(agent),
        }
    }
}
