//! Files with holes. Only the data between holes is in the archive, and a map says where it belongs.
//!
//! | way | where the map is |
//! | --- | --- |
//! | old GNU, type `S` | four places in the header, then 21 in each of as many blocks as are needed |
//! | records 0.0 | two records for each place |
//! | records 0.1 | one record with all numbers |
//! | records 1.0 | numbers on lines at the beginning of the data, filled up to whole blocks |

use tar::{GnuExtSparseHeader, GnuSparseHeader, Header};

use super::header::number;
use super::pax::{Records, integer};
use super::{Archive, BLOCK, Entry, size};
use crate::layer::LayerError;

/// The most places that a map may have.
const MAX_EXTENTS: usize = 1 << 20;

const BAD: LayerError = LayerError::Damaged("a map of holes is malformed");

/// A stretch of a file that is no hole.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Extent {
    pub(in crate::layer) at: u64,
    pub(in crate::layer) len: u64,
}

impl Archive<'_> {
    /// The map of an entry of type `S`. Its further blocks come before the data and are not part of its size.
    pub(super) fn old_sparse(
        &mut self,
        header: &Header,
        entry: &mut Entry,
    ) -> Result<(), LayerError> {
        let gnu = header.as_gnu().ok_or(BAD)?;
        let mut extents = Vec::new();
        let mut more = take(&gnu.sparse, &mut extents)? && gnu.is_extended();
        while more {
            let block = self.stream.block()?.ok_or(LayerError::Truncated)?;
            let mut next = GnuExtSparseHeader::new();
            *next.as_mut_bytes() = block;
            more = take(next.sparse(), &mut extents)? && next.is_extended();
        }
        entry.size = size(number(&gnu.realsize))?;
        entry.extents = Some(extents);
        Ok(())
    }

    /// The map of a file that has one by its records.
    pub(super) fn new_sparse(
        &mut self,
        records: Records,
        entry: &mut Entry,
    ) -> Result<(), LayerError> {
        let sparse = records.sparse;
        let in_data = match (&*sparse.version.0, &*sparse.version.1) {
            (b"1", b"0") => true,
            (b"0", b"0" | b"1") => false,
            (b"", b"") if sparse.map.is_some() => false,
            _ => return Ok(()),
        };
        if let Some(name) = sparse.name {
            entry.path = name;
        }
        if let Some(real) = sparse.size.or(sparse.real_size) {
            entry.size = size(Some(real))?;
        }
        let numbers = if in_data {
            self.map_in_data()?
        } else {
            let numbers = sparse.map.unwrap_or_default();
            let pairs = i64::try_from(numbers.len() / 2).map_err(|_| BAD)?;
            if sparse.count.is_some_and(|count| count != pairs) {
                return Err(BAD);
            }
            numbers
        };
        let (pairs, []) = numbers.as_chunks() else {
            return Err(BAD);
        };
        let extents = pairs.iter().map(|[at, len]| {
            Ok(Extent {
                at: size(Some(*at))?,
                len: size(Some(*len))?,
            })
        });
        entry.extents = Some(extents.collect::<Result<_, LayerError>>()?);
        Ok(())
    }

    /// The numbers at the beginning of the data: first how many pairs follow.
    fn map_in_data(&mut self) -> Result<Vec<i64>, LayerError> {
        let mut numbers: Vec<i64> = Vec::new();
        let mut line: Vec<u8> = Vec::new();
        let mut left = 1;
        while left > 0 {
            self.data = self.data.checked_sub(BLOCK).ok_or(BAD)?;
            let block = self.stream.block()?.ok_or(LayerError::Truncated)?;
            for byte in block {
                if byte != b'\n' {
                    line.push(byte);
                    // No number has more digits.
                    if line.len() > 20 && left > 0 {
                        return Err(BAD);
                    }
                    continue;
                }
                let number = integer(&line).ok_or(BAD)?;
                line.clear();
                left -= 1;
                numbers.push(number);
                if numbers.len() == 1 {
                    let pairs = usize::try_from(number).ok();
                    let pairs = pairs.filter(|pairs| *pairs <= MAX_EXTENTS).ok_or(BAD)?;
                    left = pairs * 2;
                }
                if left == 0 {
                    break;
                }
            }
        }
        numbers.remove(0);
        Ok(numbers)
    }
}

/// Takes places from a header or one of its further blocks. Whether there may be more.
fn take(places: &[GnuSparseHeader], extents: &mut Vec<Extent>) -> Result<bool, LayerError> {
    for place in places {
        // What is not used is empty, and nothing follows it.
        if place.offset[0] == 0 {
            return Ok(false);
        }
        if extents.len() == MAX_EXTENTS {
            return Err(BAD);
        }
        extents.push(Extent {
            at: size(number(&place.offset))?,
            len: size(number(&place.numbytes))?,
        });
    }
    Ok(true)
}

/// Whether the map fits the file, and just as much data follows as it places.
pub(super) fn check(extents: &[Extent], size: u64, data: u64) -> Result<(), LayerError> {
    let (mut end, mut sum) = (0u64, 0u64);
    for extent in extents {
        if extent.at < end {
            return Err(BAD);
        }
        end = extent.at.checked_add(extent.len).ok_or(BAD)?;
        // Stretches follow one another, so their sum is no more than the end.
        sum += extent.len;
    }
    match end <= size && sum == data {
        true => Ok(()),
        false => Err(BAD),
    }
}
