//! The tree of an image: its layers put over one another.

use std::collections::BTreeMap;

use crate::node::{Content, Node};

/// A file's bytes, and the layer whose data blob has them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FileContent {
    /// The layer's place in the image, from 0, the lowest.
    pub layer: usize,
    /// Where in its data blob.
    pub content: Content,
}

/// A tree. Inodes are numbered; a number has several names where there are hard links.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tree {
    inodes: Vec<Inode>,
}

/// An inode's number in its [`Tree`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct InodeId(usize);

/// What a number stands for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Inode {
    /// What it is.
    pub node: Node<FileContent>,
    /// What is in it, if it is a directory.
    pub children: BTreeMap<Vec<u8>, InodeId>,
}
