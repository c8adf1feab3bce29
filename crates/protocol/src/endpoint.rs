//! One side of a connection, without the connection: bytes in, messages out, and the reverse.
//!
//! Both sides of a conversation go through the same states, whatever carries their bytes:
//!
//! ```text
//!             greeting()                 the peer's Hello
//!   New ─────────────────────> Greeting ──────────────────> Open ──> messages both ways
//!                                  │ anything else,            │ bytes that are no message
//!                                  │ no common generation      │
//!                                  └────────> Failed <─────────┘
//! ```
//!
//! An [`Endpoint`] holds the state and the bytes of a message that is not whole yet, and
//! nothing else: the caller reads, writes, waits and gives up.

use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::codec::{CodecError, encode};
use crate::frame::{Decoder, FrameError};
use crate::hello::{HandshakeError, Hello, Session, agree};
use crate::kind::MessageType;
use crate::message::{GuestMessage, HostMessage, Refusal};

/// Which side an endpoint is.
pub trait Side {
    /// What it says.
    type Ours: Serialize;
    /// What it hears.
    type Theirs: DeserializeOwned;

    /// Its greeting.
    fn greeting(hello: Hello) -> Self::Ours;

    /// What the peer's message is, before greetings have been exchanged.
    fn first(message: Self::Theirs) -> First;

    /// What the peer must have to understand `message`; `None` if all do.
    fn needs(message: &Self::Ours) -> Option<MessageType>;
}

/// A peer's first message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum First {
    /// As it should be.
    Hello(Hello),
    /// It would not even greet.
    Refused(Refusal),
    /// Anything else.
    Other,
}

/// The side of the host.
#[derive(Clone, Copy, Debug)]
pub enum HostSide {}

/// The side of the guest.
#[derive(Clone, Copy, Debug)]
pub enum GuestSide {}

impl Side for HostSide {
    type Ours = HostMessage;
    type Theirs = GuestMessage;

    fn greeting(hello: Hello) -> HostMessage {
        HostMessage::Hello(hello)
    }

    fn first(message: GuestMessage) -> First {
        match message {
            GuestMessage::Hello(hello) => First::Hello(hello),
            GuestMessage::Refused(refusal) => First::Refused(refusal),
            _ => First::Other,
        }
    }

    fn needs(message: &HostMessage) -> Option<MessageType> {
        Some(message.kind())
    }
}

impl Side for GuestSide {
    type Ours = GuestMessage;
    type Theirs = HostMessage;

    fn greeting(hello: Hello) -> GuestMessage {
        GuestMessage::Hello(hello)
    }

    fn first(message: HostMessage) -> First {
        match message {
            HostMessage::Hello(hello) => First::Hello(hello),
            _ => First::Other,
        }
    }

    fn needs(_message: &GuestMessage) -> Option<MessageType> {
        // The guest only answers, so it says nothing that the host did not ask for.
        None
    }
}

/// What arrived.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Arrival<M> {
    /// The peer's greeting: this is spoken from now on.
    Greeted(Session),
    /// A message.
    Message(M),
}

/// A peer that does not keep to the protocol.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum EndpointError {
    /// Its bytes are no messages.
    #[error("the peer's bytes are no messages")]
    Frame(#[from] FrameError),
    /// It speaks no generation that this side does.
    #[error("the two sides cannot speak to each other")]
    Handshake(#[from] HandshakeError),
    /// It refused instead of greeting.
    #[error("the peer refused: {}", .0.message)]
    Refused(Refusal),
    /// It did not greet first.
    #[error("the peer did not begin with Hello")]
    NoHello,
}

/// A message that is not sent.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SendError {
    /// It does not fit a frame.
    #[error(transparent)]
    Codec(#[from] CodecError),
    /// The peer does not know such messages.
    #[error(
        "the peer does not know messages about {kind}; use a library and a guest initramfs of \
         the same release (`cargo xtask install` installs both)"
    )]
    Unsupported {
        /// What the message is about.
        kind: MessageType,
    },
}

/// One side of a connection.
#[derive(Debug)]
pub struct Endpoint<S> {
    ours: Hello,
    decoder: Decoder,
    session: Option<Session>,
    side: std::marker::PhantomData<fn() -> S>,
}

impl<S: Side> Default for Endpoint<S> {
    fn default() -> Self {
        Self::new(Hello::ours())
    }
}

impl<S: Side> Endpoint<S> {
    /// A side that greets so.
    pub fn new(ours: Hello) -> Self {
        Self {
            ours,
            decoder: Decoder::new(),
            session: None,
            side: std::marker::PhantomData,
        }
    }

    /// What is to be said first.
    pub fn greeting(&self) -> S::Ours {
        S::greeting(self.ours)
    }

    /// What both sides agreed on, once the peer has greeted.
    pub fn session(&self) -> Option<Session> {
        self.session
    }

    /// Takes bytes as they came. Ask for arrivals before feeding more.
    pub fn feed(&mut self, bytes: &[u8]) {
        self.decoder.feed(bytes);
    }

    /// The next arrival, `None` when more bytes are needed. After an error there is no other.
    pub fn next_arrival(&mut self) -> Result<Option<Arrival<S::Theirs>>, EndpointError> {
        let Some(message) = self.decoder.next_message()? else {
            return Ok(None);
        };
        if self.session.is_some() {
            return Ok(Some(Arrival::Message(message)));
        }
        let greeted = match S::first(message) {
            First::Hello(theirs) => agree(&self.ours, &theirs).map_err(EndpointError::from),
            First::Refused(refusal) => Err(EndpointError::Refused(refusal)),
            First::Other => Err(EndpointError::NoHello),
        };
        match greeted {
            Ok(session) => {
                self.session = Some(session);
                Ok(Some(Arrival::Greeted(session)))
            }
            Err(error) => {
                self.decoder.fail();
                Err(error)
            }
        }
    }

    /// Says that the stream ended: an error if it did so within a message.
    pub fn finish(&self) -> Result<(), FrameError> {
        self.decoder.finish()
    }

    /// Bytes held that no message was made of yet.
    pub fn pending(&self) -> usize {
        self.decoder.pending()
    }

    /// Appends `message` to `out` as one frame, if the peer understands it. Before it has
    /// greeted that is only our greeting.
    ///
    /// On an error `out` is as it was.
    pub fn encode(&self, message: &S::Ours, out: &mut Vec<u8>) -> Result<(), SendError> {
        allow(self.session, S::needs(message))?;
        Ok(encode(message, out)?)
    }
}

impl Session {
    /// Whether the other side understands messages of this kind.
    pub const fn understands(&self, kind: MessageType) -> bool {
        self.generation >= kind.generation() && self.features.has(kind.features())
    }

    /// Appends a host's message to `out` as one frame, if the guest understands it.
    ///
    /// On an error `out` is as it was.
    pub fn encode(&self, message: &HostMessage, out: &mut Vec<u8>) -> Result<(), SendError> {
        allow(Some(*self), HostSide::needs(message))?;
        Ok(encode(message, out)?)
    }
}

/// Whether what needs `kind` may be said in `session`, of which there is none before the greetings.
fn allow(session: Option<Session>, kind: Option<MessageType>) -> Result<(), SendError> {
    match kind {
        None | Some(MessageType::Hello) => Ok(()),
        Some(kind) if session.is_some_and(|session| session.understands(kind)) => Ok(()),
        Some(kind) => Err(SendError::Unsupported { kind }),
    }
}
