//! Where an inode's data is, and reading it.

use super::inode::{Inode, Layout};
use super::{ReadAt, ReadError, Reader, damaged};
use crate::erofs::format::NOWHERE;

/// A stretch of an inode's data.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Mapped {
    /// The byte of the disk at which it begins; none where it is zeros that are nowhere.
    pub at: Option<u64>,
    /// How many bytes of the inode it has: at least one.
    pub len: u64,
}

impl<S: ReadAt> Reader<S> {
    /// Where the byte at `offset` of an inode's data is, and those behind it as far as they follow one
    /// another for sure. None at the end and past it. What is not on the disk may be named all the same.
    ///
    /// # Errors
    ///
    /// The inode is damaged.
    pub fn map(&self, inode: &Inode, offset: u64) -> Result<Option<Mapped>, ReadError> {
        let Some(left) = inode.size.checked_sub(offset).filter(|left| *left > 0) else {
            return Ok(None);
        };
        let block = self.block();
        // Neither product nor sum goes beyond 64 bits: 32 and 12 bits, and a size of 63.
        let plain = |first: u32| u64::from(first) * block + offset;
        let mapped = match inode.layout {
            Layout::Plain { block } => Mapped {
                at: Some(plain(block)),
                len: left,
            },
            Layout::Inline { block: first, at } => {
                let last = (inode.size - 1) / block * block;
                match last.checked_sub(offset) {
                    Some(before) if before > 0 => Mapped {
                        at: Some(plain(first)),
                        len: before,
                    },
                    _ => Mapped {
                        at: Some(at + (offset - last)),
                        len: left,
                    },
                }
            }
            Layout::Chunks { bits, .. } => {
                let within = offset & ((1 << bits) - 1);
                let address = self.chunk(inode, offset >> bits)?;
                Mapped {
                    at: address.map(|address| u64::from(address) * block + within),
                    len: left.min((1 << bits) - within),
                }
            }
        };
        Ok(Some(mapped))
    }

    /// The address in a table of chunks.
    fn chunk(&self, inode: &Inode, index: u64) -> Result<Option<u32>, ReadError> {
        let Layout::Chunks { table, indexes, .. } = inode.layout else {
            return Ok(None);
        };
        let entry: u64 = if indexes { 8 } else { 4 };
        let at = index
            .checked_mul(entry)
            .and_then(|index| index.checked_add(table));
        let at = at.ok_or(damaged("a table of chunks goes past the end", inode.nid))?;
        let mut address = [0; 4];
        if indexes {
            let mut head = [0; 4];
            self.read_at(&mut head, at, inode.nid)?;
            let [_, _, device @ ..] = head;
            if device != [0, 0] {
                return Err(ReadError::Unsupported("further devices".to_owned()));
            }
            self.read_at(&mut address, at + 4, inode.nid)?;
        } else {
            self.read_at(&mut address, at, inode.nid)?;
        }
        let address = u32::from_le_bytes(address);
        Ok((address != NOWHERE).then_some(address))
    }

    /// Reads data into `buf`: until it is full, or the data ends. Returns how many bytes that were.
    ///
    /// # Errors
    ///
    /// The inode is damaged, or its data is not there.
    pub fn read(&self, inode: &Inode, offset: u64, buf: &mut [u8]) -> Result<usize, ReadError> {
        let mut done = 0;
        while let Some(rest) = buf.get_mut(done..).filter(|rest| !rest.is_empty()) {
            let Some(mapped) = self.map(inode, offset.saturating_add(done as u64))? else {
                break;
            };
            let len = usize::try_from(mapped.len)
                .unwrap_or(usize::MAX)
                .min(rest.len());
            let (now, _) = rest.split_at_mut(len);
            match mapped.at {
                Some(at) => self.read_at(now, at, inode.nid)?,
                None => now.fill(0),
            }
            done += len;
        }
        Ok(done)
    }
}
