//! Where a sparse file has data.
//!
//! The kernel says where data and holes begin (`lseek` with `SEEK_DATA` and `SEEK_HOLE`). Holes are
//! zeros; data may be zeros too, and how fine the kernel tells them apart is the file system's affair. One
//! that cannot tell calls the whole file data. So extents say where it is worth looking, and nothing
//! about contents.

use std::fs::File;
use std::io;
use std::ops::Range;

use rustix::fs::{SeekFrom, seek};
use rustix::io::Errno;

/// The stretches of a file that may have other bytes than zero, in ascending order and without touching:
/// bytes from the beginning of the file.
///
/// It moves the file's position.
#[derive(Debug)]
pub struct Extents<'a> {
    file: &'a File,
    at: u64,
    size: u64,
}

impl<'a> Extents<'a> {
    /// Those of the first `size` bytes.
    pub fn of(file: &'a File, size: u64) -> Self {
        Self { file, at: 0, size }
    }

    fn ahead(&self) -> io::Result<Option<Range<u64>>> {
        let start = match seek(self.file, SeekFrom::Data(self.at)) {
            Ok(start) => start,
            // There is none behind.
            Err(Errno::NXIO) => return Ok(None),
            Err(Errno::INVAL | Errno::OPNOTSUPP) => return Ok(Some(self.at..self.size)),
            Err(error) => return Err(error.into()),
        };
        if start >= self.size {
            return Ok(None);
        }
        let end = match seek(self.file, SeekFrom::Hole(start)) {
            Ok(end) => end.min(self.size),
            // It became shorter meanwhile; reading will tell.
            Err(Errno::NXIO) => self.size,
            Err(error) => return Err(error.into()),
        };
        // Whatever the kernel says, each step goes on.
        let start = start.max(self.at);
        Ok(Some(start..end.max(start + 1)))
    }
}

impl Iterator for Extents<'_> {
    type Item = io::Result<Range<u64>>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.at >= self.size {
            return None;
        }
        let found = self.ahead();
        self.at = match &found {
            Ok(Some(extent)) => extent.end,
            Ok(None) | Err(_) => self.size,
        };
        found.transpose()
    }
}

/// All of them, widened to whole blocks of `block` bytes and joined where they then meet. If there are
/// more than `most`, the smallest gaps are taken for data, until there are not.
pub fn whole_blocks(
    file: &File,
    size: u64,
    block: u64,
    most: usize,
) -> io::Result<Vec<Range<u64>>> {
    let mut extents: Vec<Range<u64>> = Vec::new();
    let mut gap = 0;
    for extent in Extents::of(file, size) {
        let extent = extent?;
        let start = extent.start - extent.start % block;
        let end = extent.end.next_multiple_of(block).min(size);
        match extents.last_mut() {
            Some(last) if start <= last.end.saturating_add(gap) => last.end = end,
            _ => extents.push(start..end),
        }
        while extents.len() > most {
            gap = (gap * 2).max(block);
            join(&mut extents, gap);
        }
    }
    Ok(extents)
}

/// Joins those that are at most `gap` bytes apart.
fn join(extents: &mut Vec<Range<u64>>, gap: u64) {
    extents.dedup_by(|next, last| {
        let near = next.start - last.end <= gap;
        if near {
            last.end = next.end;
        }
        near
    });
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::FileExt;

    use super::*;

    fn sparse(size: u64, data: &[u64]) -> File {
        let file = tempfile::tempfile().unwrap();
        file.set_len(size).unwrap();
        for at in data {
            file.write_all_at(&[7; 4096], *at).unwrap();
        }
        file
    }

    #[test]
    fn data_is_found_and_holes_are_passed_over() {
        let file = sparse(1 << 30, &[0, 4096, 1 << 20, (1 << 30) - 4096]);
        let extents: Vec<_> = Extents::of(&file, 1 << 30).map(Result::unwrap).collect();
        let covered = |at: u64| extents.iter().any(|extent| extent.contains(&at));
        assert!(covered(0) && covered(8191) && covered(1 << 20) && covered((1 << 30) - 1));
        for pair in extents.windows(2) {
            assert!(pair[0].end < pair[1].start, "{extents:?}");
        }
        let told: u64 = extents.iter().map(|extent| extent.end - extent.start).sum();
        assert!(told < 1 << 22, "{extents:?}");
        assert_eq!(Extents::of(&file, 0).count(), 0);
        assert_eq!(Extents::of(&sparse(1 << 20, &[]), 1 << 20).count(), 0);
    }

    #[test]
    fn no_more_than_asked_for() {
        let places: Vec<u64> = (0..64).map(|index| index * (1 << 20)).collect();
        let file = sparse(64 << 20, &places);
        for most in [1, 2, 7, 64, 100] {
            let extents = whole_blocks(&file, 64 << 20, 4096, most).unwrap();
            assert!(extents.len() <= most, "{most}: {}", extents.len());
            for at in &places {
                assert!(extents.iter().any(|extent| extent.contains(at)));
            }
        }
    }
}
