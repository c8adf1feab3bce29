//! The client for other languages: bytes in, bytes out, and numbers.

use std::path::Path;
use std::time::Duration;

use bytes::Bytes;
use tokio::sync::Mutex;

use super::{AgentClient, AgentClientError, RawStream};

/// An [`AgentClient`] whose messages are bytes.
#[derive(Debug)]
pub struct AgentBridge {
    client: AgentClient,
}

/// A stream of an [`AgentBridge`]. Dropping it ends it.
#[derive(Debug)]
pub struct StreamHandle {
    id: u32,
    stream: Mutex<RawStream>,
}

impl StreamHandle {
    /// Its number.
    pub fn id(&self) -> u32 {
        self.id
    }
}

impl AgentBridge {
    /// Connects to the agent of a running sandbox.
    pub async fn connect_sandbox(name: &str) -> Result<Self, AgentClientError> {
        let client = AgentClient::connect_sandbox(name).await?;
        Ok(Self { client })
    }

    /// The same within `timeout`, which later calls have too.
    pub async fn connect_sandbox_with_timeout(
        name: &str,
        timeout: Duration,
    ) -> Result<Self, AgentClientError> {
        let client = AgentClient::connect_sandbox_with_timeout(name, timeout).await?;
        Ok(Self { client })
    }

    /// Connects to the agent behind a sandbox's vsock socket.
    pub async fn connect_path(path: impl AsRef<Path>) -> Result<Self, AgentClientError> {
        let client = AgentClient::connect(path).await?;
        Ok(Self { client })
    }

    /// The same within `timeout`, which later calls have too.
    pub async fn connect_path_with_timeout(
        path: impl AsRef<Path>,
        timeout: Duration,
    ) -> Result<Self, AgentClientError> {
        let client = AgentClient::connect_with_timeout(path, timeout).await?;
        Ok(Self { client })
    }

    /// Sends a message and returns the first answer.
    pub async fn request(&self, flags: u8, body: &[u8]) -> Result<Bytes, AgentClientError> {
        Ok(self.client.request_raw(flags, body).await?.body)
    }

    /// Sends one more message in a stream.
    pub async fn send(&self, id: u32, flags: u8, body: &[u8]) -> Result<(), AgentClientError> {
        self.client.send_raw(id, flags, body).await
    }

    /// Opens a stream with a message.
    pub async fn stream_open(
        &self,
        flags: u8,
        body: &[u8],
    ) -> Result<(u32, StreamHandle), AgentClientError> {
        let (id, stream) = self.client.stream_raw(flags, body).await?;
        let stream = Mutex::new(stream);
        Ok((id, StreamHandle { id, stream }))
    }

    /// A stream's next message; `None` at its end.
    pub async fn stream_next(
        &self,
        handle: &StreamHandle,
    ) -> Result<Option<Bytes>, AgentClientError> {
        let frame = handle.stream.lock().await.next().await?;
        Ok(frame.map(|frame| frame.body))
    }

    /// Ends a stream.
    pub async fn stream_close(&self, handle: StreamHandle) {
        drop(handle);
    }

    /// How the guest came up, as a message in bytes; empty if the agent does not say.
    pub fn ready_bytes(&self) -> Bytes {
        self.client.ready_bytes()
    }

    /// Ends all its streams.
    pub async fn close(self) {
        self.client.close().await;
    }
}
