//! The kinds of messages, and what the other side must have for them.
//!
//! A guest that gets a variant it does not know cannot decode it and ends the conversation. So
//! what belongs to a feature is not sent to a guest that did not name it, and whoever
//! wants to send it is told so before anything is written.

use serde::Serialize;

use crate::codec::{self, CodecError};
use crate::frame::LENGTH_BYTES;
use crate::fs::FsCall;
use crate::hello::Features;
use crate::message::HostMessage;
use crate::session::SessionCall;

/// What a host's message is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum MessageType {
    /// The greeting.
    Hello,
    /// A boot request.
    Boot,
    /// A command that lives no longer than its connection.
    Exec,
    /// Bytes for a command.
    Stdin,
    /// The end of those.
    StdinEof,
    /// A signal for a command.
    Signal,
    /// A terminal's size.
    Resize,
    /// The guest is to end.
    Shutdown,
    /// Does the agent answer?
    Ping,
    /// The guest is to finish, and then to end.
    Drain,
    /// How is the guest?
    Sample,
    /// An operation on files ([`FsCall`]).
    Fs,
    /// Sessions ([`SessionCall`]).
    Session,
    /// What a guest is to be, or the host's clock ([`Setting`](crate::Setting)).
    Setting,
}

impl MessageType {
    /// All kinds, each at the place that is its number on the wire.
    pub const ALL: [Self; 14] = [
        Self::Hello,
        Self::Boot,
        Self::Exec,
        Self::Stdin,
        Self::StdinEof,
        Self::Signal,
        Self::Resize,
        Self::Shutdown,
        Self::Ping,
        Self::Drain,
        Self::Sample,
        Self::Fs,
        Self::Session,
        Self::Setting,
    ];

    /// The kind's name, for a person.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Hello => "hello",
            Self::Boot => "boot",
            Self::Exec => "exec",
            Self::Stdin => "stdin",
            Self::StdinEof => "stdin-eof",
            Self::Signal => "signal",
            Self::Resize => "resize",
            Self::Shutdown => "shutdown",
            Self::Ping => "ping",
            Self::Drain => "drain",
            Self::Sample => "sample",
            Self::Fs => "files",
            Self::Session => "sessions",
            Self::Setting => "setting",
        }
    }

    /// The generation that brought it.
    pub const fn generation(self) -> u32 {
        1
    }

    /// The features it belongs to; none for what every guest of its generation knows.
    pub const fn features(self) -> Features {
        match self {
            Self::Fs => Features::FILES,
            Self::Session => Features::SESSIONS,
            Self::Setting => Features::SETTINGS,
            _ => Features(0),
        }
    }

    /// The message of this kind whose contents `payload` is: the variant's field, or `()` where
    /// there is none.
    ///
    /// # Errors
    ///
    /// If `payload` is not what such a message holds.
    pub fn message<T: Serialize>(self, payload: &T) -> Result<HostMessage, CodecError> {
        let place = Self::ALL.iter().position(|kind| *kind == self);
        let number = place.and_then(|place| u32::try_from(place).ok());
        let mut frame = Vec::new();
        codec::encode(&(number.unwrap_or(u32::MAX), payload), &mut frame)?;
        HostMessage::from_bytes(frame.get(LENGTH_BYTES..).unwrap_or_default())
    }
}

impl std::fmt::Display for MessageType {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.as_str())
    }
}

impl HostMessage {
    /// What kind of message it is.
    pub const fn kind(&self) -> MessageType {
        match self {
            Self::Hello(_) => MessageType::Hello,
            Self::Boot(_) => MessageType::Boot,
            Self::Exec(_) => MessageType::Exec,
            Self::Stdin(_) => MessageType::Stdin,
            Self::StdinEof => MessageType::StdinEof,
            Self::Signal(_) => MessageType::Signal,
            Self::Resize(_) => MessageType::Resize,
            Self::Shutdown { .. } => MessageType::Shutdown,
            Self::Ping => MessageType::Ping,
            Self::Drain { .. } => MessageType::Drain,
            Self::Sample => MessageType::Sample,
            Self::Fs(_) => MessageType::Fs,
            Self::Session(_) => MessageType::Session,
            Self::Setting(_) => MessageType::Setting,
        }
    }

    /// Reads a message from a frame's body: what follows its length.
    ///
    /// # Errors
    ///
    /// If the bytes are no message, or more than one.
    pub fn from_bytes(body: &[u8]) -> Result<Self, CodecError> {
        codec::decode(body)
    }
}

impl From<FsCall> for HostMessage {
    fn from(call: FsCall) -> Self {
        Self::Fs(call)
    }
}

impl From<SessionCall> for HostMessage {
    fn from(call: SessionCall) -> Self {
        Self::Session(call)
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;
    use crate::message::TerminalSize;

    #[test]
    fn a_kind_and_its_contents_are_the_message() {
        let size = TerminalSize {
            rows: 5,
            columns: 300,
        };
        let bytes = Bytes::from_static(b"abc");
        let attach = SessionCall::Attach { session: 1 << 40 };
        use MessageType as M;
        for (made, meant) in [
            (M::Ping.message(&()), HostMessage::Ping),
            (M::Signal.message(&9), HostMessage::Signal(9)),
            (M::Resize.message(&size), HostMessage::Resize(size)),
            (M::Stdin.message(&bytes), HostMessage::Stdin(bytes.clone())),
            (M::Session.message(&attach), attach.clone().into()),
            (
                M::Drain.message(&500u32),
                HostMessage::Drain { grace_ms: 500 },
            ),
        ] {
            let made = made.unwrap();
            assert_eq!(made, meant);
            assert_eq!(
                M::ALL.iter().filter(|kind| **kind == made.kind()).count(),
                1
            );
        }
    }

    #[test]
    fn contents_of_another_kind_are_refused() {
        assert!(MessageType::Ping.message(&7u8).is_err());
        assert!(MessageType::Resize.message(&()).is_err());
        assert!(MessageType::Session.message(&1000u32).is_err());
    }
}
