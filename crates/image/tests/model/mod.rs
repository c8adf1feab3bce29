//! An image as a plain list of paths, and what a layer does to it, said as simply as the specification does.

use std::collections::BTreeMap;

use msb_image::node::Attributes;
use proptest::sample::Index;

/// What is at a path.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Entry {
    pub(crate) attributes: Attributes,
    pub(crate) what: What,
}

#[derive(Clone, Debug, PartialEq)]
pub(crate) enum What {
    File(Vec<u8>),
    Directory,
    Symlink(String),
    Fifo,
}

/// All paths but the root's, and for each a number that hard links share.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Model {
    paths: BTreeMap<String, (Entry, usize)>,
    next: usize,
}

impl Model {
    /// Hides what is hidden, and puts the entries over the rest.
    pub(crate) fn apply(
        &mut self,
        entries: &BTreeMap<String, Entry>,
        whiteouts: Vec<String>,
        opaque: Vec<String>,
    ) {
        self.paths.retain(|path, (entry, _)| {
            let removed = whiteouts
                .iter()
                .any(|hidden| path == hidden || is_below(path, hidden));
            let hidden = opaque.iter().any(|hidden| is_below(path, hidden));
            let replaced = entries.iter().any(|(put, new)| {
                let directories = new.what == What::Directory && entry.what == What::Directory;
                path == put && !directories || is_below(path, put) && new.what != What::Directory
            });
            !(removed || hidden || replaced)
        });
        for (path, entry) in entries {
            self.next += 1;
            self.paths.insert(path.clone(), (entry.clone(), self.next));
        }
    }

    /// Makes a hard link to one of the files, which is returned, if its name can be one.
    pub(crate) fn link(&mut self, path: &str, target: &Index) -> Option<String> {
        let above = path.rsplit_once('/').map(|(above, _)| above);
        let in_a_directory = above.is_none_or(|above| {
            let entry = self.paths.get(above);
            entry.is_some_and(|(entry, _)| entry.what == What::Directory)
        });
        let files: Vec<_> = self
            .paths
            .iter()
            .filter(|(_, (entry, _))| entry.what != What::Directory)
            .filter(|(file, _)| *file != path && !is_below(file, path))
            .map(|(file, linked)| (file.clone(), linked.clone()))
            .collect();
        if files.is_empty() || !in_a_directory {
            return None;
        }
        let (file, linked) = target.get(&files).clone();
        self.paths.retain(|other, _| !is_below(other, path));
        self.paths.insert(path.to_owned(), linked);
        Some(file)
    }

    pub(crate) fn insert(&mut self, path: String, entry: Entry, number: usize) {
        self.paths.insert(path, (entry, number));
    }

    /// All of it with numbers in the order of the paths. What a link's header says of modes is nothing.
    pub(crate) fn plain(&self) -> Vec<(String, Entry, usize)> {
        let mut numbers = BTreeMap::new();
        let paths = self.paths.iter();
        paths
            .map(|(path, (entry, number))| {
                let next = numbers.len();
                let number = *numbers.entry(*number).or_insert(next);
                let mut entry = entry.clone();
                if matches!(entry.what, What::Symlink(_)) {
                    entry.attributes.mode = 0o777;
                }
                (path.clone(), entry, number)
            })
            .collect()
    }
}

fn is_below(path: &str, directory: &str) -> bool {
    let rest = path.strip_prefix(directory);
    rest.is_some_and(|rest| rest.starts_with('/'))
}
