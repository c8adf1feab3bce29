//! A connection as a sequence of messages.
//!
//! Receiving and sending go on at the same time, so both work on a shared reference; the
//! frames of several senders follow each other in the order in which they asked.

use std::cell::RefCell;
use std::io;
use std::time::Duration;

use msb_protocol::{
    Arrival, Endpoint, EndpointError, FrameError, GuestMessage, GuestSide, HandshakeError,
    HostMessage, MAX_CHUNK, Refusal, RefusalKind, SendError,
};
use rustix::net::Shutdown;
use tokio::sync::Mutex;
use tokio::task::coop::consume_budget;
use tokio::time::timeout;

use crate::stream::{READ_MAX, Stream};

/// How long a peer that was told of its mistake has to take that in.
const FAREWELL: Duration = Duration::from_secs(5);

/// Why a conversation ended before its last message.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub(crate) enum ChannelError {
    /// The connection broke.
    #[error("the connection broke: {0}")]
    Io(#[from] io::Error),
    /// The peer closed it.
    #[error("the peer closed the connection")]
    Closed,
    /// What came was not the protocol.
    #[error("{0}")]
    Frame(FrameError),
    /// What was to go did not fit it.
    #[error("{0}")]
    Send(SendError),
    /// The two sides have no generation in common.
    #[error("{0}")]
    Handshake(HandshakeError),
    /// The peer took too long to say what it wants.
    #[error("no request came in time")]
    Late,
    /// A message that has no place here.
    #[error("{0}")]
    Unexpected(&'static str),
}

impl From<EndpointError> for ChannelError {
    fn from(error: EndpointError) -> Self {
        match error {
            EndpointError::Frame(error) => Self::Frame(error),
            EndpointError::Handshake(error) => Self::Handshake(error),
            _ => Self::Unexpected("a connection begins with Hello"),
        }
    }
}

/// One conversation's connection.
#[derive(Debug)]
pub(crate) struct Channel {
    stream: Stream,
    endpoint: RefCell<Endpoint<GuestSide>>,
    /// The frame being written, kept for its memory.
    outgoing: Mutex<Vec<u8>>,
}

impl Channel {
    pub(crate) fn new(stream: Stream) -> Self {
        Self {
            stream,
            endpoint: RefCell::new(Endpoint::default()),
            outgoing: Mutex::new(Vec::new()),
        }
    }

    /// Sends our greeting.
    pub(crate) async fn greet(&self) -> Result<(), ChannelError> {
        let greeting = self.endpoint.borrow().greeting();
        self.send(&greeting).await
    }

    /// Takes the peer's greeting, which has to be its first message.
    pub(crate) async fn greeted(&self) -> Result<(), ChannelError> {
        match self.arrival().await? {
            Arrival::Greeted(_session) => Ok(()),
            Arrival::Message(_) => Err(ChannelError::Unexpected("greetings are exchanged once")),
        }
    }

    /// The peer's next message. Not to be called twice at a time; may be dropped half-way.
    pub(crate) async fn receive(&self) -> Result<HostMessage, ChannelError> {
        match self.arrival().await? {
            Arrival::Message(message) => Ok(message),
            Arrival::Greeted(_) => Err(ChannelError::Unexpected("greetings come first")),
        }
    }

    async fn arrival(&self) -> Result<Arrival<HostMessage>, ChannelError> {
        // A peer that always has something to say has its turn, like everybody.
        consume_budget().await;
        loop {
            let next = self.endpoint.borrow_mut().next_arrival();
            if let Some(arrival) = next? {
                return Ok(arrival);
            }
            let count = self
                .stream
                .read(READ_MAX, |bytes| {
                    self.endpoint.borrow_mut().feed(bytes);
                    bytes.len()
                })
                .await?;
            if count == 0 {
                let end = self.endpoint.borrow().finish();
                return Err(end.err().map_or(ChannelError::Closed, ChannelError::Frame));
            }
        }
    }

    /// Sends one message. If this is dropped half-way the connection is of no more use.
    pub(crate) async fn send(&self, message: &GuestMessage) -> Result<(), ChannelError> {
        let mut frame = self.outgoing.lock().await;
        frame.clear();
        self.endpoint
            .borrow()
            .encode(message, &mut frame)
            .map_err(ChannelError::Send)?;
        self.stream.write_all(&frame).await?;
        frame.shrink_to(2 * MAX_CHUNK);
        Ok(())
    }

    /// Says no.
    pub(crate) async fn refuse(&self, kind: RefusalKind, message: impl Into<String>) {
        let refusal = GuestMessage::Refused(Refusal {
            kind,
            message: message.into(),
        });
        // A peer that does not even take this is done with.
        let _ = timeout(FAREWELL, self.send(&refusal)).await;
    }

    /// Tells the peer what it did wrong, if that is what `error` is about.
    pub(crate) async fn explain(&self, error: &ChannelError) {
        let kind = match error {
            ChannelError::Io(_) | ChannelError::Closed | ChannelError::Send(_) => return,
            ChannelError::Frame(FrameError::Truncated) => return,
            ChannelError::Handshake(_) => RefusalKind::Generation,
            _ => RefusalKind::Unexpected,
        };
        self.refuse(kind, error.to_string()).await;
    }

    /// Lets the peer take in the last message: says that no more comes, and waits, for a
    /// bounded time, until the peer closes too. Closing at once could overtake the data.
    pub(crate) async fn close(self) {
        if rustix::net::shutdown(&self.stream, Shutdown::Write).is_err() {
            return;
        }
        let gone =
            async { while matches!(self.stream.read(READ_MAX, <[u8]>::len).await, Ok(1..)) {} };
        let _ = timeout(FAREWELL, gone).await;
    }
}
