//! The one place that names bincode.
//!
//! The encoding is bincode 2's standard configuration (little-endian, variable-length
//! integers) through serde. It is not self-describing, so it rests on rules instead:
//! enums only grow at their end, structs never change within a generation, and the
//! golden bytes under `tests/golden` hold both to it. Any crate that writes the same
//! bytes can take bincode's place here.

use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::frame::{LENGTH_BYTES, MAX_FRAME};

fn config() -> impl bincode::config::Config {
    // The limit also bounds what a length inside a message may make serde allocate.
    bincode::config::standard().with_limit::<MAX_FRAME>()
}

/// A message that cannot be written or read.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CodecError {
    /// The message does not encode into one frame.
    #[error("the message does not fit a frame of {MAX_FRAME} bytes; send it in smaller pieces")]
    TooLong,
    /// The bytes are not a message of this generation.
    #[error("the peer sent bytes that are not a message of this protocol generation")]
    Malformed(#[source] bincode::error::DecodeError),
    /// The message ended before the frame did.
    #[error("the peer's message ends {extra} bytes before its frame does")]
    TrailingBytes {
        /// How many bytes were left over.
        extra: usize,
    },
}

/// Appends `message` to `out` as one frame.
///
/// On an error `out` is as it was.
pub fn encode<M: Serialize>(message: &M, out: &mut Vec<u8>) -> Result<(), CodecError> {
    let start = out.len();
    out.extend_from_slice(&[0; LENGTH_BYTES]);
    let encoded = bincode::serde::encode_into_std_write(message, out, config());
    let length = out.len() - start - LENGTH_BYTES;
    match (encoded, u32::try_from(length)) {
        (Ok(_), Ok(prefix)) if length <= MAX_FRAME => {
            out[start..start + LENGTH_BYTES].copy_from_slice(&prefix.to_le_bytes());
            Ok(())
        }
        _ => {
            out.truncate(start);
            Err(CodecError::TooLong)
        }
    }
}

/// Reads the one message that `body`, a frame without its length, holds.
pub(crate) fn decode<M: DeserializeOwned>(body: &[u8]) -> Result<M, CodecError> {
    let (message, used) =
        bincode::serde::decode_from_slice(body, config()).map_err(CodecError::Malformed)?;
    match body.len() - used {
        0 => Ok(message),
        extra => Err(CodecError::TrailingBytes { extra }),
    }
}
