//! The states of a sandbox, and the one function that says which may follow which.
//!
//! ```text
//!            Launch              Booted              DrainAsked
//!  Created ─────────> Starting ─────────> Running ──────────────> Draining
//!     ^                │   ^               │  ^ │                    │
//!     │           Lost,│   │Launch    Paused│  │Resumed             │
//!  BootFailed  Ended   v   │               v  │ v                   v
//!                  Stopped / Crashed <──── Paused ──> Ended, Lost <──┘
//! ```
//!
//! A state is *active* while a supervisor holds the sandbox's lock and *terminal* when a run is
//! over. Nothing outside [`SandboxStatus::after`] decides what follows what.

use serde::{Deserialize, Serialize};

/// What a sandbox is doing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SandboxStatus {
    /// It is described and has never run.
    Created,
    /// A supervisor has it and boots it.
    Starting,
    /// Commands are served.
    Running,
    /// It was asked to end: what runs may finish, nothing new begins.
    Draining,
    /// Its processors stand still. It keeps its memory and uses no CPU time.
    Paused,
    /// It ended in an orderly way, or as it was asked to.
    Stopped,
    /// It ended in a way that nobody asked for.
    Crashed,
}

/// What can happen to a sandbox.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum StatusEvent {
    /// A supervisor took the lock to boot it.
    Launch,
    /// The guest's agent serves.
    Booted,
    /// The boot failed.
    BootFailed,
    /// A stop or a drain was asked for.
    DrainAsked,
    /// The processors were stopped.
    Paused,
    /// They run again.
    Resumed,
    /// The run ended by a stop, a drain, a kill, a limit, or the guest's own power-off.
    Ended,
    /// The run ended by a crash, or its supervisor is gone without a word.
    Lost,
}

/// An event that cannot happen in a state.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a sandbox that is {from} cannot go through {event:?}")]
pub struct InvalidTransition {
    /// The state it was in.
    pub from: SandboxStatus,
    /// What was to happen.
    pub event: StatusEvent,
}

impl SandboxStatus {
    /// Every state.
    pub const ALL: [Self; 7] = [
        Self::Created,
        Self::Starting,
        Self::Running,
        Self::Draining,
        Self::Paused,
        Self::Stopped,
        Self::Crashed,
    ];

    /// The state that follows when `event` happens in this one.
    pub const fn after(self, event: StatusEvent) -> Result<Self, InvalidTransition> {
        use StatusEvent as E;
        Ok(match (self, event) {
            (Self::Created | Self::Stopped | Self::Crashed, E::Launch) => Self::Starting,
            (Self::Starting, E::Booted) => Self::Running,
            (Self::Starting, E::BootFailed) => Self::Stopped,
            // A second request changes nothing; a paused sandbox is resumed to be drained.
            (Self::Running | Self::Draining | Self::Paused, E::DrainAsked) => Self::Draining,
            (Self::Running, E::Paused) => Self::Paused,
            (Self::Paused, E::Resumed) => Self::Running,
            (Self::Starting | Self::Running | Self::Draining | Self::Paused, E::Ended) => {
                Self::Stopped
            }
            (Self::Starting | Self::Running | Self::Draining | Self::Paused, E::Lost) => {
                Self::Crashed
            }
            (from, event) => return Err(InvalidTransition { from, event }),
        })
    }

    /// Whether a supervisor must hold the sandbox in this state.
    pub const fn is_active(self) -> bool {
        matches!(
            self,
            Self::Starting | Self::Running | Self::Draining | Self::Paused
        )
    }

    /// Whether a run is over.
    pub const fn is_terminal(self) -> bool {
        matches!(self, Self::Stopped | Self::Crashed)
    }

    /// Its name, as it is stored and shown.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Created => "created",
            Self::Starting => "starting",
            Self::Running => "running",
            Self::Draining => "draining",
            Self::Paused => "paused",
            Self::Stopped => "stopped",
            Self::Crashed => "crashed",
        }
    }
}

impl std::fmt::Display for SandboxStatus {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.as_str())
    }
}

impl StatusEvent {
    /// Every event.
    pub const ALL: [Self; 8] = [
        Self::Launch,
        Self::Booted,
        Self::BootFailed,
        Self::DrainAsked,
        Self::Paused,
        Self::Resumed,
        Self::Ended,
        Self::Lost,
    ];
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn event() -> impl Strategy<Value = StatusEvent> {
        prop::sample::select(StatusEvent::ALL.to_vec())
    }

    proptest! {
        /// Whatever happens in whatever order, an active sandbox can end, a sandbox that does not
        /// run can be launched and nothing else, and a refusal changes nothing.
        #[test]
        fn every_walk_keeps_the_rules(events in prop::collection::vec(event(), 0..64)) {
            let mut status = SandboxStatus::Created;
            let mut launched = false;
            for event in events {
                match status.after(event) {
                    Ok(next) => {
                        prop_assert!(
                            status.is_active() || event == StatusEvent::Launch,
                            "{status} went through {event:?}"
                        );
                        launched |= event == StatusEvent::Launch;
                        status = next;
                    }
                    Err(refusal) => prop_assert_eq!(refusal, InvalidTransition { from: status, event }),
                }
                prop_assert_eq!(status == SandboxStatus::Created, !launched);
                prop_assert_eq!(status.after(StatusEvent::Ended).is_ok(), status.is_active());
                prop_assert_eq!(status.after(StatusEvent::Lost).is_ok(), status.is_active());
                prop_assert_eq!(status.after(StatusEvent::Launch).is_ok(), !status.is_active());
            }
        }
    }

    #[test]
    fn every_state_can_be_reached() {
        let mut reached = vec![SandboxStatus::Created];
        let mut index = 0;
        while let Some(status) = reached.get(index).copied() {
            for event in StatusEvent::ALL {
                if let Ok(next) = status.after(event)
                    && !reached.contains(&next)
                {
                    reached.push(next);
                }
            }
            index += 1;
        }
        assert_eq!(reached.len(), SandboxStatus::ALL.len());
    }

    #[test]
    fn names_are_what_is_stored() {
        for status in SandboxStatus::ALL {
            let json = serde_json::to_string(&status).unwrap();
            assert_eq!(json, format!("\"{status}\""));
        }
    }
}
