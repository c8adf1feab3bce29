//! What some errors carry that no other crate of ours has a type for.

/// A request over HTTP that came to nothing: no answer, or one that could not be read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
#[non_exhaustive]
pub struct HttpError {
    /// Where it went.
    pub url: Option<String>,
    /// The status of the answer, if one came.
    pub status: Option<u16>,
    /// What a person reads.
    pub message: String,
}

/// An error number of the operating system.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Errno(pub i32);

impl std::fmt::Display for Errno {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        std::io::Error::from_raw_os_error(self.0).fmt(f)
    }
}

impl std::error::Error for Errno {}

/// An image that cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ImageError {
    /// A text that refers to no image.
    #[error("{reference:?} refers to no image; write name:tag or registry/name:tag")]
    InvalidReference {
        /// The text.
        reference: String,
    },
}

/// A direct conversation with a sandbox's agent that failed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum AgentClientError {
    /// Nobody answers there.
    #[error("the agent could not be reached at {}", path.display())]
    Connect {
        /// Its socket.
        path: std::path::PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// The two could not agree on how to speak.
    #[error("the agent and this library did not come to speak: {0}")]
    Handshake(String),
    /// There is no sandbox of this name, or it does not run.
    #[error("there is no running sandbox {0:?}")]
    SandboxNotFound(String),
    /// No sandbox can have this name.
    #[error("{0:?} is no sandbox's name")]
    InvalidSandboxName(String),
    /// The connection failed.
    #[error("the connection to the agent failed")]
    Io(#[from] std::io::Error),
    /// The agent said what it may not say.
    #[error("the agent broke the protocol: {0}")]
    Protocol(String),
    /// A message that cannot be sent or was not understood.
    #[error("a message to or from the agent is malformed: {0}")]
    InvalidPacket(String),
    /// The agent is too old for it.
    #[error("the sandbox's agent does not know {operation}; start the sandbox anew")]
    UnsupportedOperation {
        /// What was asked for.
        operation: String,
    },
    /// The conversation of this number ended before its answer came.
    #[error("conversation {0} ended before its answer came")]
    ReaderClosed(u32),
    /// The connection is closed.
    #[error("the connection to the agent is closed")]
    Closed,
    /// Every number is taken by a conversation.
    #[error("no more conversations can be opened on this connection")]
    IdRangeExhausted,
}
