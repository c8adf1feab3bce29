//! Trees in temporary directories, and what they are, to compare them by.

#![allow(dead_code, reason = "each test file uses a part of it")]

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use bytes::Bytes;
use msb_files::{Result, TreeWriter, export};
use msb_protocol::{FsNode, FsPart, FsTime, FsTreeEntry};

/// All parts of a tree.
pub(crate) fn parts(path: &Path) -> Result<Vec<FsPart>> {
    let mut parts = Vec::new();
    export(path, &mut |part| {
        parts.push(part);
        Ok(())
    })?;
    Ok(parts)
}

/// Makes a tree of parts.
pub(crate) fn write(target: &Path, parts: impl IntoIterator<Item = FsPart>) -> Result<()> {
    let mut writer = TreeWriter::new(target)?;
    for part in parts {
        writer.part(part)?;
    }
    writer.finish()
}

pub(crate) fn entry(name: &[u8], node: FsNode) -> FsPart {
    let time = FsTime {
        seconds: 1_000_000_000,
        nanos: 5,
    };
    FsPart::Entry(FsTreeEntry {
        name: Bytes::copy_from_slice(name),
        node,
        mode: 0o755,
        accessed: time,
        modified: time,
    })
}

pub(crate) fn link(target: &[u8]) -> FsNode {
    FsNode::Symlink(Bytes::copy_from_slice(target))
}

/// What somebody sees of a file.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Seen {
    pub(crate) kind: &'static str,
    pub(crate) mode: u32,
    pub(crate) modified: (i64, i64),
    pub(crate) content: Vec<u8>,
}

/// Everything at and below `root`, by its path from there.
pub(crate) fn look(root: &Path) -> BTreeMap<PathBuf, Seen> {
    let mut seen = BTreeMap::new();
    look_into(root, PathBuf::new(), &mut seen);
    seen
}

fn look_into(root: &Path, below: PathBuf, seen: &mut BTreeMap<PathBuf, Seen>) {
    // Joining nothing would add a slash, which a file does not bear.
    let path: PathBuf = root.components().chain(below.components()).collect();
    let metadata = fs::symlink_metadata(&path).unwrap();
    let (kind, content) = if metadata.is_dir() {
        for entry in fs::read_dir(&path).unwrap() {
            look_into(root, below.join(entry.unwrap().file_name()), seen);
        }
        ("directory", Vec::new())
    } else if metadata.is_symlink() {
        let target: OsString = fs::read_link(&path).unwrap().into();
        ("link", target.into_encoded_bytes())
    } else {
        ("file", fs::read(&path).unwrap())
    };
    let entry = Seen {
        kind,
        // A link's own permissions mean nothing.
        mode: if kind == "link" {
            0
        } else {
            metadata.mode() & 0o7777
        },
        modified: (metadata.mtime(), metadata.mtime_nsec()),
        content,
    };
    seen.insert(below, entry);
}

/// The names in a directory.
pub(crate) fn names(directory: &Path) -> Vec<OsString> {
    let mut names: Vec<_> = fs::read_dir(directory)
        .unwrap()
        .map(|entry| entry.unwrap().file_name())
        .collect();
    names.sort();
    names
}
