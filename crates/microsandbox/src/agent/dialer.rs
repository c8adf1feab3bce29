//! How a client comes by its connections.

use std::fmt;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use msb_runtime::conversation::{Conversation, ConversationError};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::UnixStream;
use tokio::sync::watch;

use super::AgentClientError;
use crate::backend::Backend;
use crate::backend::local::End;
use crate::error::MicrosandboxError;

/// Where the agent is.
pub(super) enum Dialer {
    /// Behind the VMM's socket.
    Path(PathBuf),
    /// In a sandbox, or in one run of it.
    Sandbox {
        backend: Arc<dyn Backend>,
        name: String,
        end: Option<watch::Receiver<Option<End>>>,
    },
    /// At the end of one connection, which makes one conversation.
    Once(Mutex<Option<Conversation>>),
}

impl fmt::Debug for Dialer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Path(path) => f.debug_tuple("Path").field(path).finish(),
            Self::Sandbox { name, .. } => f.debug_tuple("Sandbox").field(name).finish(),
            Self::Once(_) => f.write_str("Once"),
        }
    }
}

impl Dialer {
    /// Opens a conversation within `timeout`.
    pub(super) async fn dial(&self, timeout: Duration) -> Result<Conversation, AgentClientError> {
        match self {
            Self::Path(path) => {
                let dialed = Conversation::connect(path, timeout).await;
                dialed.map_err(|error| match error {
                    source @ (ConversationError::Unreachable(_) | ConversationError::Refused) => {
                        let path = path.clone();
                        AgentClientError::Connect { path, source }
                    }
                    error => opening(error),
                })
            }
            Self::Sandbox { backend, name, end } => {
                // Another run may have the name by now.
                if end.as_ref().is_some_and(|end| end.borrow().is_some()) {
                    return Err(AgentClientError::SandboxNotFound(name.clone()));
                }
                let dialed = tokio::time::timeout(timeout, backend.sandboxes().dial(name)).await;
                match dialed.map_err(|_| AgentClientError::Timeout(timeout))? {
                    Ok(conversation) => Ok(conversation),
                    Err(MicrosandboxError::Protocol(error)) => Err(opening(error)),
                    Err(
                        MicrosandboxError::SandboxNotFound(_)
                        | MicrosandboxError::SandboxNotRunning { .. },
                    ) => Err(AgentClientError::SandboxNotFound(name.clone())),
                    Err(error) => Err(AgentClientError::Lookup(Box::new(error))),
                }
            }
            Self::Once(conversation) => {
                let mut held = conversation.lock().unwrap_or_else(PoisonError::into_inner);
                held.take().ok_or(AgentClientError::Closed)
            }
        }
    }
}

/// What went wrong before anything was asked.
pub(super) fn opening(error: ConversationError) -> AgentClientError {
    match error {
        ConversationError::Timeout(_) | ConversationError::Io(_) => error.into(),
        error => AgentClientError::Handshake(error),
    }
}

/// A socket whose other end is copied to and from `stream`, whatever that is, for as long as both
/// are open.
pub(super) fn socket<S>(mut stream: S) -> std::io::Result<UnixStream>
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let (ours, mut theirs) = UnixStream::pair()?;
    tokio::spawn(async move {
        // However it ends, both are closed then.
        let _ = tokio::io::copy_bidirectional(&mut stream, &mut theirs).await;
    });
    Ok(ours)
}
