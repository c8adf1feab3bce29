//! What passes over the control socket.
//!
//! A client sends [`ToVmm`] and reads [`FromVmm`]: one reply to each request, by
//! its `id`, and events in between as they happen. Every connected client sees
//! every event. A VMM that was started for a supervisor (`--control-fd`) waits
//! for [`Request::Configure`] first and ends when that connection does.

use serde::{Deserialize, Serialize};

use crate::config::VmConfig;
use crate::counters::Counters;
use crate::isolation::Isolation;

/// The most bytes one datagram may have, either way.
pub const MAX_DATAGRAM: usize = 64 * 1024;

/// The most descriptors that may ride beside one datagram: as many as Linux lets (`SCM_MAX_FD`). A disk may
/// be put together from hundreds of files.
pub const MAX_DESCRIPTORS: usize = 253;

/// One request to the VMM.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ToVmm {
    /// Chosen by the client, repeated in the reply.
    pub id: u64,
    /// What is asked.
    pub request: Request,
}

/// What a client may ask of the VMM.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Request {
    /// Build and boot this machine; its descriptors ride beside the datagram.
    /// Once, and only on the connection the VMM was started with.
    Configure(Box<VmConfig>),
    /// Say in what state the machine is.
    State,
    /// Press the power button: the guest is told, and does what it likes.
    PowerButton,
    /// End the machine now.
    Kill,
    /// Take all vCPUs out of the guest; answered once they are out. A machine that is paused stays
    /// so. Devices go on: I/O that is in flight completes, connections stay open. What comes for the
    /// guest meanwhile, a press of the power button too, reaches it when it is resumed.
    Pause,
    /// Let the vCPUs into the guest again; answered once they are told. A machine that runs goes on
    /// running, and one that is still being paused is resumed after that.
    Resume,
    /// Say what the machine has done so far. It disturbs neither the guest nor its devices.
    Counters,
}

/// One message from the VMM.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum FromVmm {
    /// The answer to the request of this id.
    Reply {
        /// The request's id.
        id: u64,
        /// What came of it.
        reply: Reply,
    },
    /// Something happened.
    Event(Event),
}

/// The answer to a request.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Reply {
    /// It was done, or is being done.
    Done,
    /// The state that was asked for.
    State(VmState),
    /// It was refused or failed.
    Error(VmError),
    /// The counters that were asked for.
    Counters(Counters),
}

/// The states of a machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum VmState {
    /// No machine yet.
    Unconfigured,
    /// The machine is being built.
    Starting,
    /// Its vCPUs run.
    Running,
    /// Its vCPUs are out of the guest, until it is resumed.
    Paused,
    /// It is over; the process is about to exit.
    Stopped,
}

/// What happened to the machine.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Event {
    /// The vCPUs were set running. Times are `CLOCK_MONOTONIC` nanoseconds.
    Booted {
        /// When the VMM process entered `main`.
        process_started_ns: u64,
        /// When the first vCPU entered the guest.
        booted_ns: u64,
        /// What the VMM had given up by then.
        #[serde(default, skip_serializing_if = "Isolation::is_none")]
        isolation: Isolation,
    },
    /// The guest connected to the host at this vsock port. The connected
    /// descriptor rides beside the datagram.
    GuestConnected {
        /// The port on the host that the guest asked for.
        port: u32,
    },
    /// The machine is over. The last message.
    Ended(Outcome),
    /// All vCPUs are out of the guest. Whoever asked for it hears this before the reply.
    Paused,
    /// The vCPUs were let into the guest again. Whoever asked for it hears this before the reply.
    Resumed,
    /// The host cannot serve a request to a disk, and the guest was told of an I/O error. Told once for each
    /// disk and reason; what fails after that fails in silence.
    DiskFailed {
        /// Which disk of the description, from 0.
        disk: u32,
        /// Why not.
        error: String,
    },
}

/// How a machine ended.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Outcome {
    /// The guest powered off.
    PowerOff,
    /// The guest asked for a reset.
    Reset,
    /// The guest crashed.
    Crash(CrashCause),
    /// It was ended through the control socket or by a signal.
    Killed,
    /// It could not be built, or the VMM failed.
    Error(VmError),
    /// The VMM did what it may not, as after a guest broke into it, and was ended for it.
    Violation(Violation),
}

/// A system call that the jail does not allow, and that was not carried out.
///
/// What the VMM says is no proof of what it did: whoever owns the process can say anything. That such a
/// call is not carried out is the kernel's doing.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Violation {
    /// The thread that made it.
    pub thread: ThreadRole,
    /// Its name, as in `execve`; `unknown` if it has none here.
    pub syscall: String,
}

/// What a thread of the VMM is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum ThreadRole {
    /// The event loop of most devices.
    Main,
    /// A processor of the guest.
    Vcpu,
    /// A disk.
    Block,
}

impl ThreadRole {
    /// Its name.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Main => "main",
            Self::Vcpu => "vcpu",
            Self::Block => "block",
        }
    }
}

impl std::fmt::Display for Violation {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { thread, syscall } = self;
        write!(
            f,
            "its {} thread called {syscall}, which the jail forbids",
            thread.as_str()
        )
    }
}

/// How a guest crashed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum CrashCause {
    /// A fault while handling a fault while handling a fault.
    TripleFault,
    /// The processor could not run the guest: what KVM said.
    Vcpu(String),
}

/// An error as it travels: a kind to match on and a text to show.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[error("{message}")]
pub struct VmError {
    /// What a program matches on.
    pub kind: ErrorKind,
    /// What a person reads: the whole chain, and what to do.
    pub message: String,
}

/// What went wrong, for a program.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum ErrorKind {
    /// The machine description contradicts itself or has a value out of range.
    InvalidConfig,
    /// The kernel is missing, damaged, or not one that can be booted.
    Kernel,
    /// The initramfs is missing, or does not fit.
    Initrd,
    /// The number of vCPUs is 0 or beyond the limit.
    Cpus,
    /// The memory is too small, or more than the host has.
    Memory,
    /// A disk is missing, not a disk image, or of a bad size.
    Disk,
    /// A disk is in use by another machine.
    DiskInUse,
    /// A socket could not be made: its path is too long or taken.
    Socket,
    /// There is no /dev/kvm.
    KvmAbsent,
    /// /dev/kvm may not be opened by this user.
    KvmForbidden,
    /// /dev/kvm is there, but no hardware virtualization behind it.
    KvmNotHardware,
    /// The jail is weaker here than what is required.
    Isolation,
    /// The host refused something else that was needed.
    Host,
    /// The request does not fit the machine's state.
    State,
    /// The datagram could not be understood.
    Malformed,
}
