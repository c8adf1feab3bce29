//! A tree of files as a list with all that can be known of each entry, so that two trees can be compared
//! that are on different file systems, or one of them in a guest.
//!
//! What two names have in common is told too: of names of one file, all but the first say which that is. Left
//! out is what belongs to a file system and not to a tree: inode numbers, block counts, sizes of directories.

use std::collections::{BTreeMap, HashMap};
use std::ffi::{CStr, OsStr};
use std::fmt;
use std::fs::{self, File};
use std::io::{self, Read};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use rustix::fs::FileType;
use rustix::io::Errno;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

/// The largest list of names or value of attributes that Linux has.
const MAX_XATTR: usize = 64 << 10;

/// A tree: its entries by their paths, without a slash in front. The root is the empty path.
pub type Tree = BTreeMap<Vec<u8>, Entry>;

/// What is at one path.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Entry {
    /// As `find` writes it: `f`, `d`, `l`, `c`, `b`, `p`, `s`.
    pub kind: char,
    /// Permissions, set-user-id, set-group-id and sticky.
    pub mode: u32,
    /// User and group.
    pub owner: (u32, u32),
    /// Of the last change: seconds and nanoseconds.
    pub time: (i64, i64),
    /// Of a file: bytes.
    pub size: Option<u64>,
    /// Of a file: SHA-256, in hexadecimal.
    pub sum: Option<String>,
    /// Of a link: what it says.
    #[serde(with = "hex")]
    pub target: Vec<u8>,
    /// Of a device: major and minor number.
    pub device: Option<(u32, u32)>,
    /// Extended attributes, in the order of their names.
    pub xattrs: Vec<Xattr>,
    /// Another name of the same, the first of all in the tree.
    #[serde(with = "hex")]
    pub same_as: Vec<u8>,
}

/// An extended attribute.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Xattr {
    /// Its name.
    #[serde(with = "hex")]
    pub name: Vec<u8>,
    /// Its value.
    #[serde(with = "hex")]
    pub value: Vec<u8>,
}

impl fmt::Display for Entry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let ((user, group), (seconds, nanoseconds)) = (self.owner, self.time);
        let (kind, mode) = (self.kind, self.mode);
        write!(
            f,
            "{kind} {mode:04o} {user}:{group} {seconds}+{nanoseconds}"
        )?;
        if let (Some(size), Some(sum)) = (self.size, &self.sum) {
            write!(f, " {size} bytes {sum}")?;
        }
        if !self.target.is_empty() {
            write!(f, " -> {}", self.target.escape_ascii())?;
        }
        if let Some((major, minor)) = self.device {
            write!(f, " {major},{minor}")?;
        }
        for Xattr { name, value } in &self.xattrs {
            write!(f, " {}={}", name.escape_ascii(), value.escape_ascii())?;
        }
        if !self.same_as.is_empty() {
            write!(f, " same as {}", self.same_as.escape_ascii())?;
        }
        Ok(())
    }
}

/// Lists a tree. It must stand still.
///
/// # Errors
///
/// What cannot be read; only root can read all of most trees.
pub fn list(root: &Path) -> io::Result<Tree> {
    let mut tree = Tree::new();
    let mut names = HashMap::<(u64, u64), Vec<Vec<u8>>>::new();
    let mut rest = vec![Vec::new()];
    while let Some(path) = rest.pop() {
        let whole = whole(root, &path);
        let metadata = fs::symlink_metadata(&whole)?;
        if metadata.is_dir() {
            for entry in fs::read_dir(&whole)? {
                let name = entry?.file_name().into_vec();
                let mut below = path.clone();
                if !below.is_empty() {
                    below.push(b'/');
                }
                below.extend(name);
                rest.push(below);
            }
        } else if metadata.nlink() > 1 {
            let file = (metadata.dev(), metadata.ino());
            names.entry(file).or_default().push(path.clone());
        }
        tree.insert(path, entry(&whole, &metadata)?);
    }
    for mut names in names.into_values() {
        names.sort();
        let first = names.remove(0);
        for name in names {
            if let Some(entry) = tree.get_mut(&name) {
                entry.same_as.clone_from(&first);
            }
        }
    }
    Ok(tree)
}

fn whole(root: &Path, path: &[u8]) -> std::path::PathBuf {
    match path {
        [] => root.to_path_buf(),
        path => root.join(OsStr::from_bytes(path)),
    }
}

fn entry(path: &Path, metadata: &fs::Metadata) -> io::Result<Entry> {
    let kind = FileType::from_raw_mode(metadata.mode());
    let mut entry = Entry {
        kind: match kind {
            FileType::RegularFile => 'f',
            FileType::Directory => 'd',
            FileType::Symlink => 'l',
            FileType::CharacterDevice => 'c',
            FileType::BlockDevice => 'b',
            FileType::Fifo => 'p',
            FileType::Socket => 's',
            _ => '?',
        },
        mode: metadata.mode() & 0o7777,
        owner: (metadata.uid(), metadata.gid()),
        time: (metadata.mtime(), metadata.mtime_nsec()),
        size: None,
        sum: None,
        target: Vec::new(),
        device: None,
        xattrs: xattrs(path)?,
        same_as: Vec::new(),
    };
    match kind {
        FileType::RegularFile => {
            entry.size = Some(metadata.len());
            entry.sum = Some(sum(path)?);
        }
        FileType::Symlink => entry.target = fs::read_link(path)?.into_os_string().into_vec(),
        FileType::CharacterDevice | FileType::BlockDevice => {
            let device = metadata.rdev();
            entry.device = Some((rustix::fs::major(device), rustix::fs::minor(device)));
        }
        _ => {}
    }
    Ok(entry)
}

fn sum(path: &Path) -> io::Result<String> {
    let mut file = File::open(path)?;
    let mut sum = Sha256::new();
    let mut buffer = vec![0; 256 << 10];
    loop {
        match file.read(&mut buffer)? {
            0 => return Ok(hex::encode(sum.finalize())),
            read => sum.update(buffer.get(..read).unwrap_or_default()),
        }
    }
}

fn xattrs(path: &Path) -> io::Result<Vec<Xattr>> {
    let mut names = vec![0; MAX_XATTR];
    let length = match rustix::fs::llistxattr(path, &mut names) {
        // It has none, for its file system has none.
        Err(Errno::OPNOTSUPP) => 0,
        listed => listed?,
    };
    names.truncate(length);
    let mut found = Vec::new();
    for name in names.split_inclusive(|byte| *byte == 0) {
        let name = CStr::from_bytes_with_nul(name).map_err(io::Error::other)?;
        let mut value = vec![0; MAX_XATTR];
        let length = rustix::fs::lgetxattr(path, name, &mut value)?;
        value.truncate(length);
        found.push(Xattr {
            name: name.to_bytes().to_vec(),
            value,
        });
    }
    found.sort();
    Ok(found)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::{PermissionsExt, symlink};

    use super::*;

    #[test]
    fn all_names_of_a_file_say_so_and_the_list_survives_its_form() {
        let dir = tempfile::tempdir().unwrap();
        let at = |name: &str| dir.path().join(name);
        fs::create_dir(at("d")).unwrap();
        fs::write(at("d/b"), "text").unwrap();
        fs::hard_link(at("d/b"), at("a")).unwrap();
        fs::hard_link(at("d/b"), at("c")).unwrap();
        symlink("nowhere", at("link")).unwrap();
        fs::write(at("alone"), "").unwrap();
        fs::set_permissions(at("alone"), fs::Permissions::from_mode(0o4711)).unwrap();
        let bad = OsStr::from_bytes(b"\xff");
        fs::write(dir.path().join(bad), "named by no text").unwrap();

        let tree = list(dir.path()).unwrap();
        let of = |path: &[u8]| &tree[path];
        assert_eq!(tree.len(), 8);
        assert_eq!(of(b"").kind, 'd');
        assert_eq!(
            (of(b"a").kind, of(b"a").same_as.as_slice()),
            ('f', &b""[..])
        );
        assert_eq!(of(b"c").same_as, b"a");
        assert_eq!(of(b"d/b").same_as, b"a");
        assert_eq!(of(b"d/b").size, Some(4));
        assert_eq!(of(b"alone").mode, 0o4711);
        assert_eq!(of(b"alone").sum, Some(hex::encode(Sha256::digest(b""))));
        assert_eq!(of(b"link").target, b"nowhere");
        assert_eq!(of(b"\xff").size, Some(16));
        for entry in tree.values() {
            let json = serde_json::to_string(entry).unwrap();
            assert_eq!(serde_json::from_str::<Entry>(&json).unwrap(), *entry);
        }
    }
}
