//! Bytes on their way out, with the checksum of the first block put in as they pass.

use std::io::{self, Write};
use std::ops::Range;

use super::WriteError;
use super::format::checksum;
use crate::limits::BLOCK;

/// What is collected before it is handed on, in bytes: more than a block.
const BUFFER: usize = 64 << 10;
/// What the checksum covers: the superblock's block, from the superblock on.
const CHECKED: Range<usize> = 1024..4096;

/// What is written, on its way out.
pub(super) struct Sink<W> {
    out: W,
    /// What has not gone out yet. Whoever appends to it calls [`Sink::pass_on`] now and then.
    pub(super) buffer: Vec<u8>,
    /// What has.
    gone: u64,
}

impl<W: Write> Sink<W> {
    pub(super) fn new(out: W) -> Self {
        Self {
            out,
            buffer: Vec::with_capacity(2 * BUFFER),
            gone: 0,
        }
    }

    /// Zeros up to here.
    pub(super) fn pad_to(&mut self, at: u64) -> Result<(), WriteError> {
        loop {
            let here = self.gone + self.buffer.len() as u64;
            let Some(missing) = at.checked_sub(here) else {
                return Err(WriteError::Damaged("its parts overlap"));
            };
            let some = usize::try_from(missing).map_or(BUFFER, |missing| missing.min(BUFFER));
            self.buffer.resize(self.buffer.len() + some, 0);
            self.pass_on()?;
            if some as u64 == missing {
                return Ok(());
            }
        }
    }

    /// Hands on what has come together, if it is enough.
    pub(super) fn pass_on(&mut self) -> io::Result<()> {
        match self.buffer.len() < BUFFER {
            true => Ok(()),
            false => self.hand_on(),
        }
    }

    fn hand_on(&mut self) -> io::Result<()> {
        if self.gone == 0
            && let Some(first) = self.buffer.get_mut(CHECKED)
        {
            let sum = checksum(first).to_le_bytes();
            if let Some(field) = first.get_mut(4..8) {
                field.copy_from_slice(&sum);
            }
        }
        self.out.write_all(&self.buffer)?;
        self.gone += self.buffer.len() as u64;
        self.buffer.clear();
        Ok(())
    }

    /// The end, which is that of a block.
    pub(super) fn finish(mut self) -> Result<(), WriteError> {
        let here = self.gone + self.buffer.len() as u64;
        self.pad_to(here.next_multiple_of(BLOCK))?;
        self.hand_on()?;
        Ok(self.out.flush()?)
    }
}
