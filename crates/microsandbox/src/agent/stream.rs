//! Conversations of more than one answer.
//!
//! A stream reads a message from its connection when it is asked for one, and no sooner: a program
//! that does not ask holds up that one conversation, and nothing piles up here.

use std::sync::Arc;

use bytes::Bytes;
use msb_protocol::{GuestMessage, LENGTH_BYTES, encode};
use msb_runtime::conversation::{ConversationError, Listener};

use super::AgentClientError;
use super::client::Streams;

/// A frame as bytes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RawFrame {
    /// Always 0: this protocol's frames have no flags.
    pub flags: u8,
    /// The message, without its length.
    pub body: Bytes,
}

impl RawFrame {
    /// Of a message.
    pub(super) fn of(message: &GuestMessage) -> Result<Self, AgentClientError> {
        let mut frame = Vec::new();
        encode(message, &mut frame).map_err(AgentClientError::InvalidPacket)?;
        let body = Bytes::from(frame).slice(LENGTH_BYTES..);
        Ok(Self { flags: 0, body })
    }
}

/// A conversation. Dropping it ends it.
#[derive(Debug)]
pub struct AgentStream {
    id: u32,
    listener: Listener,
    streams: Arc<Streams>,
}

impl AgentStream {
    pub(super) fn new(id: u32, listener: Listener, streams: Arc<Streams>) -> Self {
        Self {
            id,
            listener,
            streams,
        }
    }

    /// Its number, for [`AgentClient::send`](super::AgentClient::send).
    pub fn id(&self) -> u32 {
        self.id
    }

    /// The agent's next message; `None` when it has closed the connection. Waits for as long as the
    /// agent says nothing, which may be right: a command may be silent. Cancel-safe.
    pub async fn next(&mut self) -> Result<Option<GuestMessage>, AgentClientError> {
        match self.listener.next().await {
            Ok(message) => Ok(Some(message)),
            Err(ConversationError::Closed) => Ok(None),
            Err(error) => Err(error.into()),
        }
    }
}

impl Drop for AgentStream {
    fn drop(&mut self) {
        self.streams.end(self.id);
    }
}

/// A conversation in bytes. Dropping it ends it.
#[derive(Debug)]
pub struct RawStream {
    stream: AgentStream,
}

impl RawStream {
    pub(super) fn new(stream: AgentStream) -> Self {
        Self { stream }
    }

    /// Its number, for [`AgentClient::send_raw`](super::AgentClient::send_raw).
    pub fn id(&self) -> u32 {
        self.stream.id()
    }

    /// The agent's next frame; `None` when it has closed the connection. Cancel-safe.
    pub async fn next(&mut self) -> Result<Option<RawFrame>, AgentClientError> {
        let message = self.stream.next().await?;
        message.as_ref().map(RawFrame::of).transpose()
    }
}
