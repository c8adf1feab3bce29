//! Sessions: the commands of a sandbox, whoever started them.

use chrono::{DateTime, Utc};
use msb_protocol::{
    GuestMessage, MAX_COMMAND_LINE, MAX_LISTED_SESSIONS, SessionAnswer, SessionCall, SessionEntry,
};
use msb_runtime::conversation::{Conversation, ConversationError};

use super::Exit;
use super::link::SAY_TIMEOUT;

/// More sessions than any agent has: those that run, and those that are kept.
const MAX_SESSIONS: usize = 4096;

/// A command that runs in a sandbox, or has run and was not collected yet.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct SessionInfo {
    /// Its number, unique within one run of the sandbox.
    pub id: String,
    /// Program and arguments, with spaces between them; what is longer than 1 KiB is cut.
    pub command: String,
    /// The command's process id in the guest.
    pub pid: u32,
    /// When it was started, by the guest's clock.
    pub started_at: DateTime<Utc>,
    /// Whether it has a terminal.
    pub tty: bool,
    /// Whether somebody holds a handle on it now.
    pub attached: bool,
    /// Whether it runs.
    pub state: SessionState,
    /// How it ended, if it has.
    pub exit: Option<Exit>,
}

/// Whether a session's command runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum SessionState {
    /// It runs.
    Running,
    /// It has ended, and nobody has collected that yet.
    Exited,
}

impl SessionInfo {
    /// Of what the guest says, which is not believed to keep to any bound.
    fn of(entry: SessionEntry) -> Option<Self> {
        let started = i64::try_from(entry.started_ms).ok()?;
        let state = match entry.exit {
            Some(_) => SessionState::Exited,
            None => SessionState::Running,
        };
        (entry.command.len() <= MAX_COMMAND_LINE).then_some(Self {
            id: entry.session.to_string(),
            command: entry.command,
            pid: entry.pid,
            started_at: DateTime::from_timestamp_millis(started)?,
            tty: entry.terminal,
            attached: entry.attached,
            state,
            exit: entry.exit,
        })
    }
}

/// Asks the agent for all sessions, the oldest first.
pub(crate) async fn list(
    conversation: Conversation,
) -> Result<Vec<SessionInfo>, ConversationError> {
    tokio::time::timeout(SAY_TIMEOUT, listed(conversation))
        .await
        .unwrap_or(Err(ConversationError::Timeout(SAY_TIMEOUT)))
}

async fn listed(mut conversation: Conversation) -> Result<Vec<SessionInfo>, ConversationError> {
    let list = SessionCall::List.into();
    conversation.speaker.send(&list).await?;
    let mut all = Vec::new();
    loop {
        match conversation.listener.next().await? {
            GuestMessage::Session(SessionAnswer::Listed(entries))
                if entries.len() <= MAX_LISTED_SESSIONS
                    && all.len() + entries.len() <= MAX_SESSIONS =>
            {
                for entry in entries {
                    all.push(SessionInfo::of(entry).ok_or(ConversationError::OutOfTurn)?);
                }
            }
            GuestMessage::Session(SessionAnswer::ListEnd) => return Ok(all),
            GuestMessage::Refused(refusal) => {
                return Err(ConversationError::RefusedByAgent(refusal));
            }
            _ => return Err(ConversationError::OutOfTurn),
        }
    }
}
