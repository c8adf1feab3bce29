//! The conversation between the host and the guest's agent.
//!
//! One vsock connection is one conversation: the boot, the monitor, or one command. Both sides
//! send [`Hello`] first; after that the host speaks [`HostMessage`]s and the guest
//! [`GuestMessage`]s. Each message is one frame: a little-endian `u32` length and
//! that many bytes of bincode.
//!
//! This crate does no I/O. It turns messages into bytes ([`encode`]) and bytes into
//! messages ([`Decoder`]), however the bytes were cut on their way, and refuses what
//! is too long before it allocates. docs/protocol.md tells the rules of each
//! conversation; `tests/golden` freezes the bytes.

mod codec;
mod frame;
mod hello;
mod message;
mod setting;

pub use codec::{CodecError, encode};
pub use frame::{Decoder, FrameError, LENGTH_BYTES, MAX_CHUNK, MAX_FRAME};
pub use hello::{Features, GENERATION, HandshakeError, Hello, MINIMUM_GENERATION, Session, agree};
pub use message::{
    BootFailure, BootRequest, BootStage, ExecFailure, ExecFailureKind, ExecRequest, Exit,
    GuestMessage, GuestSample, HostMessage, INITIAL_STDIN_WINDOW, MAX_PROGRAM, OutputSource, Ready,
    Refusal, RefusalKind, Resource, ResourceLimit, Root, Stdin, TerminalSize,
};
pub use setting::{
    AUTO_INIT, INIT_PLACES, InitProgram, MAX_TMPFS, MAX_TMPFS_PATH, SCRIPTS_DIR, Setting, Tmpfs,
};

/// The guest's vsock port on which the agent serves conversations.
pub const AGENT_PORT: u32 = 1024;

/// The host's vsock port that the agent connects to once, at boot, for the
/// conversation that lasts as long as the machine.
pub const SUPERVISOR_PORT: u32 = 1024;

/// The host's vsock port that the agent connects to once, after the boot, to tell the
/// supervisor what its sessions do.
pub const MONITOR_PORT: u32 = 1025;
