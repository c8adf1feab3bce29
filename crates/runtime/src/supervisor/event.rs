//! What the supervisor hears.

use std::os::fd::OwnedFd;
use std::process::ExitStatus;

use msb_protocol::{Features, GuestSample, Ready};
use msb_runtime::boot::BootError;
use msb_runtime::control::{Notice, Request};
use msb_runtime::conversation::Speaker;
use msb_runtime::registry::RegistryError;
use msb_types::SandboxStatus;
use msb_vmapi::FromVmm;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;

/// How many events may wait; whoever has more waits too.
pub(crate) const EVENT_QUEUE: usize = 64;

/// One piece of news.
#[derive(Debug)]
pub(crate) enum Event {
    /// The VMM said something.
    Vmm(FromVmm, Vec<OwnedFd>),
    /// The VMM's socket closed.
    VmmHungUp,
    /// The VMM process ended.
    VmmExited(std::io::Result<ExitStatus>),
    /// The agent is ready, and can do these things.
    AgentReady(Ready, Speaker, Features),
    /// The guest could not boot, as the agent tells, or broke off.
    AgentFailed(BootError),
    /// The agent's boot conversation ended.
    AgentGone,
    /// The agent opened the conversation in which it tells of sessions.
    MonitorOpened(Speaker),
    /// So many commands run in the guest now.
    Sessions(usize),
    /// The guest said how it is.
    Sample(GuestSample),
    /// A client connected; the task writes what it is told.
    ClientJoined(u64, mpsc::Sender<Notice>, JoinHandle<()>),
    /// A client asks.
    ClientAsked(u64, Request),
    /// A client is gone.
    ClientLeft(u64),
    /// The agent's telling of sessions ended.
    MonitorGone,
    /// The host's clock was set, or the host slept.
    ClockJumped,
    /// The state was written down, or could not be.
    Recorded(SandboxStatus, Result<(), RegistryError>),
    /// The process was asked to end by a signal.
    Terminate,
}

/// Where the tasks put them.
pub(crate) type Events = mpsc::Sender<Event>;
