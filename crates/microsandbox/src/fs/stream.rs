//! Files piece by piece.

use bytes::{Bytes, BytesMut};
use msb_protocol::{FsAnswer, FsPart, MAX_CHUNK};
use msb_runtime::conversation::ConversationError;
use tokio::sync::Mutex;

use super::FsError;
use super::call::{Call, out_of_turn};
use crate::error::{MicrosandboxError, MicrosandboxResult};

/// What is in a file, as it comes. The guest reads no further than it is received; dropping the
/// stream ends the reading.
#[derive(Debug)]
pub struct FsReadStream {
    /// Until the end has come, or an error.
    call: Option<Call>,
    /// The most that is gathered.
    limit: usize,
}

impl FsReadStream {
    pub(super) fn new(call: Call, limit: usize) -> Self {
        Self {
            call: Some(call),
            limit,
        }
    }

    /// The next piece, never an empty one; `None` at the end of the file. Cancel-safe.
    ///
    /// # Errors
    ///
    /// Whatever the reading fails of. After an error the stream has ended.
    pub async fn recv(&mut self) -> MicrosandboxResult<Option<Bytes>> {
        let Some(call) = &mut self.call else {
            return Ok(None);
        };
        let received = match call.next().await {
            Ok(FsAnswer::Part(FsPart::Data(data))) if !data.is_empty() => return Ok(Some(data)),
            Ok(FsAnswer::Done) => Ok(None),
            Ok(_) => Err(out_of_turn()),
            Err(error) => Err(error),
        };
        self.call = None;
        received
    }

    /// All that is left.
    ///
    /// # Errors
    ///
    /// [`TooLarge`](super::FsErrorKind::TooLarge) when it is more than
    /// [`MAX_READ_BYTES`](super::MAX_READ_BYTES).
    pub async fn collect(mut self) -> MicrosandboxResult<Bytes> {
        let mut all = BytesMut::new();
        while let Some(piece) = self.recv().await? {
            if piece.len() > self.limit.saturating_sub(all.len()) {
                return Err(FsError::too_large("the file", self.limit).into());
            }
            all.extend_from_slice(&piece);
        }
        Ok(all.freeze())
    }
}

/// The end of a file that is being written.
///
/// Dropping it without [`close`](Self::close) leaves in the file what was written so far.
#[derive(Debug)]
pub struct FsWriteSink {
    /// Until a write has failed, or was dropped half-way.
    call: Mutex<Option<Call>>,
}

impl FsWriteSink {
    pub(super) fn new(call: Call) -> Self {
        Self {
            call: Mutex::new(Some(call)),
        }
    }

    /// Writes all of `data` behind what was written before. It returns when that is on its way;
    /// whether the guest could write it, a later call says, and at the latest
    /// [`close`](Self::close).
    ///
    /// If it is dropped half-way, nothing more can be written.
    pub async fn write(&self, data: impl AsRef<[u8]>) -> MicrosandboxResult<()> {
        let mut held = self.call.lock().await;
        let mut call = held.take().ok_or_else(over)?;
        for piece in data.as_ref().chunks(MAX_CHUNK) {
            let piece = FsPart::Data(Bytes::copy_from_slice(piece));
            call.part(piece).await?;
        }
        *held = Some(call);
        Ok(())
    }

    /// Ends the file, and waits until the guest has written all of it.
    pub async fn close(self) -> MicrosandboxResult<()> {
        let mut call = self.call.into_inner().ok_or_else(over)?;
        call.finish().await
    }
}

/// An earlier write has failed.
fn over() -> MicrosandboxError {
    ConversationError::Closed.into()
}
