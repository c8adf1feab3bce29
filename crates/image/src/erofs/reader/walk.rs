//! All that is on a disk, without recursion and without walking in circles.

use std::collections::HashSet;

use super::{Entries, FileType, Inode, ReadAt, ReadError, Reader, damaged};
use crate::limits::Limits;

/// Goes through a disk; see [`Reader::walk`]. Its items are paths and what is there. After an error there
/// are no more.
#[derive(Debug)]
pub struct Walk<'r, S> {
    reader: &'r Reader<S>,
    limits: Limits,
    /// The directories that are gone through, from the root down, and how long the path of each is.
    levels: Vec<(usize, Entries<'r, S>)>,
    path: Vec<u8>,
    /// Directories that were met. One that is met again would have two names, or be in itself.
    met: HashSet<u64>,
    /// Names that were met.
    names: u64,
    ended: bool,
}

impl<S: ReadAt> Reader<S> {
    /// All names, with the root (an empty path) first: each directory before what is in it, names in the
    /// order of their bytes. That names say the kind of their inodes, and `..` the directory above, is
    /// checked on the way. Of `limits`, those of trees and paths count; memory is that of a block
    /// for each directory on the way down, and a number for each directory met.
    pub fn walk(&self, limits: &Limits) -> Walk<'_, S> {
        Walk {
            reader: self,
            limits: *limits,
            levels: Vec::new(),
            path: Vec::new(),
            met: HashSet::new(),
            names: 0,
            ended: false,
        }
    }
}

/// What a step of a walk has found.
pub(super) struct Step {
    /// In which directory; the root is in itself.
    pub(super) parent: u64,
    pub(super) inode: Inode,
}

impl<S: ReadAt> Walk<'_, S> {
    /// The next step, whose path is [`Walk::path`] then.
    pub(super) fn step(&mut self) -> Result<Option<Step>, ReadError> {
        if self.ended {
            return Ok(None);
        }
        self.ended = true;
        let step = match self.names {
            0 => {
                let inode = self.reader.root()?;
                let parent = inode.nid;
                Some(Step { parent, inode })
            }
            _ => self.name()?,
        };
        if let Some(step) = &step {
            self.names += 1;
            limit(
                self.names,
                self.limits.tree_entries,
                "files and directories",
            )?;
            self.enter(step)?;
            self.ended = false;
        }
        Ok(step)
    }

    /// The next name in the innermost directory that has one.
    fn name(&mut self) -> Result<Option<Step>, ReadError> {
        while let Some((length, entries)) = self.levels.last_mut() {
            self.path.truncate(*length);
            let Some(entry) = entries.next() else {
                self.levels.pop();
                continue;
            };
            let (parent, entry) = (entries.nid(), entry?);
            if !self.path.is_empty() {
                self.path.push(b'/');
            }
            self.path.extend_from_slice(&entry.name);
            limit(
                self.path.len() as u64,
                self.limits.path_bytes as u64,
                "bytes in a path",
            )?;
            let inode = self.reader.inode(entry.nid)?;
            if inode.kind != entry.kind {
                return Err(damaged(
                    "a name says another kind than the inode",
                    inode.nid,
                ));
            }
            return Ok(Some(Step { parent, inode }));
        }
        Ok(None)
    }

    fn enter(&mut self, step: &Step) -> Result<(), ReadError> {
        let inode = &step.inode;
        if inode.kind != FileType::Directory {
            return Ok(());
        }
        if !self.met.insert(inode.nid) {
            return Err(damaged("a directory has two names", inode.nid));
        }
        limit(
            self.levels.len() as u64,
            self.limits.depth as u64,
            "directories in one another",
        )?;
        let entries = Entries::new(self.reader, inode, Some(step.parent))?;
        self.levels.push((self.path.len(), entries));
        Ok(())
    }
}

fn limit(number: u64, limit: u64, what: &'static str) -> Result<(), ReadError> {
    match number > limit {
        true => Err(ReadError::Limit { what, limit }),
        false => Ok(()),
    }
}

impl<S: ReadAt> Iterator for Walk<'_, S> {
    type Item = Result<(Vec<u8>, Inode), ReadError>;

    fn next(&mut self) -> Option<Self::Item> {
        let step = self.step().transpose()?;
        Some(step.map(|step| (self.path.clone(), step.inode)))
    }
}
