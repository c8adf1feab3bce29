//! The tree of an image: its layers put over one another.
//!
//! Inodes are in one table and named by their place in it; directories hold names and such places. So a
//! file with several names is one inode, and a layer that gives a file of another layer one more name
//! needs no copy.
//!
//! `resolve` follows paths as a program in the guest would, `merge` puts layers over one another, `walk`
//! goes through all names.

mod error;
mod merge;
mod resolve;
#[cfg(test)]
mod tests;
mod walk;

use std::collections::BTreeMap;

pub use error::TreeError;
pub(crate) use resolve::Last;
pub use resolve::ResolveError;
pub use walk::Walk;

use crate::node::{Attributes, Content, Kind, MAX_NAME, Node};
use crate::shown::shown;

/// A file's bytes, and the layer whose data blob has them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FileContent {
    /// The layer's place in the image, from 0, the lowest.
    pub layer: usize,
    /// Where in its data blob.
    pub content: Content,
}

/// A tree. Inodes are numbered; a number has several names where there are hard links.
///
/// Two trees are equal if a program that looks at all names finds no difference, whatever the numbers.
#[derive(Clone, Debug)]
pub struct Tree {
    inodes: Vec<Inode>,
    /// How many names each inode has; none: its place in the table is free.
    links: Vec<u32>,
    free: Vec<InodeId>,
    /// Names in all directories, and the root.
    names: u64,
    /// About what all of it takes in memory, in bytes.
    cost: u64,
}

/// An inode's number in its [`Tree`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct InodeId(usize);

impl InodeId {
    /// Its place in tables that have an entry for each of [`Tree::slots`].
    pub fn index(self) -> usize {
        self.0
    }
}

/// What a number stands for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Inode {
    /// What it is.
    pub node: Node<FileContent>,
    /// What is in it, if it is a directory.
    pub children: BTreeMap<Vec<u8>, InodeId>,
}

impl Inode {
    fn new(node: Node<FileContent>) -> Self {
        Self {
            node,
            children: BTreeMap::new(),
        }
    }

    /// Whether it is a directory.
    pub fn is_directory(&self) -> bool {
        matches!(self.node.kind, Kind::Directory)
    }
}

/// What a directory has that no layer describes: root's, mode 0755, of the year 1970.
pub(crate) fn plain_directory() -> Attributes {
    Attributes {
        mode: 0o755,
        ..Attributes::default()
    }
}

impl Default for Tree {
    /// Only a root, with mode 0755.
    fn default() -> Self {
        Self::new(plain_directory())
    }
}

fn cost(node: &Node<FileContent>) -> u64 {
    node.cost(|file| file.content.cost())
}

/// What a name takes beside the inode that it is of.
fn name_cost(name: &[u8]) -> u64 {
    name.len() as u64 + 64
}

impl Tree {
    /// A tree that is only its root.
    pub fn new(root: Attributes) -> Self {
        let root = Node {
            attributes: root,
            kind: Kind::Directory,
        };
        Self {
            cost: cost(&root),
            inodes: vec![Inode::new(root)],
            links: vec![1],
            free: Vec::new(),
            names: 1,
        }
    }

    /// The root directory.
    pub fn root(&self) -> InodeId {
        InodeId(0)
    }

    /// What is behind a number of this tree.
    ///
    /// # Panics
    ///
    /// With a number of another tree.
    pub fn inode(&self, id: InodeId) -> &Inode {
        &self.inodes[id.0]
    }

    /// How many names it has: 1 for a directory (the root counts as having one), 0 once it is removed.
    pub fn links(&self, id: InodeId) -> u32 {
        self.links.get(id.0).copied().unwrap_or(0)
    }

    /// All inodes, in the order of their numbers: of a merged tree, the order of [`Tree::walk`].
    pub fn inodes(&self) -> impl Iterator<Item = (InodeId, &Inode)> {
        let all = self.inodes.iter().zip(&self.links).enumerate();
        all.filter(|(_, (_, links))| **links > 0)
            .map(|(index, (inode, _))| (InodeId(index), inode))
    }

    /// A number above the [index](InodeId::index) of each inode. In a merged tree there are as many inodes.
    pub fn slots(&self) -> usize {
        self.inodes.len()
    }

    /// How many names there are, the root counted as one.
    pub fn names(&self) -> u64 {
        self.names
    }

    /// All names, with the root (an empty path) first: each directory before what is in it, names in the
    /// order of their bytes.
    pub fn walk(&self) -> Walk<'_> {
        Walk::new(self)
    }

    /// What has this path (names with slashes between them). Symbolic links are not followed.
    pub fn lookup(&self, path: &[u8]) -> Option<InodeId> {
        let names = path.split(|byte| *byte == b'/');
        let mut names = names.filter(|name| !name.is_empty());
        names.try_fold(self.root(), |directory, name| self.child(directory, name))
    }

    /// What has this name in a directory.
    pub fn child(&self, directory: InodeId, name: &[u8]) -> Option<InodeId> {
        self.inode(directory).children.get(name).copied()
    }

    /// Puts `node` into a directory, in place of what has that name there.
    pub fn insert(
        &mut self,
        directory: InodeId,
        name: &[u8],
        node: Node<FileContent>,
    ) -> Result<InodeId, TreeError> {
        self.check_name(directory, name)?;
        self.cost += cost(&node);
        let id = match self.free.pop() {
            Some(id) => {
                self.inodes[id.0] = Inode::new(node);
                id
            }
            None => {
                self.inodes.push(Inode::new(node));
                self.links.push(0);
                InodeId(self.inodes.len() - 1)
            }
        };
        self.attach(directory, name, id);
        Ok(id)
    }

    /// Gives what is no directory one more name, in place of what has that name now.
    pub fn link(
        &mut self,
        directory: InodeId,
        name: &[u8],
        target: InodeId,
    ) -> Result<(), TreeError> {
        self.check_name(directory, name)?;
        if self.inode(target).is_directory() {
            let mut names = self.walk();
            let target = names.find(|(_, id)| *id == target).map(|(path, _)| path);
            return Err(TreeError::LinkToDirectory {
                path: shown(name),
                target: shown(&target.unwrap_or_default()),
            });
        }
        self.attach(directory, name, target);
        Ok(())
    }

    /// Takes a name away, and with a directory all that is in it. Whether there was such a name.
    pub fn remove(&mut self, directory: InodeId, name: &[u8]) -> bool {
        let removed = self.inodes[directory.0].children.remove(name);
        if let Some(id) = removed {
            self.names -= 1;
            self.cost -= name_cost(name);
            self.release(id);
        }
        removed.is_some()
    }

    /// Changes the attributes of what is there.
    pub fn set_attributes(&mut self, id: InodeId, attributes: Attributes) {
        let node = &mut self.inodes[id.0].node;
        self.cost -= cost(node);
        node.attributes = attributes;
        self.cost += cost(node);
    }

    fn check_name(&self, directory: InodeId, name: &[u8]) -> Result<(), TreeError> {
        let bad = name.is_empty()
            || name.len() > MAX_NAME
            || matches!(name, b"." | b"..")
            || name.iter().any(|byte| matches!(byte, 0 | b'/'));
        if bad {
            return Err(TreeError::BadName(shown(name)));
        }
        match self.inode(directory).is_directory() {
            true => Ok(()),
            false => Err(TreeError::NotADirectory(shown(name))),
        }
    }

    fn attach(&mut self, directory: InodeId, name: &[u8], id: InodeId) {
        // Before the old one goes: it may be in the way of its own last name.
        self.links[id.0] += 1;
        let old = self.inodes[directory.0].children.insert(name.to_vec(), id);
        match old {
            Some(old) => self.release(old),
            None => {
                self.names += 1;
                self.cost += name_cost(name);
            }
        }
    }

    /// An inode has a name less; what has none left is freed, and what is in it has a name less in turn.
    fn release(&mut self, id: InodeId) {
        let mut ids = vec![id];
        while let Some(id) = ids.pop() {
            self.links[id.0] -= 1;
            if self.links[id.0] == 0 {
                let freed = Inode::new(Node {
                    attributes: Attributes::default(),
                    kind: Kind::Fifo,
                });
                let old = std::mem::replace(&mut self.inodes[id.0], freed);
                self.cost -= cost(&old.node);
                self.names -= old.children.len() as u64;
                self.cost -= old.children.keys().map(|name| name_cost(name)).sum::<u64>();
                ids.extend(old.children.into_values());
                self.free.push(id);
            }
        }
    }

    /// Numbers the inodes in the order of [`Tree::walk`], without gaps.
    pub(crate) fn compact(self) -> Self {
        let mut order = Vec::with_capacity(self.inodes.len() - self.free.len());
        let mut numbers = vec![None; self.inodes.len()];
        for (_, id) in self.walk() {
            if numbers[id.0].is_none() {
                numbers[id.0] = Some(InodeId(order.len()));
                order.push(id);
            }
        }
        let mut old: Vec<_> = self.inodes.into_iter().map(Some).collect();
        let mut inodes = Vec::with_capacity(order.len());
        let mut links = Vec::with_capacity(order.len());
        for id in order {
            let Some(mut inode) = old[id.0].take() else {
                continue;
            };
            for child in inode.children.values_mut() {
                if let Some(number) = numbers[child.0] {
                    *child = number;
                }
            }
            inodes.push(inode);
            links.push(self.links[id.0]);
        }
        Self {
            inodes,
            links,
            free: Vec::new(),
            names: self.names,
            cost: self.cost,
        }
    }
}

impl PartialEq for Tree {
    fn eq(&self, other: &Self) -> bool {
        let mut ours = vec![None; self.slots()];
        let mut theirs = vec![None; other.slots()];
        self.names == other.names
            && self.walk().zip(other.walk()).all(|(one, two)| {
                let (our, their) = (one.1, two.1);
                // Both numbers are new, or both were met before, as one another's counterpart.
                let same = *ours[our.0].get_or_insert(their) == their
                    && *theirs[their.0].get_or_insert(our) == our;
                same && one.0 == two.0 && self.inode(our).node == other.inode(their).node
            })
    }
}

impl Eq for Tree {}
