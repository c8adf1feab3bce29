//! A command's conversation as the host follows it: what may come when.
//!
//! The guest is not believed: a message that has no place in the order below ends the
//! conversation, and nothing that is counted here can overflow.
//!
//! ```text
//!            Started / Attached                      Exited, Detached, Refused
//!   Opening ────────────────────> Running ─────────────────────────────────────> Over
//!      │                          Stdout, Stderr, Dropped, StdinConsumed, StdinClosed
//!      └ ExecFailed, Refused ──────────────────────────────────────────────────> Over
//! ```

use bytes::Bytes;

use crate::frame::MAX_CHUNK;
use crate::message::{ExecFailure, Exit, GuestMessage, INITIAL_STDIN_WINDOW, Refusal};
use crate::session::{SessionAnswer, SessionAttached};

/// How the conversation was opened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    Starting,
    Attaching,
    Running,
    Over,
}

/// What a message of the guest means.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ViewEvent {
    /// The command runs, or did and is viewed.
    Running(SessionAttached),
    /// It wrote to standard output or its terminal.
    Stdout(Bytes),
    /// It wrote to standard error.
    Stderr(Bytes),
    /// So many bytes of its output are lost.
    Dropped(u64),
    /// This many more bytes of standard input may be sent.
    Room(u32),
    /// It reads no more.
    StdinClosed,
    /// It ended; nothing else comes.
    Exited(Exit),
    /// It could not be started; nothing else comes.
    Failed(ExecFailure),
    /// The guest would not; nothing else comes.
    Refused(Refusal),
    /// It lives on without us; nothing else comes.
    Detached,
}

/// A message that has no place where it came.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a message came that has no place there")]
pub struct OutOfTurn;

/// The host's view of one command.
#[derive(Clone, Debug)]
pub struct Viewer {
    phase: Phase,
    /// Of the next byte of output.
    offset: u64,
}

impl Viewer {
    /// A command was asked for.
    pub const fn starting() -> Self {
        Self {
            phase: Phase::Starting,
            offset: 0,
        }
    }

    /// A session was asked for that is there already.
    pub const fn attaching() -> Self {
        Self {
            phase: Phase::Attaching,
            offset: 0,
        }
    }

    /// The offset of the next byte of output.
    pub const fn offset(&self) -> u64 {
        self.offset
    }

    /// Whether nothing else may come.
    pub fn is_over(&self) -> bool {
        self.phase == Phase::Over
    }

    /// Takes the guest's next message.
    pub fn take(&mut self, message: GuestMessage) -> Result<ViewEvent, OutOfTurn> {
        use {GuestMessage as G, SessionAnswer as S};
        let seen = match (self.phase, message) {
            (Phase::Over, _) => return Err(OutOfTurn),
            (_, G::Refused(refusal)) => ViewEvent::Refused(refusal),
            (Phase::Starting, G::ExecFailed(failure)) => ViewEvent::Failed(failure),
            (Phase::Starting, G::Started { session, pid }) => {
                return Ok(self.runs(SessionAttached {
                    session,
                    pid,
                    offset: 0,
                    window: Some(INITIAL_STDIN_WINDOW),
                    terminal: false,
                }));
            }
            (Phase::Attaching, G::Session(S::Attached(mut attached))) => {
                let most = INITIAL_STDIN_WINDOW;
                attached.window = attached.window.map(|window| window.min(most));
                return Ok(self.runs(attached));
            }
            (Phase::Running, G::Stdout(bytes)) => return self.output(bytes, ViewEvent::Stdout),
            (Phase::Running, G::Stderr(bytes)) => return self.output(bytes, ViewEvent::Stderr),
            (Phase::Running, G::Session(S::Dropped { bytes })) => {
                self.offset = self.offset.saturating_add(bytes);
                return Ok(ViewEvent::Dropped(bytes));
            }
            (Phase::Running, G::StdinConsumed(count)) => return Ok(ViewEvent::Room(count)),
            (Phase::Running, G::StdinClosed) => return Ok(ViewEvent::StdinClosed),
            (Phase::Running, G::Exited(exit)) => ViewEvent::Exited(exit),
            (Phase::Running, G::Session(S::Detached)) => ViewEvent::Detached,
            _ => {
                self.phase = Phase::Over;
                return Err(OutOfTurn);
            }
        };
        self.phase = Phase::Over;
        Ok(seen)
    }

    fn runs(&mut self, attached: SessionAttached) -> ViewEvent {
        self.phase = Phase::Running;
        self.offset = attached.offset;
        ViewEvent::Running(attached)
    }

    fn output(
        &mut self,
        bytes: Bytes,
        wrap: fn(Bytes) -> ViewEvent,
    ) -> Result<ViewEvent, OutOfTurn> {
        // Nothing that the agent reads at once is longer or empty.
        if bytes.is_empty() || bytes.len() > MAX_CHUNK {
            self.phase = Phase::Over;
            return Err(OutOfTurn);
        }
        let length = u64::try_from(bytes.len()).unwrap_or(u64::MAX);
        self.offset = self.offset.saturating_add(length);
        Ok(wrap(bytes))
    }
}
