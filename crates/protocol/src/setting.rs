//! Settings of a guest: what it is to be beside its root, its host name and its environment.
//!
//! They come in the boot conversation, ahead of the one message that has the guest boot, one
//! message for each, so that no number of them is too much for one frame. The guest does with
//! them what it can at once (a script's bytes go to their file), and the rest while it boots.
//! A host sends them only to a guest that has [`Features::SETTINGS`](crate::Features::SETTINGS).

use bytes::Bytes;
use serde::{Deserialize, Serialize};

/// The most mounts of memory that a guest takes.
pub const MAX_TMPFS: usize = 256;

/// The longest path of one, in bytes.
pub const MAX_TMPFS_PATH: usize = 4095;

/// The directory that scripts are put in. Every command has it in its `PATH` where there are any.
pub const SCRIPTS_DIR: &str = "/.msb/scripts";

/// What an init is called by that the guest is to look for itself, in [`INIT_PLACES`].
pub const AUTO_INIT: &str = "auto";

/// Where an init is looked for, in this order.
pub const INIT_PLACES: [&str; 3] = [
    "/sbin/init",
    "/lib/systemd/systemd",
    "/usr/lib/systemd/systemd",
];

/// One setting.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub enum Setting {
    /// Memory is mounted somewhere.
    Tmpfs(Tmpfs),
    /// A script, or a part of one. The parts of one script follow each other, and no other
    /// script comes between.
    Script {
        /// The name of its file.
        name: String,
        /// Its next bytes.
        data: Bytes,
    },
    /// Commands get no new privileges and cannot administer the guest.
    Restricted,
    /// A program of the root becomes PID 1 when all is set up.
    Init(InitProgram),
    /// The host's clock. The only setting that may come after the boot as well: by itself when
    /// the host's clock jumped, and as the answer to
    /// [`GuestMessage::ClockAsked`](crate::GuestMessage::ClockAsked).
    Clock {
        /// The number of the question; 0 when there was none.
        id: u32,
        /// The host's time: nanoseconds since 1970, UTC.
        unix_ns: u64,
    },
    /// The directory that the image wants its commands to begin in: an absolute path. It and those above it are
    /// made where they are missing.
    WorkingDir(String),
    /// The number of the signal that the image wants its programs to be ended with, in place of `SIGTERM`.
    StopSignal(u8),
}

/// Memory that is mounted.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Tmpfs {
    /// Where: an absolute path, whose directories are made where they are missing.
    pub path: String,
    /// The most that it may hold; half of the guest's memory when not given.
    pub size_bytes: Option<u64>,
    /// Nothing can be changed.
    pub read_only: bool,
    /// No program can be run from it.
    pub noexec: bool,
    /// Set-uid bits mean nothing in it.
    pub nosuid: bool,
    /// Device files mean nothing in it.
    pub nodev: bool,
}

/// The program that becomes PID 1.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct InitProgram {
    /// An absolute path, or [`AUTO_INIT`].
    pub program: String,
    /// Its arguments, without the program itself.
    pub args: Vec<String>,
    /// Its environment, over that of the boot.
    pub env: Vec<(String, String)>,
}
