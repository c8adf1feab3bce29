//! Directories: entries and names, in blocks.
//!
//! Each block stands for itself: first all its entries, then their names, in order and without anything
//! between them. The number of entries follows from where the first name begins, a name's end from
//! where the next begins; the last ends with its block, or at a zero before that. All names are in the
//! order of their bytes, `.` and `..` among them, over all blocks: the kernel searches by halves, first
//! for the block and then in it.

use super::FileType;
use super::format::{DIRENT, Dirent};
use crate::limits::BLOCK;

/// An entry that is to be written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Entry<'a> {
    pub(super) name: &'a [u8],
    pub(super) nid: u64,
    pub(super) kind: FileType,
}

impl Entry<'_> {
    fn bytes(&self) -> usize {
        DIRENT + self.name.len()
    }
}

/// All entries of a directory: those of `children`, which are in the order of their names, and the two that
/// every directory has.
pub(super) fn entries<'a>(
    children: impl Iterator<Item = Entry<'a>>,
    own_nid: u64,
    parent_nid: u64,
) -> Vec<Entry<'a>> {
    let mut all: Vec<_> = children.collect();
    let dots: [(&[u8], u64); 2] = [(b".", own_nid), (b"..", parent_nid)];
    for (name, nid) in dots {
        let at = all.partition_point(|entry| entry.name < name);
        let kind = FileType::Directory;
        all.insert(at, Entry { name, nid, kind });
    }
    all
}

/// The entries, block by block: each has as many as go into it.
pub(super) fn blocks<'e, 'a>(
    mut entries: &'e [Entry<'a>],
) -> impl Iterator<Item = &'e [Entry<'a>]> {
    std::iter::from_fn(move || {
        let mut room = BLOCK;
        let fits = entries.iter().take_while(|entry| {
            let left = room.checked_sub(entry.bytes() as u64);
            room = left.unwrap_or(room);
            left.is_some()
        });
        let (block, rest) = entries.split_at_checked(fits.count())?;
        entries = rest;
        (!block.is_empty()).then_some(block)
    })
}

/// How long a directory is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Length {
    /// Blocks before the last.
    pub(super) blocks: u64,
    /// Bytes in the last block.
    pub(super) tail: u64,
}

impl Length {
    pub(super) fn of(entries: &[Entry<'_>]) -> Self {
        let used = |block: &[Entry<'_>]| block.iter().map(|entry| entry.bytes() as u64).sum();
        blocks(entries).fold(Self::default(), |so_far, block| Self {
            blocks: so_far.blocks + u64::from(so_far.tail > 0),
            tail: used(block),
        })
    }

    pub(super) fn bytes(self) -> u64 {
        self.blocks * BLOCK + self.tail
    }
}

/// Appends a block, without the zeros behind it.
pub(super) fn encode(block: &[Entry<'_>], out: &mut Vec<u8>) {
    let mut name_at = block.len() * DIRENT;
    for entry in block {
        let dirent = Dirent {
            nid: entry.nid,
            // A block is smaller than its numbers go.
            name_at: u16::try_from(name_at).unwrap_or(u16::MAX),
            kind: entry.kind as u8,
        };
        out.extend_from_slice(&dirent.encode());
        name_at += entry.name.len();
    }
    for entry in block {
        out.extend_from_slice(entry.name);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn named(names: &[Vec<u8>]) -> Vec<Entry<'_>> {
        let children = names.iter().map(|name| Entry {
            name,
            nid: 9,
            kind: FileType::File,
        });
        entries(children, 1, 2)
    }

    #[test]
    fn the_dots_are_where_their_bytes_put_them() {
        let names = [
            b"!".to_vec(),
            b".+".to_vec(),
            b"..a".to_vec(),
            b".a".to_vec(),
            b"a".to_vec(),
        ];
        let all: Vec<_> = named(&names)
            .iter()
            .map(|entry| entry.name.to_vec())
            .collect();
        assert_eq!(all, [&b"!"[..], b".", b".+", b"..", b"..a", b".a", b"a"]);
        let empty = named(&[]);
        assert_eq!((empty[0].nid, empty[1].nid), (1, 2));
        assert_eq!(
            Length::of(&empty),
            Length {
                blocks: 0,
                tail: 27
            }
        );
    }

    #[test]
    fn a_block_is_filled_to_its_last_byte() {
        // 27 bytes are the dots' own; 15 names of 255 bytes and one more fill the block.
        let mut names: Vec<_> = (0..15u8)
            .map(|n| [vec![b'b', n], vec![b'x'; 253]].concat())
            .collect();
        let left = 4096 - 27 - 15 * (12 + 255);
        names.insert(0, vec![b'a'; left - 12]);
        assert_eq!(
            Length::of(&named(&names)),
            Length {
                blocks: 0,
                tail: 4096
            }
        );
        names[0].push(b'a');
        let longer = Length::of(&named(&names));
        assert_eq!(
            longer,
            Length {
                blocks: 1,
                tail: 267
            }
        );
        assert_eq!(longer.bytes(), 4096 + 267);
    }

    #[test]
    fn a_block_is_entries_and_then_names() {
        let names = [b"ab".to_vec()];
        let all = named(&names);
        let mut out = Vec::new();
        encode(&all, &mut out);
        assert_eq!(&out[36..], b"...ab");
        assert_eq!(
            Dirent::decode(&out, 24),
            Some(Dirent {
                nid: 9,
                name_at: 39,
                kind: 1
            })
        );
    }
}
