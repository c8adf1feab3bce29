//! Frames: where one message ends and the next begins.
//!
//! The decoder is fed whatever a read returned and asked for messages until it has
//! none. It holds at most one frame plus one read, never believes a length beyond
//! [`MAX_FRAME`], and after an error stays in it: a stream that lost its framing has
//! no next message, so the connection is to be closed.

use serde::de::DeserializeOwned;

use crate::codec::{self, CodecError};

/// Bytes of the length prefix.
pub const LENGTH_BYTES: usize = 4;

/// The longest frame body either side accepts.
pub const MAX_FRAME: usize = 256 * 1024;

/// The most payload bytes one data message should carry: room for its header
/// within [`MAX_FRAME`], and small enough that one message delays no other long.
pub const MAX_CHUNK: usize = 64 * 1024;

/// A byte stream that is not a stream of frames.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum FrameError {
    /// A frame announced more than the limit.
    #[error("the peer announced a frame of {length} bytes; the limit is {MAX_FRAME}")]
    TooLong {
        /// The announced length.
        length: u32,
    },
    /// A frame's body is not a message.
    #[error("a frame could not be decoded")]
    Codec(#[from] CodecError),
    /// An earlier error on this stream.
    #[error("the stream failed earlier; close the connection")]
    Failed,
    /// The peer closed the stream within a frame.
    #[error("the peer closed the connection in the middle of a message")]
    Truncated,
}

/// Bytes in, messages out.
#[derive(Debug, Default)]
pub struct Decoder {
    buffer: Vec<u8>,
    /// Bytes at the front of `buffer` that were already given out.
    consumed: usize,
    failed: bool,
}

impl Decoder {
    /// A decoder at the start of a stream.
    pub fn new() -> Self {
        Self::default()
    }

    /// Takes bytes as they came. Ask for messages before feeding more: what is
    /// fed is held until it is asked for.
    pub fn feed(&mut self, bytes: &[u8]) {
        if self.failed {
            return;
        }
        self.compact();
        self.buffer.extend_from_slice(bytes);
    }

    /// The next whole message, `None` when more bytes are needed.
    pub fn next_message<M: DeserializeOwned>(&mut self) -> Result<Option<M>, FrameError> {
        if self.failed {
            return Err(FrameError::Failed);
        }
        let result = self.take_message();
        if result.is_err() {
            self.fail();
        }
        result
    }

    /// The stream is of no more use, for a reason beyond its frames.
    pub(crate) fn fail(&mut self) {
        self.failed = true;
        self.buffer = Vec::new();
        self.consumed = 0;
    }

    /// Says that the stream ended: an error if it did so within a message.
    pub fn finish(&self) -> Result<(), FrameError> {
        if self.failed {
            Err(FrameError::Failed)
        } else if self.consumed < self.buffer.len() {
            Err(FrameError::Truncated)
        } else {
            Ok(())
        }
    }

    /// Bytes held that no message was made of yet.
    pub fn pending(&self) -> usize {
        self.buffer.len() - self.consumed
    }

    fn take_message<M: DeserializeOwned>(&mut self) -> Result<Option<M>, FrameError> {
        let held = &self.buffer[self.consumed..];
        let Some((prefix, rest)) = held.split_first_chunk::<LENGTH_BYTES>() else {
            return Ok(None);
        };
        let announced = u32::from_le_bytes(*prefix);
        let length = usize::try_from(announced)
            .ok()
            .filter(|length| *length <= MAX_FRAME)
            .ok_or(FrameError::TooLong { length: announced })?;
        let Some(body) = rest.get(..length) else {
            return Ok(None);
        };
        let message = codec::decode(body)?;
        self.consumed += LENGTH_BYTES + length;
        Ok(Some(message))
    }

    /// Drops what was given out, and memory that one large frame made us take.
    fn compact(&mut self) {
        if self.consumed == self.buffer.len() {
            self.buffer.clear();
        } else {
            self.buffer.drain(..self.consumed);
        }
        self.consumed = 0;
        if self.buffer.capacity() > 2 * MAX_FRAME {
            self.buffer.shrink_to(self.buffer.len());
        }
    }
}
