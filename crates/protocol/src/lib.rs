//! The conversation between the host and the guest's agent.
//!
//! One vsock connection is one conversation: the boot, the monitor, one command, or one
//! operation on files. Both sides
//! send [`Hello`] first; after that the host speaks [`HostMessage`]s and the guest
//! [`GuestMessage`]s. Each message is one frame: a little-endian `u32` length and
//! that many bytes of bincode.
//!
//! This crate does no I/O. It turns messages into bytes ([`encode`]) and bytes into
//! messages ([`Decoder`]), however the bytes were cut on their way, and refuses what
//! is too long before it allocates. [`Endpoint`] is one side of a connection on top of
//! that, with its greeting and what may be sent after it; [`Viewer`] follows a command. docs/protocol.md tells the rules of each
//! conversation; `tests/golden` freezes the bytes.

mod codec;
mod endpoint;
mod frame;
mod fs;
mod hello;
mod kind;
mod message;
mod session;
mod setting;
mod viewer;

pub use codec::{CodecError, encode};
pub use endpoint::{Arrival, Endpoint, EndpointError, GuestSide, HostSide, SendError, Side};
pub use frame::{Decoder, FrameError, LENGTH_BYTES, MAX_CHUNK, MAX_FRAME};
pub use fs::{
    FS_PART_COST, FsAnswer, FsAttributes, FsCall, FsFailure, FsFailureKind, FsKind, FsListed,
    FsNode, FsPart, FsRequest, FsStat, FsTime, FsTreeEntry, INITIAL_FS_WINDOW, MAX_LISTED_BATCH,
    MAX_NAME, MAX_PATH, MAX_TREE_DEPTH, check_name, check_path,
};
pub use hello::{Features, GENERATION, HandshakeError, Hello, MINIMUM_GENERATION, Session, agree};
pub use kind::MessageType;
pub use message::{
    BootFailure, BootRequest, BootStage, ExecFailure, ExecFailureKind, ExecRequest, Exit,
    GuestMessage, GuestSample, HostMessage, INITIAL_STDIN_WINDOW, MAX_PROGRAM, OutputSource, Ready,
    Refusal, RefusalKind, Resource, ResourceLimit, Root, Stdin, TerminalSize,
};
pub use session::{
    MAX_COMMAND_LINE, MAX_LISTED_SESSIONS, SessionAnswer, SessionAttached, SessionCall,
    SessionEntry, SessionStart,
};
pub use setting::{
    AUTO_INIT, INIT_PLACES, InitProgram, MAX_TMPFS, MAX_TMPFS_PATH, SCRIPTS_DIR, Setting, Tmpfs,
};
pub use viewer::{OutOfTurn, ViewEvent, Viewer};

/// The guest's vsock port on which the agent serves conversations.
pub const AGENT_PORT: u32 = 1024;

/// The host's vsock port that the agent connects to once, at boot, for the
/// conversation that lasts as long as the machine.
pub const SUPERVISOR_PORT: u32 = 1024;

/// The host's vsock port that the agent connects to once, after the boot, to tell the
/// supervisor what its sessions do.
pub const MONITOR_PORT: u32 = 1025;
