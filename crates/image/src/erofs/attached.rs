//! The extended attributes of each inode, and those that several inodes share.
//!
//! An attribute stands behind its inode, or once in an area of the image and then in four bytes behind each
//! inode that has it. Images have few attributes, but those by the thousand: the same capabilities, access
//! lists or labels on many files. So each is counted, and shared where that is shorter.

use std::collections::HashMap;

use super::WriteError;
use super::format::{XATTR_ENTRY, XATTR_HEADER};
use super::xattr::Kept;
use crate::node::Xattr;

/// The most bytes of attributes that an inode has: what 16 bits of words can say, if none were shared.
pub(super) const MAX_BYTES: usize = XATTR_HEADER + XATTR_ENTRY * (u16::MAX as usize - 1);
/// The most of one inode that are shared: they are counted in a byte.
const MAX_SHARED: usize = u8::MAX as usize;

type Key<'a> = (&'a [u8], &'a [u8]);

/// The attributes that are written once.
#[derive(Debug, Default)]
pub(super) struct Shared<'a> {
    /// Where each is, in units of four bytes from the area's beginning.
    places: HashMap<Key<'a>, u32>,
    /// Them, in the order of their places: that in which they were first met.
    all: Vec<Kept<'a>>,
    bytes: u64,
}

/// The attributes of one inode.
#[derive(Debug, Default)]
pub(super) struct Attached<'a> {
    shared: Vec<u32>,
    own: Vec<Kept<'a>>,
}

impl<'a> Shared<'a> {
    /// Chooses from the attributes of all inodes, those of each inode in turn.
    pub(super) fn choose(xattrs: impl Iterator<Item = &'a Xattr>) -> Self {
        let mut known: HashMap<Key<'a>, usize> = HashMap::new();
        let mut counted: Vec<(Key<'a>, Kept<'a>, u64)> = Vec::new();
        for xattr in xattrs {
            let Some(kept) = Kept::new(xattr) else {
                continue;
            };
            let key = (xattr.name.as_slice(), xattr.value.as_slice());
            let place = *known.entry(key).or_insert(counted.len());
            match counted.get_mut(place) {
                Some((_, _, times)) => *times += 1,
                None => counted.push((key, kept, 1)),
            }
        }
        let mut shared = Self::default();
        for (key, kept, times) in counted {
            let bytes = kept.bytes() as u64;
            let pays = times * bytes > times * XATTR_ENTRY as u64 + bytes;
            if pays && let Ok(place) = u32::try_from(shared.bytes / XATTR_ENTRY as u64) {
                shared.places.insert(key, place);
                shared.all.push(kept);
                shared.bytes += bytes;
            }
        }
        shared
    }

    /// Size of the area.
    pub(super) fn bytes(&self) -> u64 {
        self.bytes
    }

    /// What is in the area, in order.
    pub(super) fn all(&self) -> &[Kept<'a>] {
        &self.all
    }

    /// The attributes of an inode, without those that cannot be kept.
    pub(super) fn attach(&self, xattrs: &'a [Xattr]) -> Result<Attached<'a>, WriteError> {
        let mut attached = Attached::default();
        let mut bytes = XATTR_HEADER;
        for xattr in xattrs {
            let Some(kept) = Kept::new(xattr) else {
                continue;
            };
            bytes += kept.bytes();
            if bytes > MAX_BYTES {
                return Err(WriteError::XattrsTooLarge { limit: MAX_BYTES });
            }
            match self
                .places
                .get(&(xattr.name.as_slice(), xattr.value.as_slice()))
            {
                Some(place) if attached.shared.len() < MAX_SHARED => attached.shared.push(*place),
                _ => attached.own.push(kept),
            }
        }
        Ok(attached)
    }
}

impl Attached<'_> {
    /// What they take behind the inode.
    pub(super) fn bytes(&self) -> usize {
        if self.shared.is_empty() && self.own.is_empty() {
            return 0;
        }
        let own: usize = self.own.iter().map(Kept::bytes).sum();
        XATTR_HEADER + self.shared.len() * XATTR_ENTRY + own
    }

    /// The same as the inode has it: none, or one more than the words behind the header.
    pub(super) fn words(&self) -> u16 {
        let words = match self.bytes().checked_sub(XATTR_HEADER) {
            Some(bytes) => bytes / XATTR_ENTRY + 1,
            None => 0,
        };
        // `attach` keeps it below.
        u16::try_from(words).unwrap_or(u16::MAX)
    }

    /// Appends them.
    pub(super) fn encode(&self, out: &mut Vec<u8>) {
        if self.bytes() == 0 {
            return;
        }
        let mut header = [0; XATTR_HEADER];
        header[4] = u8::try_from(self.shared.len()).unwrap_or(u8::MAX);
        out.extend_from_slice(&header);
        for place in &self.shared {
            out.extend_from_slice(&place.to_le_bytes());
        }
        for kept in &self.own {
            kept.encode(out);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn xattr(name: &str, value: &[u8]) -> Xattr {
        Xattr {
            name: name.into(),
            value: value.to_vec(),
        }
    }

    #[test]
    fn what_many_have_is_written_once() {
        let common = xattr("security.capability", &[1; 20]);
        let rare = xattr("user.rare", b"x");
        let foreign = xattr("lustre.lov", b"x");
        // Twice eight bytes are no more than eight and two times four.
        let short = xattr("user.a", b"12");
        let files = [
            vec![common.clone(), foreign, short.clone()],
            vec![common, rare, short],
        ];
        let shared = Shared::choose(files.iter().flatten());
        assert_eq!((shared.all().len(), shared.bytes()), (1, 36));

        let first = shared.attach(&files[0]).unwrap();
        assert_eq!((first.shared.as_slice(), first.own.len()), (&[0][..], 1));
        assert_eq!((first.bytes(), first.words()), (12 + 4 + 8, 4));
        let mut out = Vec::new();
        first.encode(&mut out);
        assert_eq!(
            out,
            *b"\0\0\0\0\x01\0\0\0\0\0\0\0\0\0\0\0\x01\x01\x02\0a12\0"
        );
    }

    #[test]
    fn nothing_takes_no_place() {
        let none = Shared::default().attach(&[]).unwrap();
        assert_eq!((none.bytes(), none.words()), (0, 0));
    }

    #[test]
    fn there_are_only_so_many_bytes_and_shared_ones() {
        let many: Vec<_> = (0..300)
            .map(|n| xattr(&format!("user.{n:03}"), &[0; 100]))
            .collect();
        let twice = [many.clone(), many.clone()];
        let shared = Shared::choose(twice.iter().flatten());
        let attached = shared.attach(&many).unwrap();
        assert_eq!((attached.shared.len(), attached.own.len()), (255, 45));

        // 4 bytes, a name of one and a value make 65,536 each; with the header, three go in.
        let large: Vec<_> = (0..4)
            .map(|n| xattr(&format!("user.{n}"), &[0; 65_531]))
            .collect();
        assert!(Shared::default().attach(&large[..3]).is_ok());
        assert!(
            Shared::default()
                .attach(&large)
                .is_err_and(|error| matches!(error, WriteError::XattrsTooLarge { .. }))
        );
    }
}
