//! What a changed tree has that the tree before did not have, as changes of a layer.
//!
//! Both trees are gone through side by side. A patched tree keeps the numbers of the tree it is a copy of, so what has the
//! same number and says the same was not touched.

use std::collections::HashMap;

use crate::layer::{Action, Change};
use crate::node::{Content, Node};
use crate::tree::{FileContent, InodeId, Tree};

/// The changes from `before` to `after`, whose new files are in the data blob of layer `index`.
pub(super) fn changes(before: &Tree, after: &Tree, index: usize) -> Vec<Change> {
    let mut diff = Diff {
        before,
        after,
        index,
        path: Vec::new(),
        first_names: HashMap::new(),
        changes: Vec::new(),
    };
    diff.directory(Some(before.root()), after.root());
    diff.changes
}

struct Diff<'a> {
    before: &'a Tree,
    after: &'a Tree,
    index: usize,
    path: Vec<u8>,
    /// New files with several names, by number: the name that has the file itself. The others link to it.
    first_names: HashMap<InodeId, Vec<u8>>,
    changes: Vec<Change>,
}

impl Diff<'_> {
    /// What is in a directory, and the directory itself. As deep as the tree is, which has a limit.
    fn directory(&mut self, old: Option<InodeId>, new: InodeId) {
        let node = &self.after.inode(new).node;
        if old.is_none_or(|old| self.before.inode(old).node.attributes != node.attributes) {
            self.put(node);
        }
        let names = &self.after.inode(new).children;
        let old = old.map(|old| &self.before.inode(old).children);
        for name in old.into_iter().flat_map(|old| old.keys()) {
            if !names.contains_key(name) {
                self.at(name, |diff| diff.add(Action::Whiteout));
            }
        }
        for (name, id) in names {
            let old = old.and_then(|old| old.get(name)).copied();
            self.at(name, |diff| diff.entry(old, *id));
        }
    }

    fn entry(&mut self, old: Option<InodeId>, new: InodeId) {
        let inode = self.after.inode(new);
        if inode.is_directory() {
            self.directory(
                old.filter(|old| self.before.inode(*old).is_directory()),
                new,
            );
        } else if old != Some(new) || self.before.inode(new).node != inode.node {
            match self.first_names.get(&new) {
                Some(first) => {
                    let target = first.clone();
                    self.add(Action::Link { target });
                }
                None => {
                    if self.after.links(new) > 1 {
                        self.first_names.insert(new, self.path.clone());
                    }
                    self.put(&inode.node);
                }
            }
        }
    }

    fn at(&mut self, name: &[u8], what: impl FnOnce(&mut Self)) {
        let length = self.path.len();
        if length > 0 {
            self.path.push(b'/');
        }
        self.path.extend_from_slice(name);
        what(self);
        self.path.truncate(length);
    }

    fn add(&mut self, action: Action) {
        let path = self.path.clone();
        self.changes.push(Change { path, action });
    }

    fn put(&mut self, node: &Node<FileContent>) {
        self.add(Action::Put(Node {
            attributes: node.attributes.clone(),
            kind: node.kind.map(|file| self.content(file)),
        }));
    }

    fn content(&self, file: &FileContent) -> Content {
        // Patches give files of lower layers no new places.
        debug_assert_eq!(file.layer, self.index);
        file.content.clone()
    }
}
