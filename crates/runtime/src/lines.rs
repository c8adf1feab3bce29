//! JSON lines over a Unix stream: one object a line, each line bounded.

use std::io;

use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::UnixStream;
use tokio::net::unix::{OwnedReadHalf, OwnedWriteHalf};

/// The longest line either side accepts, in bytes.
pub const MAX_LINE: u64 = 1024 * 1024;

/// A line that could not be read.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum LineError {
    /// The stream failed.
    #[error("the control connection failed")]
    Io(#[from] io::Error),
    /// The line is longer than [`MAX_LINE`].
    #[error("a line on the control connection is longer than {MAX_LINE} bytes")]
    TooLong,
    /// The line is not what was expected.
    #[error(
        "a line on the control connection could not be understood; are both sides of one release?"
    )]
    Malformed(#[source] serde_json::Error),
}

/// The reading half.
#[derive(Debug)]
pub struct LineReader {
    stream: BufReader<OwnedReadHalf>,
    line: Vec<u8>,
}

impl LineReader {
    /// The next object; `None` when the peer closed. Cancel-safe: what was read of a
    /// line is kept.
    pub async fn next<T: DeserializeOwned>(&mut self) -> Result<Option<T>, LineError> {
        loop {
            let room = MAX_LINE.saturating_sub(u64::try_from(self.line.len()).unwrap_or(u64::MAX));
            if room == 0 {
                return Err(LineError::TooLong);
            }
            let mut limited = (&mut self.stream).take(room);
            limited.read_until(b'\n', &mut self.line).await?;
            match self.line.last() {
                Some(b'\n') => {
                    let value = serde_json::from_slice(&self.line).map_err(LineError::Malformed);
                    self.line.clear();
                    return value.map(Some);
                }
                // A line that the end of the stream cut off was never said.
                _ if u64::try_from(self.line.len()).unwrap_or(u64::MAX) < MAX_LINE => {
                    return Ok(None);
                }
                _ => {}
            }
        }
    }
}

/// The writing half.
#[derive(Debug)]
pub struct LineWriter(OwnedWriteHalf);

impl LineWriter {
    /// Sends one object.
    pub async fn send<T: Serialize>(&mut self, value: &T) -> io::Result<()> {
        let mut line = serde_json::to_vec(value)?;
        line.push(b'\n');
        self.0.write_all(&line).await
    }
}

/// Both halves of a connection that carries lines.
pub fn split(stream: UnixStream) -> (LineReader, LineWriter) {
    let (read, write) = stream.into_split();
    (
        LineReader {
            stream: BufReader::new(read),
            line: Vec::new(),
        },
        LineWriter(write),
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::control::Request;

    #[tokio::test]
    async fn lines_arrive_whole_and_the_end_is_told() {
        let (a, b) = UnixStream::pair().unwrap();
        let ((_, mut writer), (mut reader, _keep)) = (split(a), split(b));
        for request in [Request::Kill, Request::Stop { timeout_ms: 7 }] {
            writer.send(&request).await.unwrap();
        }
        drop(writer);
        assert_eq!(reader.next::<Request>().await.unwrap(), Some(Request::Kill));
        assert_eq!(
            reader.next().await.unwrap(),
            Some(Request::Stop { timeout_ms: 7 })
        );
        assert_eq!(reader.next::<Request>().await.unwrap(), None);
    }

    #[tokio::test]
    async fn foreign_lines_are_errors() {
        let (a, b) = UnixStream::pair().unwrap();
        let ((_, mut writer), (mut reader, _keep)) = (split(a), split(b));
        writer.0.write_all(b"hello\n").await.unwrap();
        assert!(matches!(
            reader.next::<Request>().await,
            Err(LineError::Malformed(_))
        ));
        let flood = tokio::spawn(async move {
            let _ = writer.0.write_all(&vec![b'x'; 2 * 1024 * 1024]).await;
        });
        assert!(matches!(
            reader.next::<Request>().await,
            Err(LineError::TooLong)
        ));
        drop((reader, _keep));
        flood.await.unwrap();
    }
}
