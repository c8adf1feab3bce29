//! One conversation with the guest's agent: messages over a stream.
//!
//! A [`Conversation`] is opened on any connected Unix stream, by exchanging greetings
//! under a deadline, and then splits in two: a [`Speaker`] that any number of tasks may
//! share, and a [`Listener`] for one. Both are bounded: the listener reads no further
//! than one frame ahead, so a task that does not listen stalls its peer and nobody else.
//! The states of a conversation are [`Endpoint`]'s; what the agent does not know is not sent to it.

use std::io;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use msb_protocol::{
    AGENT_PORT, Arrival, CodecError, Endpoint, EndpointError, FrameError, GuestMessage,
    HandshakeError, HostMessage, HostSide, MessageType, OutOfTurn, Refusal, SendError, Session,
};
use rustix::net::SendFlags;
use tokio::net::UnixStream;
use tokio::sync::Mutex;
use tokio::task::coop::consume_budget;

/// Bytes asked for in one read.
const READ_BYTES: usize = 32 * 1024;

/// Bytes that are kept for the next message.
const KEPT_BYTES: usize = 128 * 1024;

/// The longest line the VMM answers a `CONNECT` with.
const MAX_ANSWER: usize = 64;

/// A conversation that failed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ConversationError {
    /// The socket is not there or nobody listens on it.
    #[error("cannot reach the sandbox; is it still running?")]
    Unreachable(#[source] io::Error),
    /// The VMM did not connect us: the agent is not there.
    #[error("the guest's agent does not answer on its port; is the sandbox still running?")]
    Refused,
    /// The connection broke.
    #[error("the connection to the guest's agent broke")]
    Io(#[from] io::Error),
    /// The agent closed the connection.
    #[error("the guest's agent closed the connection")]
    Closed,
    /// The agent's bytes made no sense.
    #[error("the guest's agent broke the protocol")]
    Frame(#[from] FrameError),
    /// Our message was too long.
    #[error("the message to the guest's agent could not be made")]
    Codec(#[from] CodecError),
    /// No common generation.
    #[error("the guest's agent is of another release")]
    Handshake(#[from] HandshakeError),
    /// The agent is too old for what was asked.
    #[error(
        "the guest's agent does not know {kind}; it is of an older release: start the sandbox anew"
    )]
    Unsupported {
        /// What was asked.
        kind: MessageType,
    },
    /// A message came that has no place here.
    #[error("the guest's agent said something out of turn")]
    OutOfTurn,
    /// The agent would not.
    #[error("the guest's agent refused: {}", .0.message)]
    RefusedByAgent(Refusal),
    /// The deadline passed.
    #[error("the guest's agent did not answer within {0:?}")]
    Timeout(Duration),
}

impl From<EndpointError> for ConversationError {
    fn from(error: EndpointError) -> Self {
        match error {
            EndpointError::Frame(error) => Self::Frame(error),
            EndpointError::Handshake(error) => Self::Handshake(error),
            EndpointError::Refused(refusal) => Self::RefusedByAgent(refusal),
            _ => Self::OutOfTurn,
        }
    }
}

impl From<SendError> for ConversationError {
    fn from(error: SendError) -> Self {
        match error {
            SendError::Codec(error) => Self::Codec(error),
            SendError::Unsupported { kind } => Self::Unsupported { kind },
            _ => Self::OutOfTurn,
        }
    }
}

impl From<OutOfTurn> for ConversationError {
    fn from(_: OutOfTurn) -> Self {
        Self::OutOfTurn
    }
}

/// An open conversation.
#[derive(Debug)]
pub struct Conversation {
    /// What both sides agreed on.
    pub session: Session,
    /// Sends.
    pub speaker: Speaker,
    /// Receives.
    pub listener: Listener,
}

impl Conversation {
    /// Connects to the agent through the VMM's vsock socket, and greets it.
    pub async fn connect(socket: &Path, deadline: Duration) -> Result<Self, ConversationError> {
        within(deadline, async {
            let stream = UnixStream::connect(socket)
                .await
                .map_err(ConversationError::Unreachable)?;
            write_all(&stream, format!("CONNECT {AGENT_PORT}\n").as_bytes()).await?;
            let endpoint = read_answer(&stream).await?;
            Self::greet(stream, endpoint).await
        })
        .await
    }

    /// Opens the conversation on a stream that the guest connected, or that leads to it.
    pub async fn accept(stream: UnixStream, deadline: Duration) -> Result<Self, ConversationError> {
        within(deadline, Self::greet(stream, Endpoint::default())).await
    }

    async fn greet(
        stream: UnixStream,
        endpoint: Endpoint<HostSide>,
    ) -> Result<Self, ConversationError> {
        let stream = Arc::new(stream);
        let mut greeting = Vec::new();
        endpoint.encode(&endpoint.greeting(), &mut greeting)?;
        write_all(&stream, &greeting).await?;
        let mut listener = Listener {
            stream: Arc::clone(&stream),
            endpoint,
            buffer: Vec::new(),
        };
        match listener.arrival().await? {
            Arrival::Greeted(session) => Ok(Self {
                session,
                speaker: Speaker {
                    stream,
                    session,
                    turn: Arc::new(Mutex::new(Turn::default())),
                },
                listener,
            }),
            Arrival::Message(_) => Err(ConversationError::OutOfTurn),
        }
    }
}

/// The sending half; clones share the stream, and each message is sent whole.
#[derive(Clone, Debug)]
pub struct Speaker {
    stream: Arc<UnixStream>,
    session: Session,
    turn: Arc<Mutex<Turn>>,
}

/// What is being sent. It outlives whoever sends it: a sender that is dropped half-way leaves the
/// rest to the next one, so the stream always has its message boundaries.
#[derive(Debug, Default)]
struct Turn {
    frame: Vec<u8>,
    /// How much of it was written.
    written: usize,
}

impl Turn {
    fn left(&self) -> &[u8] {
        self.frame.get(self.written..).unwrap_or_default()
    }

    /// Begins a message; what was left of the one before must have been written.
    fn begin(&mut self, session: &Session, message: &HostMessage) -> Result<(), SendError> {
        self.frame.clear();
        self.frame.shrink_to(KEPT_BYTES);
        self.written = 0;
        session.encode(message, &mut self.frame)
    }

    async fn write(&mut self, stream: &UnixStream) -> io::Result<()> {
        while !self.left().is_empty() {
            stream.writable().await?;
            match stream.try_write(self.left()) {
                Ok(count) => self.written += count,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    /// Writes what can be written now. Whether that was all.
    fn write_now(&mut self, stream: &UnixStream) -> bool {
        let flags = SendFlags::DONTWAIT | SendFlags::NOSIGNAL;
        while !self.left().is_empty() {
            match rustix::net::send(stream, self.left(), flags) {
                Ok(count) => self.written += count,
                Err(_) => return false,
            }
        }
        true
    }
}

impl Speaker {
    /// Sends one message, if the agent knows such messages. When the future is dropped half-way, the
    /// rest of the message goes before the next one.
    pub async fn send(&self, message: &HostMessage) -> Result<(), ConversationError> {
        let mut turn = self.turn.lock().await;
        turn.write(&self.stream).await?;
        turn.begin(&self.session, message)?;
        Ok(turn.write(&self.stream).await?)
    }

    /// Says one message now or not at all, without waiting: for whoever cannot. `false` if not all of
    /// it could be said; what was begun goes before the next message.
    pub fn try_send(&self, message: &HostMessage) -> bool {
        let Ok(mut turn) = self.turn.try_lock() else {
            return false;
        };
        turn.write_now(&self.stream)
            && turn.begin(&self.session, message).is_ok()
            && turn.write_now(&self.stream)
    }

    /// Ends the conversation, both ways, at once. The agent sees the connection close.
    pub fn hang_up(&self) {
        // It may be closed already; then there is nothing to do.
        let _ = rustix::net::shutdown(&*self.stream, rustix::net::Shutdown::Both);
    }
}

/// The receiving half.
#[derive(Debug)]
pub struct Listener {
    stream: Arc<UnixStream>,
    endpoint: Endpoint<HostSide>,
    buffer: Vec<u8>,
}

impl Listener {
    /// The next message; [`ConversationError::Closed`] at the end of the stream.
    /// Cancel-safe.
    pub async fn next(&mut self) -> Result<GuestMessage, ConversationError> {
        match self.arrival().await? {
            Arrival::Message(message) => Ok(message),
            Arrival::Greeted(_) => Err(ConversationError::OutOfTurn),
        }
    }

    async fn arrival(&mut self) -> Result<Arrival<GuestMessage>, ConversationError> {
        // A guest that always has something to say must not keep a thread from everybody else.
        consume_budget().await;
        loop {
            if let Some(arrival) = self.endpoint.next_arrival()? {
                return Ok(arrival);
            }
            self.stream.readable().await?;
            self.buffer.resize(READ_BYTES, 0);
            match self.stream.try_read(&mut self.buffer) {
                Ok(0) => {
                    self.endpoint.finish()?;
                    return Err(ConversationError::Closed);
                }
                Ok(count) => self
                    .endpoint
                    .feed(self.buffer.get(..count).unwrap_or_default()),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(error) if error.kind() == io::ErrorKind::ConnectionReset => {
                    return Err(ConversationError::Closed);
                }
                Err(error) => return Err(error.into()),
            }
        }
    }
}

async fn within<T>(
    deadline: Duration,
    work: impl Future<Output = Result<T, ConversationError>>,
) -> Result<T, ConversationError> {
    tokio::time::timeout(deadline, work)
        .await
        .unwrap_or(Err(ConversationError::Timeout(deadline)))
}

async fn write_all(stream: &UnixStream, mut bytes: &[u8]) -> io::Result<()> {
    while !bytes.is_empty() {
        stream.writable().await?;
        match stream.try_write(bytes) {
            Ok(count) => bytes = bytes.get(count..).unwrap_or_default(),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

/// Reads the VMM's `OK <port>` line; what came behind it is the agent's already.
async fn read_answer(stream: &UnixStream) -> Result<Endpoint<HostSide>, ConversationError> {
    let mut answer = Vec::with_capacity(MAX_ANSWER);
    let mut chunk = [0; 256];
    let line_end = loop {
        if let Some(end) = answer.iter().position(|byte| *byte == b'\n') {
            break end;
        }
        if answer.len() > MAX_ANSWER {
            return Err(ConversationError::Refused);
        }
        stream.readable().await?;
        match stream.try_read(&mut chunk) {
            // The VMM closes the connection when the guest has nobody at that port.
            Ok(0) => return Err(ConversationError::Refused),
            Ok(count) => answer.extend_from_slice(chunk.get(..count).unwrap_or_default()),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            Err(error) if error.kind() == io::ErrorKind::ConnectionReset => {
                return Err(ConversationError::Refused);
            }
            Err(error) => return Err(error.into()),
        }
    };
    let (line, rest) = answer.split_at(line_end + 1);
    if !line.starts_with(b"OK ") {
        return Err(ConversationError::Refused);
    }
    let mut endpoint = Endpoint::default();
    endpoint.feed(rest);
    Ok(endpoint)
}

#[cfg(test)]
mod tests;
