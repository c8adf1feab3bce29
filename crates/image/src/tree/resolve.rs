//! Paths, followed as a program in the guest would follow them.
//!
//! Symbolic links are followed within the tree: an absolute one begins at its root, and `..` at the root
//! stays there, so no path leads to a file of the host. Real images need this when they are put together:
//! where `/lib` is a link to `usr/lib`, layers bring files as `lib/...` all the same.

use super::{InodeId, Tree};
use crate::node::Kind;

/// The most symbolic links on one way, as in the kernel.
const MAX_LINKS: usize = 40;
/// The most names on one way, those in links counted. The kernel has no such cap; without one, links of 4095 bytes that
/// lead to and fro would make each lookup cost what a hundred thousand do.
const MAX_STEPS: usize = 1024;

/// A way that cannot be followed to its end.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ResolveError {
    /// Something on the way is neither a directory nor a link to one.
    #[error("a part of the path is not a directory")]
    NotADirectory,
    /// More links than the kernel would follow, most often a loop of them, or far too many names in them.
    #[error("there are too many symbolic links on the way")]
    TooManyLinks,
}

/// Whether a symbolic link at the very end is followed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Last {
    Follow,
    Keep,
}

/// Where a way ends. Without `missing` and `last` it is the lowest directory of `directories`.
#[derive(Debug)]
pub(crate) struct Place<'a> {
    /// The directories on the way, from below the root down.
    pub(crate) directories: Vec<(&'a [u8], InodeId)>,
    /// Names that are not there.
    pub(crate) missing: Vec<&'a [u8]>,
    /// What is there and no directory.
    pub(crate) last: Option<(&'a [u8], InodeId)>,
}

impl Place<'_> {
    /// The last directory on the way.
    pub(crate) fn directory(&self, tree: &Tree) -> InodeId {
        self.directories.last().map_or(tree.root(), |(_, id)| *id)
    }

    /// What is at the end, if anything is.
    pub(crate) fn id(&self, tree: &Tree) -> Option<InodeId> {
        match self.last {
            Some((_, id)) => Some(id),
            None => self.missing.is_empty().then(|| self.directory(tree)),
        }
    }

    /// The names on the way, links followed: of directories, of what is missing, and of what is at the end.
    pub(crate) fn names(&self) -> Vec<&[u8]> {
        let there = self.directories.iter().map(|(name, _)| *name);
        let last = self.last.iter().map(|(name, _)| *name);
        let missing = self.missing.iter().copied();
        there.chain(missing).chain(last).collect()
    }
}

impl Tree {
    /// What a program in the guest would find at `path`, from the root: symbolic links are followed, the
    /// last one too. `None` if nothing is there.
    pub fn resolve(&self, path: &[u8]) -> Result<Option<InodeId>, ResolveError> {
        Ok(self.place(path, Last::Follow)?.id(self))
    }

    /// Follows `path` from the root. What follows after a name that is not there is taken as it is
    /// written: nothing there could be a link.
    pub(crate) fn place<'a>(
        &'a self,
        path: &'a [u8],
        last: Last,
    ) -> Result<Place<'a>, ResolveError> {
        let mut place = Place {
            directories: Vec::new(),
            missing: Vec::new(),
            last: None,
        };
        let mut todo: Vec<&[u8]> = names(path);
        let (mut steps, mut links) = (0, 0);
        while let Some(name) = todo.pop() {
            steps += 1;
            if steps > MAX_STEPS {
                return Err(ResolveError::TooManyLinks);
            }
            if place.last.is_some() {
                return Err(ResolveError::NotADirectory);
            }
            match name {
                b"." => continue,
                b".." => {
                    if place.missing.pop().is_none() {
                        place.directories.pop();
                    }
                    continue;
                }
                _ => {}
            }
            let directory = self.inode(place.directory(self));
            let id = match directory.children.get(name) {
                Some(id) if place.missing.is_empty() => *id,
                _ => {
                    place.missing.push(name);
                    continue;
                }
            };
            match &self.inode(id).node.kind {
                Kind::Directory => place.directories.push((name, id)),
                Kind::Symlink(target) if last == Last::Follow || !todo.is_empty() => {
                    links += 1;
                    if links > MAX_LINKS {
                        return Err(ResolveError::TooManyLinks);
                    }
                    if target.first() == Some(&b'/') {
                        place.directories.clear();
                    }
                    todo.extend(names(target));
                }
                _ => place.last = Some((name, id)),
            }
        }
        Ok(place)
    }
}

/// The names of a path, the last one first.
fn names(path: &[u8]) -> Vec<&[u8]> {
    let names = path.rsplit(|byte| *byte == b'/');
    names.filter(|name| !name.is_empty()).collect()
}
