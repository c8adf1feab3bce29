//! How a run ended, in the one form that the supervisor tells, the sandbox's directory
//! keeps, and the catalog repeats.

use chrono::{DateTime, Utc};
use msb_types::StatusEvent;
use serde::{Deserialize, Serialize};

/// How a run ended.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct EndRecord {
    /// Why.
    pub reason: EndReason,
    /// The VMM's exit code, when it exited.
    pub exit_code: Option<i32>,
    /// The signal that ended the VMM, when one did.
    pub signal: Option<i32>,
    /// When it was seen.
    pub observed_at: DateTime<Utc>,
    /// Who saw it.
    pub source: EndSource,
}

/// Where the knowledge of an end comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum EndSource {
    /// The supervisor reaped the VMM.
    Supervisor,
    /// The run's lock was found free, and nobody had said how it ended.
    Lock,
}

impl EndSource {
    /// Its name.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Supervisor => "supervisor",
            Self::Lock => "free lock",
        }
    }
}

/// Why a run ended.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum EndReason {
    /// A stop was asked for, and the guest powered off.
    Stopped,
    /// A drain was asked for, and the last command has ended.
    Drained,
    /// It was killed: asked for, or because a stop took too long, or its creator was gone.
    Killed,
    /// Its time was up (`max_duration`).
    MaxDuration,
    /// Nothing had happened in it for too long (`idle_timeout`).
    Idle,
    /// The guest powered off by itself.
    GuestPowerOff,
    /// The guest reset itself: a reboot, or its kernel's answer to a panic.
    GuestReset,
    /// The guest crashed: what the VMM saw.
    GuestCrash(String),
    /// The VMM failed: what it said.
    VmmError(String),
    /// The VMM process ended without a word, as by a signal.
    VmmLost,
    /// The guest's agent broke off, and the guest did not end.
    AgentLost,
    /// The supervisor ended without a word, as by a signal.
    SupervisorLost,
    /// It never came up: where and why.
    BootFailed(String),
    /// The program that was its init ended, and its kernel with it: how the program ended.
    InitEnded(String),
    /// The VMM did what its jail forbids, as after a guest broke into it, and was ended for it: which thread
    /// made which system call. The call was not carried out.
    VmmViolation(String),
}

impl EndReason {
    /// What it does to the sandbox's state.
    pub const fn event(&self) -> StatusEvent {
        match self {
            Self::Stopped
            | Self::Drained
            | Self::Killed
            | Self::MaxDuration
            | Self::Idle
            | Self::GuestPowerOff => StatusEvent::Ended,
            Self::BootFailed(_) => StatusEvent::BootFailed,
            Self::GuestReset
            | Self::GuestCrash(_)
            | Self::VmmError(_)
            | Self::VmmLost
            | Self::AgentLost
            | Self::InitEnded(_)
            | Self::VmmViolation(_)
            | Self::SupervisorLost => StatusEvent::Lost,
        }
    }
}

impl std::fmt::Display for EndReason {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Stopped => f.write_str("it was stopped"),
            Self::Drained => f.write_str("it was drained"),
            Self::Killed => f.write_str("it was killed"),
            Self::MaxDuration => f.write_str("its time was up"),
            Self::Idle => f.write_str("it was idle for too long"),
            Self::GuestPowerOff => f.write_str("the guest powered off"),
            Self::GuestReset => f.write_str("the guest reset itself"),
            Self::GuestCrash(what) => write!(f, "the guest crashed ({what})"),
            Self::VmmError(what) => write!(f, "the VMM failed: {what}"),
            Self::VmmLost => f.write_str("its VMM process was ended from outside"),
            Self::AgentLost => f.write_str("the guest's agent broke off"),
            Self::SupervisorLost => f.write_str("its supervisor was ended from outside"),
            Self::InitEnded(how) => write!(f, "its init program ended ({how})"),
            Self::VmmViolation(what) => write!(f, "its VMM was ended: {what}"),
            Self::BootFailed(what) => write!(f, "it did not start: {what}"),
        }
    }
}
