//! What can go wrong between a program and an agent.

use std::path::PathBuf;
use std::time::Duration;

use msb_protocol::{CodecError, Refusal};
use msb_runtime::conversation::ConversationError;

/// A direct conversation with a sandbox's agent that failed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum AgentClientError {
    /// Nobody answers there.
    #[error("the agent could not be reached at {}; does the sandbox run?", path.display())]
    Connect {
        /// Its socket.
        path: PathBuf,
        /// Why.
        source: ConversationError,
    },
    /// The two could not agree on how to speak.
    #[error("the agent and this library did not come to speak")]
    Handshake(#[source] ConversationError),
    /// There is no sandbox of this name, or it does not run.
    #[error("there is no running sandbox {0:?}; start it first")]
    SandboxNotFound(String),
    /// No sandbox can have this name.
    #[error("{0:?} is no sandbox's name: letters, digits, '.', '_' and '-', at most 128 of them")]
    InvalidSandboxName(String),
    /// The connection failed.
    #[error("the connection to the agent failed")]
    Io(#[from] std::io::Error),
    /// The agent said what it may not say.
    #[error("the agent broke the protocol")]
    Protocol(#[source] ConversationError),
    /// A message that cannot be sent: it is not what its type says, or no message at all.
    #[error("the message is malformed; nothing was sent")]
    InvalidPacket(#[source] CodecError),
    /// Flags for a protocol that has none.
    #[error("frames of this protocol have no flags: pass 0 instead of {0}")]
    InvalidFlags(u8),
    /// The agent does not know such messages.
    #[error(
        "the sandbox's agent does not know messages about {operation}; it is of an older release: \
         start the sandbox anew"
    )]
    UnsupportedOperation {
        /// What the message was about.
        operation: &'static str,
    },
    /// The agent would not.
    #[error("the agent refused: {}", .0.message)]
    Refused(Refusal),
    /// The agent did not answer in time.
    #[error("the agent did not answer within {0:?}")]
    Timeout(Duration),
    /// The stream of this number is over.
    #[error("stream {0} is over")]
    ReaderClosed(u32),
    /// The client is closed, or its only connection is used.
    #[error("the connection to the agent is closed; connect again")]
    Closed,
    /// There are as many streams as there may be.
    #[error("no more streams can be open at a time; end some first")]
    IdRangeExhausted,
    /// The sandbox could not be looked up.
    #[error("the sandbox could not be looked up")]
    Lookup(#[source] Box<crate::MicrosandboxError>),
}

impl From<ConversationError> for AgentClientError {
    fn from(error: ConversationError) -> Self {
        match error {
            ConversationError::Io(error) => Self::Io(error),
            ConversationError::Closed => Self::Closed,
            ConversationError::Timeout(timeout) => Self::Timeout(timeout),
            ConversationError::Codec(error) => Self::InvalidPacket(error),
            ConversationError::RefusedByAgent(refusal) => Self::Refused(refusal),
            ConversationError::Unsupported { kind } => Self::UnsupportedOperation {
                operation: kind.as_str(),
            },
            error @ ConversationError::Handshake(_) => Self::Handshake(error),
            error => Self::Protocol(error),
        }
    }
}
