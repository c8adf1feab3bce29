//! One conversation with the guest's agent: messages over a stream.
//!
//! A [`Conversation`] is opened on any connected Unix stream, by exchanging greetings
//! under a deadline, and then splits in two: a [`Speaker`] that any number of tasks may
//! share, and a [`Listener`] for one. Both are bounded: the listener reads no further
//! than one frame ahead, so a task that does not listen stalls its peer and nobody else.

use std::io;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use msb_protocol::{
    AGENT_PORT, CodecError, Decoder, FrameError, GuestMessage, HandshakeError, Hello, HostMessage,
    Refusal, Session, agree, encode,
};
use tokio::net::UnixStream;
use tokio::sync::Mutex;

/// Bytes asked for in one read.
const READ_BYTES: usize = 32 * 1024;

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
            let decoder = read_answer(&stream).await?;
            Self::greet(stream, decoder).await
        })
        .await
    }

    /// Opens the conversation on a stream that the guest connected.
    pub async fn accept(stream: UnixStream, deadline: Duration) -> Result<Self, ConversationError> {
        within(deadline, Self::greet(stream, Decoder::new())).await
    }

    async fn greet(stream: UnixStream, decoder: Decoder) -> Result<Self, ConversationError> {
        let stream = Arc::new(stream);
        let speaker = Speaker {
            stream: Arc::clone(&stream),
            turn: Arc::new(Mutex::new(Turn::default())),
        };
        let mut listener = Listener {
            stream,
            decoder,
            buffer: Vec::new(),
        };
        let ours = Hello::ours();
        speaker.send(&HostMessage::Hello(ours)).await?;
        match listener.next().await? {
            GuestMessage::Hello(theirs) => Ok(Self {
                session: agree(&ours, &theirs)?,
                speaker,
                listener,
            }),
            GuestMessage::Refused(refusal) => Err(ConversationError::RefusedByAgent(refusal)),
            _ => Err(ConversationError::OutOfTurn),
        }
    }
}

/// The sending half; clones share the stream, and each message is sent whole.
#[derive(Clone, Debug)]
pub struct Speaker {
    stream: Arc<UnixStream>,
    turn: Arc<Mutex<Turn>>,
}

#[derive(Debug, Default)]
struct Turn {
    buffer: Vec<u8>,
    /// A send was cancelled half-way: the stream has no message boundary any more.
    torn: bool,
}

impl Speaker {
    /// Sends one message. When the future is dropped half-way, the conversation is over.
    pub async fn send(&self, message: &HostMessage) -> Result<(), ConversationError> {
        let mut turn = self.turn.lock().await;
        if turn.torn {
            return Err(ConversationError::Closed);
        }
        let mut buffer = std::mem::take(&mut turn.buffer);
        buffer.clear();
        encode(message, &mut buffer)?;
        turn.torn = true;
        write_all(&self.stream, &buffer).await?;
        turn.torn = false;
        turn.buffer = buffer;
        Ok(())
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
    decoder: Decoder,
    buffer: Vec<u8>,
}

impl Listener {
    /// The next message; [`ConversationError::Closed`] at the end of the stream.
    /// Cancel-safe.
    pub async fn next(&mut self) -> Result<GuestMessage, ConversationError> {
        loop {
            if let Some(message) = self.decoder.next_message()? {
                return Ok(message);
            }
            self.stream.readable().await?;
            self.buffer.resize(READ_BYTES, 0);
            match self.stream.try_read(&mut self.buffer) {
                Ok(0) => {
                    self.decoder.finish()?;
                    return Err(ConversationError::Closed);
                }
                Ok(count) => self
                    .decoder
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
async fn read_answer(stream: &UnixStream) -> Result<Decoder, ConversationError> {
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
    let mut decoder = Decoder::new();
    decoder.feed(rest);
    Ok(decoder)
}
