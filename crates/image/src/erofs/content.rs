//! Where a file's bytes are, in the words of the format.
//!
//! A file whose bytes lie in its data blob one after the other needs nothing but the address of the first
//! block. Any other one has a table with an address for each of its *chunks*, which are all of one size, a
//! power of two of blocks; a chunk of zeros has the address [`NOWHERE`](super::format::NOWHERE). The
//! larger the chunks the smaller the table, but no chunk can be part zeros and part not: so their size is
//! the largest that divides all places where stretches of data and of zeros meet.

use super::WriteError;
use crate::limits::BLOCK;
use crate::node::Content;

/// The largest chunks there are, as the binary logarithm of blocks.
const MAX_BITS: u32 = super::format::CHUNK_BITS as u32;

/// How a file is laid out. Addresses are blocks of its layer's data blob.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Mapping {
    /// There is nothing.
    Empty,
    /// All of it from this block on.
    Plain(u64),
    /// A table.
    Chunks {
        /// Binary logarithm of blocks in a chunk.
        bits: u32,
        /// Addresses in the table.
        count: u64,
    },
}

/// Blocks that follow one another both in the file and in the data blob.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Stretch {
    file: u64,
    blob: u64,
    blocks: u64,
}

impl Stretch {
    fn end(&self) -> u64 {
        self.file + self.blocks
    }
}

/// The stretches of a file in a data blob of `blob_bytes`. What the file's description says is not
/// believed: it comes from a file of the store.
fn stretches(content: &Content, blob_bytes: u64) -> Result<Vec<Stretch>, WriteError> {
    const BROKEN: WriteError =
        WriteError::Damaged("a file's pieces are not within it and its data");
    if i64::try_from(content.size).is_err() {
        return Err(BROKEN);
    }
    let mut all: Vec<Stretch> = Vec::new();
    let mut free = 0;
    for piece in &content.pieces {
        let end = piece.at.checked_add(piece.len).ok_or(BROKEN)?;
        let whole = piece.len.checked_next_multiple_of(BLOCK).ok_or(BROKEN)?;
        let blob_end = piece.blob.checked_add(whole).ok_or(BROKEN)?;
        let aligned = piece.at % BLOCK == 0 && piece.blob % BLOCK == 0 && free % BLOCK == 0;
        if !aligned
            || piece.len == 0
            || piece.at < free
            || end > content.size
            || blob_end > blob_bytes
        {
            return Err(BROKEN);
        }
        free = end;
        let next = Stretch {
            file: piece.at / BLOCK,
            blob: piece.blob / BLOCK,
            blocks: whole / BLOCK,
        };
        match all.last_mut() {
            Some(last) if last.end() == next.file && last.blob + last.blocks == next.blob => {
                last.blocks += next.blocks;
            }
            _ => all.push(next),
        }
    }
    Ok(all)
}

/// How to lay out a file with its bytes in a data blob of `blob_bytes`.
pub(super) fn map(content: &Content, blob_bytes: u64) -> Result<Mapping, WriteError> {
    let stretches = stretches(content, blob_bytes)?;
    let blocks = content.size.div_ceil(BLOCK);
    if blocks == 0 {
        return Ok(Mapping::Empty);
    }
    if let [only] = stretches.as_slice()
        && only.file == 0
        && only.blocks == blocks
    {
        return Ok(Mapping::Plain(only.blob));
    }
    let meetings = stretches.iter().flat_map(|one| [one.file, one.end()]);
    let inner = meetings.filter(|at| *at != 0 && *at != blocks);
    let divides = inner.map(u64::trailing_zeros).min().unwrap_or(MAX_BITS);
    // One chunk as large as the file is enough.
    let enough = u64::BITS - (blocks - 1).leading_zeros();
    let bits = divides.min(enough).min(MAX_BITS);
    Ok(Mapping::Chunks {
        bits,
        count: blocks.div_ceil(1 << bits),
    })
}

/// The addresses of the table of a file that [`map`] has put in chunks: blocks of the data blob, none for
/// zeros.
pub(super) fn chunks(
    content: &Content,
    blob_bytes: u64,
    bits: u32,
    count: u64,
) -> Result<impl Iterator<Item = Option<u64>>, WriteError> {
    let mut stretches = stretches(content, blob_bytes)?.into_iter().peekable();
    Ok((0..count).map(move |index| {
        let at = index << bits;
        while stretches.next_if(|one| one.end() <= at).is_some() {}
        let here = stretches.peek().filter(|one| one.file <= at)?;
        Some(here.blob + (at - here.file))
    }))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::node::Piece;

    const BLOB: u64 = 1 << 50;

    /// A file of pieces given in blocks; `size` is in bytes.
    fn content(size: u64, pieces: &[(u64, u64, u64)]) -> Content {
        let piece = |&(at, blob, blocks): &(u64, u64, u64)| Piece {
            at: at * BLOCK,
            blob: blob * BLOCK,
            len: (blocks * BLOCK).min(size - at * BLOCK),
        };
        Content {
            size,
            pieces: pieces.iter().map(piece).collect(),
        }
    }

    fn table(content: &Content) -> (u32, Vec<Option<u64>>) {
        match map(content, BLOB).unwrap() {
            Mapping::Chunks { bits, count } => {
                let all = chunks(content, BLOB, bits, count).unwrap().collect();
                (bits, all)
            }
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn a_file_in_one_piece_is_an_address() {
        assert_eq!(map(&content(0, &[]), 0).unwrap(), Mapping::Empty);
        assert_eq!(
            map(&content(1, &[(0, 7, 1)]), BLOB).unwrap(),
            Mapping::Plain(7)
        );
        let joined = content(3 * BLOCK, &[(0, 7, 2), (2, 9, 1)]);
        assert_eq!(map(&joined, BLOB).unwrap(), Mapping::Plain(7));
        // What the piece leaves of its last block is zeros, and that is all that the file has there.
        let mut short = content(BLOCK, &[(0, 7, 1)]);
        short.pieces[0].len = 1;
        assert_eq!(map(&short, BLOB).unwrap(), Mapping::Plain(7));
    }

    #[test]
    fn chunks_are_as_large_as_the_holes_allow() {
        let holes_only = content(1 << 40, &[]);
        assert_eq!(table(&holes_only), (28, vec![None]));
        let tail = content(16 * BLOCK, &[(8, 3, 8)]);
        assert_eq!(table(&tail), (3, vec![None, Some(3)]));
        let ragged = content(5 * BLOCK + 1, &[(2, 9, 1), (4, 20, 2)]);
        let addresses = vec![None, None, Some(9), None, Some(20), Some(21)];
        assert_eq!(table(&ragged), (0, addresses));
        let scattered = content(4 * BLOCK, &[(0, 8, 2), (2, 2, 2)]);
        assert_eq!(table(&scattered), (1, vec![Some(8), Some(2)]));
    }

    #[test]
    fn the_largest_file_has_the_largest_chunks() {
        let huge = content(i64::MAX.unsigned_abs(), &[]);
        let expected = Mapping::Chunks {
            bits: 31,
            count: 1 << 20,
        };
        assert_eq!(map(&huge, 0).unwrap(), expected);
        let mut beyond = huge;
        beyond.size += 1;
        assert!(map(&beyond, 0).is_err());
    }

    #[test]
    fn addresses_have_64_bits() {
        let far = content(3 * BLOCK, &[(0, 1 << 31, 1), (2, 1 << 35, 1)]);
        assert_eq!(table(&far).1, [Some(1 << 31), None, Some(1 << 35)]);
    }

    #[test]
    fn pieces_that_make_no_sense_are_refused() {
        let good = content(4 * BLOCK, &[(0, 0, 1), (2, 1, 2)]);
        assert!(map(&good, 3 * BLOCK).is_ok());
        assert!(map(&good, 2 * BLOCK).is_err(), "past the end of the data");
        let broken = |change: fn(&mut Content)| {
            let mut bad = good.clone();
            change(&mut bad);
            assert!(map(&bad, BLOB).is_err(), "{bad:?}");
        };
        broken(|bad| bad.pieces[1].at = 0);
        broken(|bad| bad.pieces[1].at += 1);
        broken(|bad| bad.pieces[1].blob += 1);
        broken(|bad| bad.pieces[0].len -= 1);
        broken(|bad| bad.pieces[0].len = 0);
        broken(|bad| bad.pieces[1].len += 1);
        broken(|bad| bad.pieces[1].len = u64::MAX);
        broken(|bad| bad.pieces[1].blob = u64::MAX - BLOCK + 1);
        broken(|bad| bad.size = 0);
    }
}
