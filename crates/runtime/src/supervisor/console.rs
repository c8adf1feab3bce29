//! The guest's console: all of it goes to `kernel.log`, and its end is shown when a boot fails.

use std::collections::VecDeque;
use std::io;
use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
use tokio::io::AsyncReadExt;
use tokio::net::unix::pipe::Receiver;

use super::logger::{Piece, Pieces};

/// How much of the console is kept.
const TAIL_BYTES: usize = 8 * 1024;

/// The last bytes that came through a pipe.
#[derive(Clone, Debug, Default)]
pub(crate) struct ConsoleTail(Arc<Mutex<VecDeque<u8>>>);

impl ConsoleTail {
    /// Reads `pipe` until it closes, hands all on to `log`, and keeps the tail.
    pub(crate) fn follow(&self, pipe: Receiver, log: Pieces) {
        let tail = self.clone();
        tokio::spawn(async move { tail.read(pipe, log).await });
    }

    /// What is kept, as text; bytes that are not UTF-8 are replaced.
    pub(crate) fn text(&self) -> String {
        let mut kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        String::from_utf8_lossy(kept.make_contiguous()).into_owned()
    }

    async fn read(&self, mut pipe: Receiver, log: Pieces) -> io::Result<()> {
        let mut chunk = [0; 1024];
        loop {
            let count = pipe.read(&mut chunk).await?;
            if count == 0 {
                return Ok(());
            }
            let bytes = chunk.get(..count).unwrap_or_default();
            {
                let mut kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
                kept.extend(bytes);
                let excess = kept.len().saturating_sub(TAIL_BYTES);
                kept.drain(..excess);
            }
            // A log that cannot be written any more is no reason to stop reading.
            let _ = log
                .send(Piece::Console(Bytes::copy_from_slice(bytes)))
                .await;
        }
    }
}
