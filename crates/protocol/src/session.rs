//! Sessions: commands that may outlive the connection that started them.
//!
//! A connection only *views* a session. Everything that a session's command writes has a
//! place, its offset: the number of bytes, of all its streams together, that came before it
//! in the order in which the viewer gets them. With offsets both sides can speak of what has
//! arrived and of what is missing:
//!
//! ```text
//!          dropped          kept for the next viewer
//!   0 ───────────────┬──────────────┬─────────────────> offset
//!                    │              └ the viewer has all before this (Received, Detach)
//!                    └ the oldest byte that the guest still has
//! ```

use serde::{Deserialize, Serialize};

use crate::message::{ExecRequest, Exit};

/// The most bytes that a session's command line has in a list.
pub const MAX_COMMAND_LINE: usize = 1024;

/// The most sessions in one [`SessionAnswer::Listed`].
pub const MAX_LISTED_SESSIONS: usize = 64;

/// What the host says about sessions.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub enum SessionCall {
    /// Opens a command, as [`HostMessage::Exec`](crate::HostMessage::Exec) does.
    Start(SessionStart),
    /// Opens a conversation with a session that nobody views.
    Attach {
        /// The session's number.
        session: u64,
    },
    /// Opens a conversation that lists all sessions.
    List,
    /// Opens a conversation that asks how the guest came up.
    About,
    /// While a session is viewed: everything before this offset has arrived where it is wanted,
    /// and need not be kept.
    Received {
        /// The first byte that has not.
        offset: u64,
    },
    /// While a session is viewed: the command lives on without this viewer, and the next one
    /// goes on at this offset. The answer is [`SessionAnswer::Detached`].
    Detach {
        /// The first byte that has not arrived where it is wanted.
        offset: u64,
    },
    /// While a session is viewed: the command is killed if it runs, and the session forgotten.
    /// There is no answer.
    End,
}

/// A command to run in a session.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SessionStart {
    /// The command.
    pub exec: ExecRequest,
    /// Whether it lives on when the connection ends without a word.
    pub detachable: bool,
    /// Milliseconds after which the guest itself kills it, viewed or not.
    pub limit_ms: Option<u64>,
}

/// What the guest says about sessions.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub enum SessionAnswer {
    /// The session is viewed from here on.
    Attached(SessionAttached),
    /// So many bytes of output were not kept: those that come next are behind them.
    Dropped {
        /// How many.
        bytes: u64,
    },
    /// The viewer is one no more. The last message of the conversation.
    Detached,
    /// Some of the sessions.
    Listed(Vec<SessionEntry>),
    /// All sessions were listed. The last message of the conversation.
    ListEnd,
    /// How the guest came up. The last message of the conversation.
    About(crate::message::Ready),
}

/// A session, as its new viewer finds it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SessionAttached {
    /// The session's number.
    pub session: u64,
    /// The command's process id in the guest.
    pub pid: u32,
    /// Where its output goes on.
    pub offset: u64,
    /// How many bytes of standard input may be sent; `None` if nobody reads any.
    pub window: Option<u32>,
    /// Whether it has a terminal.
    pub terminal: bool,
}

/// A session in a list.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SessionEntry {
    /// Its number.
    pub session: u64,
    /// The command's process id in the guest.
    pub pid: u32,
    /// Program and arguments with spaces between them, cut to [`MAX_COMMAND_LINE`] bytes.
    pub command: String,
    /// When it was started: milliseconds since 1970 by the guest's clock.
    pub started_ms: u64,
    /// Whether it has a terminal.
    pub terminal: bool,
    /// Whether somebody views it.
    pub attached: bool,
    /// How the command ended, if it has.
    pub exit: Option<Exit>,
}
