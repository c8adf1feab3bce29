//! Layers, put over one another (OCI image specification, "Applying Changesets").
//!
//! The changes of a layer are made one after the other. What makes this more than a loop is that a
//! whiteout is about *lower* layers alone: what the layer itself brings stays, whether it comes before the
//! whiteout or after it. So while a layer with whiteouts is applied, the names that it has touched are
//! remembered, those of the directories above its entries too, and a whiteout spares them: a directory
//! that was touched loses only those of its children that were not.
//!
//! Where a path leads through a symbolic link, the link is followed within the tree, and directories that
//! are missing are made, as an engine does that unpacks in a changed root. The last name of a path is
//! never followed: an entry replaces a link. The exception is the directory of an opaque marker, which is
//! the marker's parent.

use std::collections::{HashMap, HashSet};

use super::{FileContent, InodeId, Last, ResolveError, Tree, TreeError, plain_directory};
use crate::layer::{Action, Change, Layer, split};
use crate::limits::Limits;
use crate::node::{Content, Kind, Node};
use crate::shown::shown;

impl Tree {
    /// The tree of an image with these layers, the lowest first.
    pub fn merge<'a>(
        layers: impl IntoIterator<Item = &'a Layer>,
        limits: &Limits,
    ) -> Result<Self, TreeError> {
        let mut tree = Self::default();
        for (index, layer) in layers.into_iter().enumerate() {
            tree.apply(layer, index, limits)?;
        }
        Ok(tree.compact())
    }

    /// Puts a layer over the tree. `index` is its place in the image, which its files' contents then name.
    /// After an error the tree is somewhere in between.
    pub fn apply(&mut self, layer: &Layer, index: usize, limits: &Limits) -> Result<(), TreeError> {
        let hides = |change: &Change| matches!(change.action, Action::Whiteout | Action::Opaque);
        let mut merge = Merge {
            tree: self,
            layer: index,
            limits,
            touched: layer.changes.iter().any(hides).then(HashMap::new),
            hidden: HashSet::new(),
        };
        layer
            .changes
            .iter()
            .try_for_each(|change| merge.change(change))
    }
}

/// A layer that is being applied.
struct Merge<'a> {
    tree: &'a mut Tree,
    layer: usize,
    limits: &'a Limits,
    /// Names that the layer itself has brought or gone through. Only kept for a layer that hides something.
    touched: Option<HashMap<InodeId, HashSet<Vec<u8>>>>,
    /// Directories in which there is nothing of lower layers any more. What the layer puts into them is
    /// touched, so there is never anything to do again, however often a layer says it.
    hidden: HashSet<InodeId>,
}

impl Merge<'_> {
    fn change(&mut self, change: &Change) -> Result<(), TreeError> {
        let path = &change.path;
        match &change.action {
            Action::Put(node) => self.put(path, node),
            Action::Link { target } => self.link(path, target),
            Action::Whiteout => self.whiteout(path),
            Action::Opaque => {
                if let Some(directory) = self.directory(path)? {
                    self.hide_children(directory);
                }
                Ok(())
            }
        }
    }

    fn put(&mut self, path: &[u8], node: &Node<Content>) -> Result<(), TreeError> {
        let Some((above, name)) = split(path) else {
            return match node.kind {
                Kind::Directory => {
                    let root = self.tree.root();
                    self.tree.set_attributes(root, node.attributes.clone());
                    Ok(())
                }
                _ => Err(TreeError::RootReplaced),
            };
        };
        let parent = self.parent(path, above, name)?;
        if let (Kind::Directory, Some(id)) = (&node.kind, self.tree.child(parent, name))
            && self.tree.inode(id).is_directory()
        {
            self.tree.set_attributes(id, node.attributes.clone());
            return Ok(());
        }
        self.tree.insert(parent, name, self.placed(node))?;
        self.count()
    }

    fn link(&mut self, path: &[u8], target: &[u8]) -> Result<(), TreeError> {
        let (above, name) = split(path).ok_or(TreeError::RootReplaced)?;
        // First of all: making room for the link may remove what it links to.
        let place = self.tree.place(target, Last::Keep);
        let place = place.map_err(|source| unreachable(target, source))?;
        let id = match place.id(self.tree) {
            Some(id) if self.tree.inode(id).is_directory() => {
                return Err(TreeError::LinkToDirectory {
                    path: shown(path),
                    target: shown(target),
                });
            }
            Some(id) => id,
            None => {
                return Err(TreeError::LinkToNothing {
                    path: shown(path),
                    target: shown(target),
                });
            }
        };
        let parent = self.parent(path, above, name)?;
        self.tree.link(parent, name, id)?;
        self.count()
    }

    fn whiteout(&mut self, path: &[u8]) -> Result<(), TreeError> {
        let (above, name) = split(path).ok_or(TreeError::RootReplaced)?;
        let Some(parent) = self.directory(above)? else {
            return Ok(());
        };
        match self.tree.child(parent, name) {
            Some(id) if self.is_touched(parent, name) => self.hide_children(id),
            Some(_) => {
                self.tree.remove(parent, name);
            }
            None => {}
        }
        Ok(())
    }

    /// Removes what lower layers have in a directory, and in those of its directories that stay.
    fn hide_children(&mut self, directory: InodeId) {
        let mut todo = vec![directory];
        while let Some(directory) = todo.pop() {
            if !self.hidden.insert(directory) {
                continue;
            }
            let children = &self.tree.inode(directory).children;
            let names: Vec<_> = children
                .iter()
                .map(|(name, id)| (name.clone(), *id))
                .collect();
            for (name, id) in names {
                if self.is_touched(directory, &name) {
                    todo.push(id);
                } else {
                    self.tree.remove(directory, &name);
                }
            }
        }
    }

    /// The directory at this path, links followed, if there is one.
    fn directory(&self, path: &[u8]) -> Result<Option<InodeId>, TreeError> {
        match self.tree.place(path, Last::Follow) {
            Ok(place) => {
                let id = place.id(self.tree);
                Ok(id.filter(|id| self.tree.inode(*id).is_directory()))
            }
            Err(ResolveError::NotADirectory) => Ok(None),
            Err(source) => Err(unreachable(path, source)),
        }
    }

    /// The directory that `name` is to be put into, made if it is not there. All names down to this one are
    /// touched then.
    fn parent(&mut self, path: &[u8], above: &[u8], name: &[u8]) -> Result<InodeId, TreeError> {
        let place = self.tree.place(above, Last::Follow);
        let place = place.map_err(|source| unreachable(path, source))?;
        if place.last.is_some() {
            return Err(TreeError::NotADirectory(shown(path)));
        }
        let depth = place.directories.len() + place.missing.len() + 1;
        if depth > self.limits.depth {
            return Err(TreeError::TooDeep {
                path: shown(path),
                limit: self.limits.depth,
            });
        }
        let there = place.directories.iter().map(|(name, _)| *name);
        let names = there.chain(place.missing.iter().copied());
        let length: usize = names.map(|name| name.len() + 1).sum();
        if length + name.len() > self.limits.path_bytes {
            return Err(TreeError::PathTooLong {
                path: shown(path),
                limit: self.limits.path_bytes,
            });
        }

        if let Some(touched) = &mut self.touched {
            let mut directory = self.tree.root();
            for (name, id) in &place.directories {
                touch(touched, directory, name);
                directory = *id;
            }
        }
        let mut directory = place.directory(self.tree);
        let missing: Vec<Vec<u8>> = place.missing.iter().map(|name| name.to_vec()).collect();
        for missing in missing {
            let made = Node {
                attributes: plain_directory(),
                kind: Kind::Directory,
            };
            let id = self.tree.insert(directory, &missing, made)?;
            self.count()?;
            if let Some(touched) = &mut self.touched {
                touch(touched, directory, &missing);
            }
            directory = id;
        }
        if let Some(touched) = &mut self.touched {
            touch(touched, directory, name);
        }
        Ok(directory)
    }

    fn is_touched(&self, directory: InodeId, name: &[u8]) -> bool {
        let names = self.touched.as_ref().and_then(|all| all.get(&directory));
        names.is_some_and(|names| names.contains(name))
    }

    fn count(&self) -> Result<(), TreeError> {
        let Limits {
            tree_entries,
            tree_bytes,
            ..
        } = *self.limits;
        if self.tree.names > tree_entries {
            Err(TreeError::TooManyEntries(tree_entries))
        } else if self.tree.cost > tree_bytes {
            Err(TreeError::TooLarge(tree_bytes))
        } else {
            Ok(())
        }
    }

    /// The node of a layer as one of the tree.
    fn placed(&self, node: &Node<Content>) -> Node<FileContent> {
        Node {
            attributes: node.attributes.clone(),
            kind: node.kind.map(|content| FileContent {
                layer: self.layer,
                content: content.clone(),
            }),
        }
    }
}

fn touch(touched: &mut HashMap<InodeId, HashSet<Vec<u8>>>, directory: InodeId, name: &[u8]) {
    let names = touched.entry(directory).or_default();
    if !names.contains(name) {
        names.insert(name.to_vec());
    }
}

fn unreachable(path: &[u8], source: ResolveError) -> TreeError {
    TreeError::Unreachable {
        path: shown(path),
        source,
    }
}
