//! The uncompressed bytes of a layer: hashed, counted, and given out in pieces.

use std::ops::ControlFlow;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, SyncSender};

use super::{LayerError, Progress};
use crate::digest::Digest;

/// What the thread that decompresses sends: some bytes, or why there are no more.
pub(super) type Chunk = Result<Vec<u8>, LayerError>;

/// A layer's bytes, as they come from the thread that decompresses them.
pub(super) struct Stream<'a> {
    chunks: Receiver<Chunk>,
    /// Buffers on their way back, to be filled again.
    empty: SyncSender<Vec<u8>>,
    chunk: Vec<u8>,
    at: usize,
    hasher: sha2::Sha256,
    progress: Progress,
    limit: u64,
    /// How many bytes the other thread has read.
    read: &'a AtomicU64,
    tell: &'a mut dyn FnMut(Progress) -> ControlFlow<()>,
}

impl<'a> Stream<'a> {
    /// Bytes from `chunks`, `limit` of them at most.
    pub(super) fn new(
        chunks: Receiver<Chunk>,
        empty: SyncSender<Vec<u8>>,
        limit: u64,
        read: &'a AtomicU64,
        tell: &'a mut dyn FnMut(Progress) -> ControlFlow<()>,
    ) -> Self {
        Self {
            chunks,
            empty,
            chunk: Vec::new(),
            at: 0,
            hasher: sha2::Sha256::default(),
            progress: Progress::default(),
            limit,
            read,
            tell,
        }
    }

    /// At least one byte and at most `most` of them; none at the end.
    pub(super) fn some(&mut self, most: u64) -> Result<&[u8], LayerError> {
        while self.at == self.chunk.len() {
            if !self.refill()? {
                return Ok(&[]);
            }
        }
        let rest = self.chunk.get(self.at..).unwrap_or_default();
        let most = usize::try_from(most).unwrap_or(usize::MAX);
        let bytes = rest.get(..most).unwrap_or(rest);
        self.at += bytes.len();
        Ok(bytes)
    }

    /// The next block of an archive; `None` if there is not one byte more.
    pub(super) fn block(&mut self) -> Result<Option<[u8; 512]>, LayerError> {
        let mut block = [0; 512];
        let mut rest = &mut block[..];
        while !rest.is_empty() {
            let bytes = self.some(rest.len() as u64)?;
            if bytes.is_empty() {
                return match rest.len() {
                    512 => Ok(None),
                    _ => Err(LayerError::Truncated),
                };
            }
            let length = bytes.len();
            rest[..length].copy_from_slice(bytes);
            rest = &mut rest[length..];
        }
        Ok(Some(block))
    }

    /// Passes over bytes that must be there.
    pub(super) fn skip(&mut self, mut bytes: u64) -> Result<(), LayerError> {
        while bytes > 0 {
            let skipped = self.some(bytes)?.len() as u64;
            if skipped == 0 {
                return Err(LayerError::Truncated);
            }
            bytes -= skipped;
        }
        Ok(())
    }

    /// Reads to the very end. The digest of all bytes, and how many they and the compressed ones were.
    pub(super) fn finish(mut self) -> Result<(Digest, Progress), LayerError> {
        while self.refill()? {}
        Ok((Digest::from_hasher(self.hasher), self.progress))
    }

    fn refill(&mut self) -> Result<bool, LayerError> {
        let Ok(chunk) = self.chunks.recv() else {
            // The other thread is done.
            self.progress.read = self.read.load(Ordering::Relaxed);
            return Ok(false);
        };
        // Nobody may want it back any more.
        let _ = self
            .empty
            .try_send(std::mem::replace(&mut self.chunk, chunk?));
        self.at = 0;
        sha2::Digest::update(&mut self.hasher, &self.chunk);
        self.progress.unpacked += self.chunk.len() as u64;
        self.progress.read = self.read.load(Ordering::Relaxed);
        if self.progress.unpacked > self.limit {
            return Err(LayerError::TooLarge {
                what: "bytes",
                limit: self.limit,
            });
        }
        match (self.tell)(self.progress) {
            ControlFlow::Continue(()) => Ok(true),
            ControlFlow::Break(()) => Err(LayerError::Cancelled),
        }
    }
}
