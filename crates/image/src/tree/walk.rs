//! All names of a tree, in order.

use std::collections::btree_map::Iter;

use super::{InodeId, Tree};

/// Goes through a [`Tree`]; see [`Tree::walk`]. Its items are paths and what is there.
#[derive(Debug)]
pub struct Walk<'a> {
    tree: &'a Tree,
    /// The directories that are gone through, from the root down, and how long the path of each is.
    levels: Vec<(usize, Iter<'a, Vec<u8>, InodeId>)>,
    path: Vec<u8>,
    begun: bool,
}

impl<'a> Walk<'a> {
    pub(super) fn new(tree: &'a Tree) -> Self {
        Self {
            tree,
            levels: Vec::new(),
            path: Vec::new(),
            begun: false,
        }
    }

    fn enter(&mut self, id: InodeId) {
        let inode = self.tree.inode(id);
        if inode.is_directory() {
            self.levels.push((self.path.len(), inode.children.iter()));
        }
    }
}

impl Iterator for Walk<'_> {
    type Item = (Vec<u8>, InodeId);

    fn next(&mut self) -> Option<Self::Item> {
        if !self.begun {
            self.begun = true;
            self.enter(self.tree.root());
            return Some((Vec::new(), self.tree.root()));
        }
        loop {
            let (length, names) = self.levels.last_mut()?;
            self.path.truncate(*length);
            let Some((name, id)) = names.next() else {
                self.levels.pop();
                continue;
            };
            if !self.path.is_empty() {
                self.path.push(b'/');
            }
            self.path.extend_from_slice(name);
            self.enter(*id);
            return Some((self.path.clone(), *id));
        }
    }
}
