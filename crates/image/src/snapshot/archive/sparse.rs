//! How a sparse file is in a tar: GNU's format 1.0 for PAX headers.
//!
//! An extended header has the file's own name and size. The entry's data begins with a map, as text:
//! how many stretches there are, and of each where it begins and how long it is, one number in a line,
//! filled with zeros to a multiple of 512 bytes. Behind it are the bytes of the stretches. A file
//! that ends in a hole has a last stretch of no bytes at its end.

use std::io::Read;
use std::ops::Range;

use super::broken;
use crate::limits::BLOCK;
use crate::snapshot::error::{Result, SnapshotError};

/// A tar's block.
const TAR_BLOCK: usize = 512;

/// The longest line of a map: the digits of the largest number, and its end.
const MAX_LINE: usize = 21;

/// The records of the extended header.
pub(super) const MAJOR: &str = "GNU.sparse.major";
pub(super) const MINOR: &str = "GNU.sparse.minor";
pub(super) const NAME: &str = "GNU.sparse.name";
pub(super) const SIZE: &str = "GNU.sparse.realsize";

/// The map of a file of `size` bytes.
pub(super) fn write_map(extents: &[Range<u64>], size: u64) -> Vec<u8> {
    let ends_in_a_hole = extents.last().is_none_or(|last| last.end < size);
    let count = extents.len() + usize::from(ends_in_a_hole);
    let mut map = format!("{count}\n");
    for extent in extents {
        map.push_str(&format!(
            "{}\n{}\n",
            extent.start,
            extent.end - extent.start
        ));
    }
    if ends_in_a_hole {
        map.push_str(&format!("{size}\n0\n"));
    }
    let mut map = map.into_bytes();
    map.resize(map.len().next_multiple_of(TAR_BLOCK), 0);
    map
}

/// Reads a map from the beginning of an entry's data of `length` bytes, and leaves the reader at the stretches.
///
/// What it returns lies within a file of `size` bytes, in order, without overlap, in whole blocks, and has as
/// many bytes as the entry goes on with.
pub(super) fn read_map(
    reader: &mut dyn Read,
    length: u64,
    size: u64,
    most: usize,
) -> Result<Vec<Range<u64>>> {
    let wrong =
        |why: &str| SnapshotError::archive(format!("the map of a disk in the archive {why}"));
    let mut lines = Lines::new(reader);
    let count = lines.number()?;
    // One more for the end.
    if count > most as u64 + 1 {
        return Err(wrong("has more stretches than any disk is written with"));
    }
    let mut extents: Vec<Range<u64>> = Vec::new();
    let mut ended = false;
    let mut data = 0_u64;
    for _ in 0..count {
        let (start, long) = (lines.number()?, lines.number()?);
        let end = start
            .checked_add(long)
            .filter(|end| *end <= size)
            .ok_or_else(|| wrong("goes beyond the disk"))?;
        if ended || extents.last().is_some_and(|last| start < last.end) {
            return Err(wrong("is not in order"));
        }
        if long == 0 {
            ended = true;
            if start != size {
                return Err(wrong("has a stretch of no bytes"));
            }
            continue;
        }
        if !start.is_multiple_of(BLOCK) || (end != size && !end.is_multiple_of(BLOCK)) {
            return Err(wrong("is not in whole blocks"));
        }
        data += long;
        extents.push(start..end);
    }
    let map = lines.finish()?;
    match map.checked_add(data) == Some(length) {
        true => Ok(extents),
        false => Err(wrong("does not say what the entry has")),
    }
}

/// The lines of a map, read a block at a time, so that nothing behind it is touched.
struct Lines<'a> {
    reader: &'a mut dyn Read,
    block: [u8; TAR_BLOCK],
    at: usize,
    blocks: u64,
}

impl<'a> Lines<'a> {
    fn new(reader: &'a mut dyn Read) -> Self {
        Self {
            reader,
            block: [0; TAR_BLOCK],
            at: TAR_BLOCK,
            blocks: 0,
        }
    }

    fn byte(&mut self) -> Result<u8> {
        if self.at == TAR_BLOCK {
            self.reader.read_exact(&mut self.block).map_err(broken)?;
            self.at = 0;
            self.blocks += 1;
        }
        let byte = self.block.get(self.at).copied().unwrap_or_default();
        self.at += 1;
        Ok(byte)
    }

    fn number(&mut self) -> Result<u64> {
        let mut line = String::new();
        loop {
            match self.byte()? {
                b'\n' => break,
                digit if digit.is_ascii_digit() && line.len() < MAX_LINE => line.push(digit.into()),
                _ => return Err(not_a_number()),
            }
        }
        line.parse().map_err(|_| not_a_number())
    }

    /// How many bytes the map had, with what fills it up.
    fn finish(self) -> Result<u64> {
        let rest = self.block.get(self.at..).unwrap_or_default();
        match rest.iter().all(|byte| *byte == 0) {
            true => Ok(self.blocks * TAR_BLOCK as u64),
            false => Err(not_a_number()),
        }
    }
}

fn not_a_number() -> SnapshotError {
    SnapshotError::archive("the map of a disk in the archive is no list of numbers")
}
