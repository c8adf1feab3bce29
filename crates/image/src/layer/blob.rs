//! Files' contents on their way into a data blob.
//!
//! Contents begin at multiples of 4096 bytes and are filled up with zeros, so that a block device can show them
//! as they are. What an archive says to be a hole is not written at all, and neither are long runs of zeros.

use std::io::{self, Write};

use crate::limits::BLOCK;
use crate::node::{Content, Piece};

const BLOCK_LEN: usize = 4096;
/// Blocks of zeros that are worth a hole.
const RUN: u64 = 16;
/// How much is written at once.
const BUFFER: usize = 1 << 20;

/// Writes a data blob.
#[derive(Debug)]
pub(crate) struct BlobWriter<W> {
    out: W,
    buffer: Vec<u8>,
    /// The blob's size, with what is in the buffer.
    size: u64,
}

/// The contents of one file, from its beginning to its end.
#[derive(Debug)]
pub(crate) struct FileWriter<'a, W> {
    blob: &'a mut BlobWriter<W>,
    pieces: Vec<Piece>,
    /// Where the next whole block belongs in the file, that are not written counted.
    at: u64,
    /// Blocks of zeros before it that are not written yet, and whether any of them is a hole by itself.
    zeros: u64,
    hole: bool,
    /// The beginning of the next block.
    partial: Vec<u8>,
}

impl<W: Write> BlobWriter<W> {
    /// A blob with nothing in it.
    pub(crate) fn new(out: W) -> Self {
        Self {
            out,
            buffer: Vec::new(),
            size: 0,
        }
    }

    /// Begins a file.
    pub(crate) fn file(&mut self) -> FileWriter<'_, W> {
        FileWriter {
            blob: self,
            pieces: Vec::new(),
            at: 0,
            zeros: 0,
            hole: false,
            partial: Vec::new(),
        }
    }

    /// Writes what is held back.
    pub(crate) fn flush(&mut self) -> io::Result<()> {
        self.out.write_all(&self.buffer)?;
        self.buffer.clear();
        self.out.flush()
    }

    /// Writes what is left. The blob's size.
    pub(crate) fn finish(mut self) -> io::Result<u64> {
        self.flush()?;
        Ok(self.size)
    }

    fn append(&mut self, block: &[u8]) -> io::Result<()> {
        self.buffer.extend_from_slice(block);
        self.size += block.len() as u64;
        if self.buffer.len() >= BUFFER {
            self.out.write_all(&self.buffer)?;
            self.buffer.clear();
        }
        Ok(())
    }
}

impl<W: Write> FileWriter<'_, W> {
    /// The next bytes.
    pub(crate) fn data(&mut self, mut bytes: &[u8]) -> io::Result<()> {
        if !self.partial.is_empty() {
            let missing = BLOCK_LEN - self.partial.len();
            let (now, later) = bytes.split_at(missing.min(bytes.len()));
            self.partial.extend_from_slice(now);
            self.end_partial()?;
            bytes = later;
        }
        let (blocks, rest) = bytes.as_chunks::<BLOCK_LEN>();
        for block in blocks {
            self.block(block)?;
        }
        self.partial.extend_from_slice(rest);
        Ok(())
    }

    /// The next `length` bytes are a hole.
    pub(crate) fn hole(&mut self, mut length: u64) -> io::Result<()> {
        if !self.partial.is_empty() {
            let missing = BLOCK - self.partial.len() as u64;
            let now = missing.min(length);
            length -= now;
            self.partial_zeros(now)?;
        }
        let blocks = length / BLOCK;
        self.zeros += blocks;
        self.at += blocks * BLOCK;
        self.hole |= blocks > 0;
        self.partial_zeros(length % BLOCK)
    }

    /// Ends the file.
    pub(crate) fn finish(mut self) -> io::Result<Content> {
        let size = self.at + self.partial.len() as u64;
        if !self.partial.is_empty() {
            self.partial.resize(BLOCK_LEN, 0);
            self.end_partial()?;
        }
        if !self.hole && self.zeros < RUN {
            self.write_zeros()?;
        }
        if let Some(last) = self.pieces.last_mut() {
            last.len = last.len.min(size - last.at);
        }
        Ok(Content {
            size,
            pieces: self.pieces,
        })
    }

    fn partial_zeros(&mut self, length: u64) -> io::Result<()> {
        // Less than a block, so no truncation.
        let length = self.partial.len() + usize::try_from(length).unwrap_or(0);
        self.partial.resize(length.min(BLOCK_LEN), 0);
        self.end_partial()
    }

    /// Passes the block on if it is complete.
    fn end_partial(&mut self) -> io::Result<()> {
        let mut block = std::mem::take(&mut self.partial);
        if block.len() == BLOCK_LEN {
            self.block(&block)?;
            block.clear();
        }
        self.partial = block;
        Ok(())
    }

    fn block(&mut self, block: &[u8]) -> io::Result<()> {
        if is_zero(block) {
            self.zeros += 1;
            self.at += BLOCK;
            return Ok(());
        }
        if !self.hole && self.zeros < RUN {
            self.write_zeros()?;
        }
        (self.zeros, self.hole) = (0, false);
        let at = self.at;
        self.at += BLOCK;
        self.put(at, block)
    }

    /// Writes the zeros that were held back.
    fn write_zeros(&mut self) -> io::Result<()> {
        let begin = self.at - self.zeros * BLOCK;
        for index in 0..self.zeros {
            self.put(begin + index * BLOCK, &[0; BLOCK_LEN])?;
        }
        self.zeros = 0;
        Ok(())
    }

    fn put(&mut self, at: u64, block: &[u8]) -> io::Result<()> {
        let blob = self.blob.size;
        self.blob.append(block)?;
        match self.pieces.last_mut() {
            Some(last) if last.at + last.len == at => last.len += BLOCK,
            _ => self.pieces.push(Piece {
                at,
                blob,
                len: BLOCK,
            }),
        }
        Ok(())
    }
}

fn is_zero(block: &[u8]) -> bool {
    // Most blocks are not, and show it at once.
    block.first() == Some(&0)
        && block
            .chunks(64)
            .all(|part| part.iter().fold(0, |or, byte| or | byte) == 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    const B: u64 = BLOCK;

    /// Writes one file after a block of something else.
    fn write(parts: &[(&[u8], u64)]) -> (Content, Vec<u8>) {
        let mut out = Vec::new();
        let mut blob = BlobWriter::new(&mut out);
        let mut other = blob.file();
        other.data(b"other").unwrap();
        other.finish().unwrap();
        let mut file = blob.file();
        for (data, hole) in parts {
            file.data(data).unwrap();
            file.hole(*hole).unwrap();
        }
        let content = file.finish().unwrap();
        let size = blob.finish().unwrap();
        assert_eq!(size, out.len() as u64);
        assert_eq!(size % B, 0);
        (content, out)
    }

    fn pieces(content: &Content) -> Vec<(u64, u64, u64)> {
        let pieces = content.pieces.iter();
        pieces
            .map(|piece| (piece.at, piece.blob, piece.len))
            .collect()
    }

    #[test]
    fn files_are_aligned_and_filled_up() {
        let (content, out) = write(&[(&[7; 5000], 0)]);
        assert_eq!((content.size, pieces(&content)), (5000, vec![(0, B, 5000)]));
        assert_eq!(out.len(), 3 * 4096);
        assert_eq!(&out[4096..9096], [7; 5000]);
        assert!(out[9096..].iter().all(|byte| *byte == 0));
        assert_eq!(&out[..6], b"other\0");
    }

    #[test]
    fn empty_files_have_no_pieces() {
        let (content, out) = write(&[]);
        assert_eq!((content, out.len()), (Content::default(), 4096));
    }

    #[test]
    fn holes_are_left_out_and_cut_blocks_filled_up() {
        // A hole from within a block to within another.
        let (content, out) = write(&[(&[1; 100], 3 * B), (&[2; 50], 0)]);
        let expected = vec![(0, B, B), (3 * B, 2 * B, 150)];
        assert_eq!((content.size, pieces(&content)), (3 * B + 150, expected));
        assert_eq!(&out[4096 + 99..4096 + 101], [1, 0]);
        assert_eq!(
            &out[8192 + 99..8192 + 151],
            [&[0][..], &[2; 50], &[0]].concat()
        );
        // One within a block is only zeros.
        let (content, _) = write(&[(&[1; 10], 10), (&[2; 10], 0)]);
        assert_eq!((content.size, pieces(&content)), (30, vec![(0, B, 30)]));
        // A file may end with one, or be nothing else.
        let (content, _) = write(&[(&[1; 4096], 10 * B)]);
        assert_eq!((content.size, pieces(&content)), (11 * B, vec![(0, B, B)]));
        let (content, _) = write(&[(&[], 1 << 50), (&[], 1)]);
        assert_eq!((content.size, pieces(&content)), ((1 << 50) + 1, vec![]));
    }

    #[test]
    fn only_long_runs_of_zeros_are_left_out() {
        let zeros = vec![0; 16 * 4096];
        let (content, _) = write(&[(&[1; 4096], 0), (&zeros[4096..], 0), (b"x", 0)]);
        assert_eq!(pieces(&content), [(0, B, 16 * B + 1)]);
        let (content, out) = write(&[(&[1; 4096], 0), (&zeros, 0), (b"x", 0)]);
        assert_eq!(pieces(&content), [(0, B, B), (17 * B, 2 * B, 1)]);
        assert_eq!(out.len(), 3 * 4096);
        // At the end as well, where the last block is not a whole one.
        let (content, _) = write(&[(&[1; 4096], 0), (&zeros[..15 * 4096 + 1], 0)]);
        assert_eq!(
            (content.size, pieces(&content)),
            (16 * B + 1, vec![(0, B, B)])
        );
        let (content, _) = write(&[(&[0; 100], 0)]);
        assert_eq!((content.size, pieces(&content)), (100, vec![(0, B, 100)]));
    }
}
