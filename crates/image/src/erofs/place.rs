//! Where inodes go: one after the other, with as little left free between them as that allows.
//!
//! An inode's first 64 bytes never cross the end of a block, and an inode with data behind it lies
//! within one block altogether, as the kernel demands of such data. Where one does not fit into what is left
//! of a block it begins the next, and what was left is remembered: most inodes are 64 bytes, and the
//! next few of them fill it.

use super::format::{EXTENDED, SLOT};
use crate::limits::BLOCK;

/// The place that is free.
#[derive(Debug)]
pub(super) struct Places {
    next: u64,
    /// What is left of a block behind: from here, to here.
    hole: (u64, u64),
}

impl Places {
    /// All from here on, a multiple of [`SLOT`].
    pub(super) fn new(next: u64) -> Self {
        Self { next, hole: (0, 0) }
    }

    /// Takes `bytes`, which is at least an inode; `whole`: they must not cross the end of a block, and
    /// are no more than one. None where there are none left.
    pub(super) fn take(&mut self, bytes: u64, whole: bool) -> Option<u64> {
        let bytes = bytes.checked_next_multiple_of(SLOT)?;
        let within = if whole { bytes } else { EXTENDED as u64 };
        let (hole, hole_end) = self.hole;
        if hole_end - hole >= bytes {
            self.hole.0 += bytes;
            return Some(hole);
        }
        let mut at = self.next;
        let block_end = at.checked_next_multiple_of(BLOCK)?;
        if at != block_end && block_end - at < within {
            if block_end - at > hole_end - hole {
                self.hole = (at, block_end);
            }
            at = block_end;
        }
        self.next = at.checked_add(bytes)?;
        Some(at)
    }

    /// Where what is taken ends.
    pub(super) fn end(&self) -> u64 {
        self.next
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_does_not_fit_leaves_its_place_to_others() {
        let mut places = Places::new(1152);
        assert_eq!(places.take(64, false), Some(1152));
        assert_eq!(places.take(4000, true), Some(4096));
        assert_eq!(places.take(64, false), Some(1216), "into what was left");
        assert_eq!(places.take(2816, true), Some(1280), "which it fills up");
        assert_eq!(places.take(2880, true), Some(8192));
        assert_eq!(
            places.take(65, false),
            Some(4096 + 4000),
            "one slot less than a block"
        );
    }

    #[test]
    fn an_inode_does_not_cross_a_block_but_what_follows_it_may() {
        let mut places = Places::new(4096 - 32);
        assert_eq!(places.take(64, false), Some(4096));
        assert_eq!(places.take(10_000, false), Some(4160));
        assert_eq!(places.take(64, false), Some(4160 + 10_016));
    }

    #[test]
    fn it_ends_where_numbers_do() {
        let mut places = Places::new(u64::MAX - 4095);
        assert_eq!(places.take(8192, false), None);
        assert_eq!(places.take(u64::MAX, false), None);
    }

    proptest::proptest! {
        #[test]
        fn nothing_overlaps(sizes in proptest::collection::vec((64u64..6000, proptest::bool::ANY), 1..200)) {
            let mut places = Places::new(1152);
            let mut taken = Vec::new();
            for (bytes, whole) in sizes {
                let whole = whole && bytes <= BLOCK;
                let at = places.take(bytes, whole).unwrap();
                let block_end = (at / BLOCK + 1) * BLOCK;
                assert!(at.is_multiple_of(SLOT) && at + 64 <= block_end);
                assert!(!whole || at + bytes <= block_end);
                assert!(at + bytes <= places.end());
                taken.push((at, at + bytes));
            }
            taken.sort_unstable();
            assert!(taken.windows(2).all(|pair| pair[0].1 <= pair[1].0), "{taken:?}");
        }
    }
}
