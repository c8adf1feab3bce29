//! The messages of generation 1.
//!
//! Enums grow only at their end and structs not at all: the place of a variant is its
//! number on the wire. `tests/golden.rs` holds the bytes of each.

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use crate::fs::{FsAnswer, FsCall};
use crate::hello::Hello;
use crate::session::{SessionAnswer, SessionCall};
use crate::setting::Setting;

pub use msb_types::{Resource, ResourceLimit};

/// Bytes of standard input the host may send before the guest says, with
/// [`GuestMessage::StdinConsumed`], that some went on to the command.
///
/// It keeps a command that never reads from holding back the signals that
/// travel on the same connection.
pub const INITIAL_STDIN_WINDOW: u32 = 256 * 1024;

/// What the host sends.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub enum HostMessage {
    /// The first message of every connection.
    Hello(Hello),
    /// Opens the boot conversation: mount the root and begin to serve.
    Boot(BootRequest),
    /// Opens a command.
    Exec(ExecRequest),
    /// Bytes for the command's standard input, within the window.
    Stdin(Bytes),
    /// Standard input ends here.
    StdinEof,
    /// Send this signal to the command's process group.
    Signal(i32),
    /// The size of the command's terminal changed.
    Resize(TerminalSize),
    /// On the boot conversation: end every process (SIGTERM, and after the
    /// grace period SIGKILL), sync and unmount, power off.
    Shutdown {
        /// Milliseconds between SIGTERM and SIGKILL.
        grace_ms: u32,
    },
    /// Opens a conversation that only asks whether the agent answers.
    Ping,
    /// On the boot conversation: take no new command, let those that run finish, and
    /// then end as after [`HostMessage::Shutdown`].
    Drain {
        /// Milliseconds between SIGTERM and SIGKILL for what is left then.
        grace_ms: u32,
    },
    /// On the monitor conversation: asks for a [`GuestMessage::Sample`].
    Sample,
    /// Of a conversation about files, if the guest has
    /// [`Features::FILES`](crate::Features::FILES).
    Fs(FsCall),
    /// Of a conversation about sessions, if the guest has
    /// [`Features::SESSIONS`](crate::Features::SESSIONS).
    Session(SessionCall),
    /// On the boot conversation, before [`HostMessage::Boot`], if the guest has
    /// [`Features::SETTINGS`](crate::Features::SETTINGS): what else the guest is to be.
    Setting(Setting),
}

/// What the guest sends.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub enum GuestMessage {
    /// The first message of every connection.
    Hello(Hello),
    /// The boot is done: commands are served.
    Ready(Ready),
    /// The boot failed; the guest powers off after this.
    BootFailed(BootFailure),
    /// The command runs.
    Started {
        /// The agent's number for this session, unique while the guest runs.
        session: u64,
        /// Its process id in the guest.
        pid: u32,
    },
    /// Bytes the command wrote to standard output (or to its terminal).
    Stdout(Bytes),
    /// Bytes the command wrote to standard error.
    Stderr(Bytes),
    /// This many more bytes of standard input may be sent.
    StdinConsumed(u32),
    /// The command reads no more: further input is dropped.
    StdinClosed,
    /// The command ended. The last message of the conversation.
    Exited(Exit),
    /// The command could not be started. The last message of the conversation.
    ExecFailed(ExecFailure),
    /// The request was not taken. The last message of the conversation.
    Refused(Refusal),
    /// The answer to a ping.
    Pong,
    /// To the monitor: a command runs. Comes before all else of its session.
    SessionStarted {
        /// The session's number, that of [`GuestMessage::Started`].
        session: u64,
        /// The command's process id in the guest.
        pid: u32,
        /// `argv[0]`, of which no more than [`MAX_PROGRAM`] bytes are told.
        program: String,
    },
    /// To the monitor: the command ended. Nothing of its session comes after this.
    SessionEnded {
        /// The session's number.
        session: u64,
        /// How the command ended.
        exit: Exit,
    },
    /// To the monitor: a copy of what a command wrote.
    SessionOutput {
        /// The session's number.
        session: u64,
        /// Where it wrote that.
        source: OutputSource,
        /// What it wrote.
        data: Bytes,
    },
    /// To the monitor, which was too slow: part of a session's output is missing here.
    OutputDropped {
        /// The session's number.
        session: u64,
        /// How many bytes, of all its sources together.
        bytes: u64,
    },
    /// To the monitor: the answer to [`HostMessage::Sample`].
    Sample(GuestSample),
    /// Of a conversation about files.
    Fs(FsAnswer),
    /// Of a conversation about sessions.
    Session(SessionAnswer),
    /// On the boot conversation: what time is it? Answered by
    /// [`Setting::Clock`](crate::Setting::Clock).
    ClockAsked {
        /// Comes back with the answer. Never 0.
        id: u32,
    },
}

/// The most bytes of a program's name that the monitor is told.
pub const MAX_PROGRAM: usize = 256;

/// How the guest is to boot.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct BootRequest {
    /// What becomes `/`.
    pub root: Root,
    /// The guest's host name.
    pub hostname: Option<String>,
    /// Environment of every command, under the command's own.
    pub env: Vec<(String, String)>,
}

/// What becomes the root file system.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub enum Root {
    /// The initramfs stays.
    Initramfs,
    /// A disk with a file system on it.
    Disk {
        /// The block device, `/dev/vda`.
        device: String,
        /// Its file system; tried in turn when not given.
        fstype: Option<String>,
        /// Mounted read-only.
        read_only: bool,
    },
    /// A disk that many machines share, and over it one that has what this machine changed. Only for a
    /// guest that has [`Features::OVERLAY`](crate::Features::OVERLAY).
    Overlay {
        /// The serial of the disk below, which is only read.
        lower: String,
        /// Its file system; tried in turn when not given.
        fstype: Option<String>,
        /// The serial of the disk above: an ext4 file system, which is grown until it fills its disk.
        upper: String,
    },
    /// The same, but that the disk below is mapped into the guest's memory. Only for a guest that has
    /// [`Features::MAPPED`](crate::Features::MAPPED).
    Mapped {
        /// The block device of the disk below, `/dev/pmem0`: such disks have no serials. Its files are used in place where
        /// its file system can do that.
        lower: String,
        /// Its file system; tried in turn when not given.
        fstype: Option<String>,
        /// The serial of the disk above, as with [`Root::Overlay`].
        upper: String,
    },
}

/// The guest serves commands.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ready {
    /// The agent's version.
    pub version: String,
    /// Guest time (`CLOCK_BOOTTIME`, nanoseconds) at which the agent began.
    pub init_ns: u64,
    /// Guest time at which it was ready.
    pub ready_ns: u64,
}

/// The stages of the guest's boot, in order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub enum BootStage {
    /// /proc, /sys, /dev.
    Filesystems,
    /// Finding and mounting the root.
    Root,
    /// Making it `/`.
    SwitchRoot,
    /// Host name, mounts, scripts.
    Settings,
    /// Opening the agent's port.
    Serve,
    /// Handing PID 1 on to the init of the root.
    Init,
}

/// Why the guest did not come up.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct BootFailure {
    /// Where it stopped.
    pub stage: BootStage,
    /// What failed, for a person.
    pub message: String,
    /// The error number behind it, if any.
    pub errno: Option<i32>,
}

/// A command to run.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ExecRequest {
    /// The program: a path, or a name looked up in the command's `PATH`.
    pub program: String,
    /// Its arguments, without the program itself.
    pub args: Vec<String>,
    /// Its environment, over that of the boot.
    pub env: Vec<(String, String)>,
    /// Its working directory; `/` when not given.
    pub cwd: Option<String>,
    /// Who runs it: `name`, `uid`, `user:group`; root when not given.
    pub user: Option<String>,
    /// Its standard input.
    pub stdin: Stdin,
    /// A terminal of this size instead of pipes.
    pub terminal: Option<TerminalSize>,
    /// Resource limits.
    pub limits: Vec<ResourceLimit>,
}

/// Where standard input comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub enum Stdin {
    /// `/dev/null`.
    Null,
    /// [`HostMessage::Stdin`] messages.
    Pipe,
}

/// A terminal's size in characters.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TerminalSize {
    /// Height.
    pub rows: u16,
    /// Width.
    pub columns: u16,
}

/// What a command wrote to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub enum OutputSource {
    /// Its standard output, a pipe.
    Stdout,
    /// Its standard error, a pipe.
    Stderr,
    /// Its terminal, which is both.
    Terminal,
}

/// The guest at one moment, as the guest itself sees it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct GuestSample {
    /// Guest time (`CLOCK_BOOTTIME`, nanoseconds).
    pub uptime_ns: u64,
    /// Memory that the guest's kernel manages; 0 if it does not say.
    pub memory_total_bytes: u64,
    /// Memory that could be had without swapping; 0 if the kernel does not say.
    pub memory_available_bytes: u64,
    /// What is taken of the root file system, where that has a size.
    pub root_used_bytes: Option<u64>,
    /// What an ordinary user could still take of it.
    pub root_free_bytes: Option<u64>,
    /// Commands that run.
    pub sessions: u32,
    /// Conversations that the host opened and that are not over, those of commands too.
    pub connections: u32,
}

/// How a command ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub enum Exit {
    /// It returned this code, 0 to 255.
    Code(i32),
    /// This signal ended it.
    Signal(i32),
}

/// Why a command did not start.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ExecFailure {
    /// What a program matches on.
    pub kind: ExecFailureKind,
    /// What a person reads.
    pub message: String,
    /// The error number behind it, if any.
    pub errno: Option<i32>,
}

/// Kinds of [`ExecFailure`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub enum ExecFailureKind {
    /// There is no such program.
    NotFound,
    /// It is there, but may not be executed, or is a directory.
    PermissionDenied,
    /// It is not something the kernel can execute.
    NotExecutable,
    /// The working directory is missing or not a directory.
    BadCwd,
    /// There is no such user or group.
    BadUser,
    /// A limit, an argument or an environment entry was not acceptable.
    BadArguments,
    /// The guest had no memory, process or descriptor left.
    ResourceExhausted,
    /// Anything else the kernel said.
    Other,
}

/// Why a request was not taken.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Refusal {
    /// What a program matches on.
    pub kind: RefusalKind,
    /// What a person reads.
    pub message: String,
}

/// Kinds of [`Refusal`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub enum RefusalKind {
    /// The message does not belong here.
    Unexpected,
    /// The guest is shutting down.
    ShuttingDown,
    /// The guest runs as many sessions as it will.
    TooManySessions,
    /// The two sides speak no common generation.
    Generation,
    /// The guest finishes what it runs, and then shuts down.
    Draining,
    /// There is no such session.
    NoSession,
    /// Somebody else views the session.
    Attached,
}
