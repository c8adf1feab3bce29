//! A check of everything: what the kernel would find out piece by piece, while a sandbox runs.

use std::collections::HashMap;

use super::{FileType, Inode, Mapped, ReadAt, ReadError, Reader, damaged};
use crate::erofs::MAX_METADATA;
use crate::limits::Limits;

/// What is on a disk that is in order.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Checked {
    /// Names, the root counted as one.
    pub names: u64,
    /// Files, directories and others.
    pub inodes: u64,
    /// Bytes of all files, each counted once.
    pub bytes: u64,
}

/// The most stretches of files that are looked at. Each address of a chunk is one, and the writer's default
/// limit has room for no more.
const MAX_STRETCHES: u64 = MAX_METADATA / 4;

/// How many names an inode should have, and how many were met.
#[derive(Clone, Copy, Debug)]
struct Links {
    should: u32,
    met: u32,
}

impl<S: ReadAt> Reader<S> {
    /// Checks all inodes that have a name: directories, links and attributes are read, link counts counted,
    /// and addresses of files compared with the size of the disk that the superblock says. What is in files is not
    /// looked at.
    ///
    /// Memory is that of a [walk](Reader::walk), and some tens of bytes for each inode.
    ///
    /// # Errors
    ///
    /// The first that is found.
    pub fn check(&self, limits: &Limits) -> Result<Checked, ReadError> {
        let mut checked = Checked::default();
        let mut all: HashMap<u64, Links> = HashMap::new();
        let mut stretches = 0;
        let mut walk = self.walk(limits);
        while let Some(step) = walk.step()? {
            checked.names += 1;
            let inode = &step.inode;
            let directory = inode.kind == FileType::Directory;
            if directory && let Some(above) = all.get_mut(&step.parent) {
                above.met = above.met.saturating_add(1);
            }
            let new = Links {
                should: inode.links,
                // A directory is named by the one above it, or as the root by itself, and by its own `.`.
                met: if directory { 2 } else { 1 },
            };
            let known = all
                .entry(inode.nid)
                .and_modify(|links| links.met = links.met.saturating_add(1));
            if let std::collections::hash_map::Entry::Vacant(vacant) = known {
                vacant.insert(new);
                self.node(inode)?;
                self.check_data(inode, &mut stretches)?;
                if inode.kind == FileType::File {
                    checked.bytes = checked.bytes.saturating_add(inode.size);
                }
            }
        }
        for (nid, links) in &all {
            if links.should != links.met {
                return Err(damaged(
                    "an inode has another number of names than it says",
                    *nid,
                ));
            }
        }
        checked.inodes = all.len() as u64;
        match checked.inodes == self.raw.inodes {
            true => Ok(checked),
            false => Err(damaged(
                "there are more or fewer inodes than the superblock says",
                0,
            )),
        }
    }

    /// Checks where a file's bytes are, and adds to the number of `stretches` that they were in.
    fn check_data(&self, inode: &Inode, stretches: &mut u64) -> Result<(), ReadError> {
        if inode.kind != FileType::File {
            return Ok(());
        }
        let end = u64::from(self.raw.blocks) * self.block();
        let mut offset = 0;
        while let Some(Mapped { at, len }) = self.map(inode, offset)? {
            let beyond = |at: u64| at.checked_add(len).is_none_or(|to| to > end);
            if at.is_some_and(beyond) {
                return Err(damaged("a file is past the end of the disk", inode.nid));
            }
            offset += len;
            *stretches += 1;
            if *stretches > MAX_STRETCHES {
                let (what, limit) = ("stretches of files", MAX_STRETCHES);
                return Err(ReadError::Limit { what, limit });
            }
        }
        Ok(())
    }
}
