//! Extended attributes, those behind the inode and those that it shares.

use super::super::attached::MAX_BYTES;
use super::super::format::{XATTR_ENTRY, XATTR_HEADER};
use super::super::xattr::{Name, entry_bytes};
use super::{Inode, ReadAt, ReadError, Reader, damaged};
use crate::node::Xattr;

const BROKEN: &str = "extended attributes make no sense";

impl<S: ReadAt> Reader<S> {
    /// An inode's extended attributes, in the order of their names.
    ///
    /// # Errors
    ///
    /// They are damaged, have names that are not supported, or are more than 256 KiB.
    pub fn xattrs(&self, inode: &Inode) -> Result<Vec<Xattr>, ReadError> {
        let broken = || damaged(BROKEN, inode.nid);
        let (at, bytes) = inode.xattrs;
        if bytes == 0 {
            return Ok(Vec::new());
        }
        // At most 256 KiB, as 16 bits of words have no more.
        let mut behind = vec![0; bytes];
        self.read_at(&mut behind, at, inode.nid)?;
        let (header, rest) = behind.split_at_checked(XATTR_HEADER).ok_or_else(broken)?;
        let count = header.get(4).map_or(0, |count| usize::from(*count));
        let (shared, mut own) = rest
            .split_at_checked(count * XATTR_ENTRY)
            .ok_or_else(broken)?;

        let mut all = Vec::new();
        let mut total = 0;
        while !own.is_empty() {
            let (xattr, size) = parse(own).ok_or_else(broken)?;
            total += size;
            own = own.get(size..).unwrap_or_default();
            all.push(xattr);
        }
        for place in shared.chunks_exact(XATTR_ENTRY) {
            let place = place
                .first_chunk()
                .map_or(0, |place| u32::from_le_bytes(*place));
            let area = u64::from(self.raw.xattr_block) * self.block();
            let (xattr, size) = self.shared(area + u64::from(place) * XATTR_ENTRY as u64, inode)?;
            total += size;
            if total > MAX_BYTES {
                let (what, limit) = ("bytes of attributes in a file", MAX_BYTES as u64);
                return Err(ReadError::Limit { what, limit });
            }
            all.push(xattr);
        }
        all.sort_unstable();
        match all
            .windows(2)
            .any(|pair| matches!(pair, [a, b] if a.name == b.name))
        {
            true => Err(broken()),
            false => Ok(all),
        }
    }

    fn shared(&self, at: u64, inode: &Inode) -> Result<(Xattr, usize), ReadError> {
        let mut head = [0; XATTR_ENTRY];
        self.read_at(&mut head, at, inode.nid)?;
        let mut bytes = vec![0; lengths(head).2];
        self.read_at(&mut bytes, at, inode.nid)?;
        parse(&bytes).ok_or(damaged(BROKEN, inode.nid))
    }
}

/// The lengths of an attribute: of its name's rest, its value, and all of it.
fn lengths([name, _, low, high]: [u8; XATTR_ENTRY]) -> (usize, usize, usize) {
    let name = usize::from(name);
    let value = usize::from(u16::from_le_bytes([low, high]));
    (name, value, entry_bytes(name, value))
}

/// The attribute at the beginning of `bytes`, and what it takes of them.
fn parse(bytes: &[u8]) -> Option<(Xattr, usize)> {
    let (head, rest) = bytes.split_first_chunk::<XATTR_ENTRY>()?;
    let (name, value, size) = lengths(*head);
    let (name, rest) = rest.split_at_checked(name)?;
    let [_, index, ..] = *head;
    let xattr = Xattr {
        name: Name { index, rest: name }.join()?,
        value: rest.get(..value)?.to_vec(),
    };
    (size <= bytes.len()).then_some((xattr, size))
}
