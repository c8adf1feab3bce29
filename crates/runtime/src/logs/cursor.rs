//! Places in a log that outlive renaming.

use std::fmt;
use std::str::FromStr;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;

const LENGTH: usize = 24;

/// Which file of which log: it stays with the file when that is renamed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub(super) struct FileId {
    /// The log: a random number drawn when its first file was made. For a file without a header, a
    /// number made from its inode.
    pub(super) log: u64,
    /// The file's place in the log, from 1; 0 for a file without a header.
    pub(super) seq: u64,
}

/// A place in a log.
///
/// It is shown and parsed as base64, and means something only for the log that it came from.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct LogCursor {
    pub(super) file: FileId,
    /// Always right behind a newline, or 0.
    pub(super) offset: u64,
}

/// A text that is no cursor.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum LogCursorParseError {
    /// Not base64.
    #[error("a log cursor is base64, and this is not")]
    BadBase64,
    /// Too short or too long.
    #[error("a log cursor has {LENGTH} bytes, and this has more or fewer")]
    WrongLength,
}

impl LogCursor {
    /// The place before everything.
    pub fn empty() -> Self {
        Self::default()
    }

    pub(super) fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}

impl fmt::Display for LogCursor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut bytes = [0; LENGTH];
        let numbers = [self.file.log, self.file.seq, self.offset];
        for (place, number) in bytes.chunks_exact_mut(8).zip(numbers) {
            place.copy_from_slice(&number.to_be_bytes());
        }
        f.write_str(&URL_SAFE_NO_PAD.encode(bytes))
    }
}

impl FromStr for LogCursor {
    type Err = LogCursorParseError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        // Far longer than any cursor: not worth decoding.
        if text.len() > 1024 {
            return Err(LogCursorParseError::WrongLength);
        }
        let bytes = URL_SAFE_NO_PAD
            .decode(text)
            .map_err(|_| LogCursorParseError::BadBase64)?;
        let bytes: [u8; LENGTH] = bytes
            .try_into()
            .map_err(|_| LogCursorParseError::WrongLength)?;
        let mut numbers = bytes.chunks_exact(8).map(|eight| {
            eight
                .iter()
                .fold(0, |number, byte| number << 8 | u64::from(*byte))
        });
        let mut next = || numbers.next().unwrap_or_default();
        Ok(Self {
            file: FileId {
                log: next(),
                seq: next(),
            },
            offset: next(),
        })
    }
}
