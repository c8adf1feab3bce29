//! What a file is, and a tree of files as a sequence of parts.
//!
//! ```text
//! Entry(name "", Directory)          the root; its name is the receiver's to choose
//!   Entry("a", File)  Data  Hole  Data
//!   Entry("b", Symlink(target))
//!   Entry("c", Directory)
//!     Entry("d", File)
//!   Leave                            of c
//! Leave                              of the root
//! ```
//!
//! Data and holes belong to the file that began last. A file ends where something else begins.

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use super::{FS_PART_COST, FsFailure};

/// What the guest says in a conversation about files.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub enum FsAnswer {
    /// What is to be read or written is open.
    Opened,
    /// Of what is read.
    Part(FsPart),
    /// Some of what is in the directory. Never none.
    Entries(Vec<FsListed>),
    /// What is known of the file. The last message.
    Stat(FsStat),
    /// Where the symbolic link leads. The last message.
    Target(Bytes),
    /// So much more may be sent.
    Consumed(u32),
    /// It takes a while, and goes on: something was done since the last message.
    Working,
    /// It is done. The last message.
    Done,
    /// It failed. The last message.
    Failed(FsFailure),
}

/// A piece of a file or of a tree.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub enum FsPart {
    /// Something begins in the directory that is open.
    Entry(FsTreeEntry),
    /// Bytes of the file that began last; at least one, and no more than
    /// [`MAX_CHUNK`](crate::MAX_CHUNK).
    Data(Bytes),
    /// So many zero bytes of it for which the file has no blocks; at least one.
    Hole(u64),
    /// The directory that was entered last is complete.
    Leave,
}

impl FsPart {
    /// What it takes of the window.
    pub fn cost(&self) -> u32 {
        let bytes = match self {
            Self::Entry(entry) => {
                entry.name.len()
                    + match &entry.node {
                        FsNode::Symlink(target) => target.len(),
                        FsNode::Directory | FsNode::File => 0,
                    }
            }
            Self::Data(bytes) => bytes.len(),
            Self::Hole(_) | Self::Leave => 0,
        };
        u32::try_from(bytes)
            .unwrap_or(u32::MAX)
            .saturating_add(FS_PART_COST)
    }
}

/// The beginning of a file, a directory or a link in a tree.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FsTreeEntry {
    /// Its name; empty for the root of the tree.
    pub name: Bytes,
    /// What it is.
    pub node: FsNode,
    /// Permission bits; a receiver takes no more than `0o777` of them.
    pub mode: u32,
    /// When it was last read.
    pub accessed: FsTime,
    /// When it was last written.
    pub modified: FsTime,
}

/// What can be in a tree. Sockets, pipes and devices cannot.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub enum FsNode {
    /// A directory: what is in it follows, up to [`FsPart::Leave`].
    Directory,
    /// A regular file: what is in it follows.
    File,
    /// A symbolic link, and where it leads.
    Symlink(Bytes),
}

/// What a file is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub enum FsKind {
    /// A regular file.
    File,
    /// A directory.
    Directory,
    /// A symbolic link.
    Symlink,
    /// A device, a pipe, a socket.
    Other,
}

/// What is known of a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FsStat {
    /// What it is.
    pub kind: FsKind,
    /// Its size in bytes, as the file system says: 0 for most of /proc.
    pub size: u64,
    /// Permission bits, with set-user-id and the like.
    pub mode: u32,
    /// Its owner.
    pub uid: u32,
    /// Its owner's group.
    pub gid: u32,
    /// When it was last read.
    pub accessed: FsTime,
    /// When it was last written.
    pub modified: FsTime,
    /// When it was made, where the file system knows.
    pub created: Option<FsTime>,
}

/// A moment, by the guest's clock.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct FsTime {
    /// Seconds since the beginning of 1970, UTC.
    pub seconds: i64,
    /// Nanoseconds on top, less than a second of them.
    pub nanos: u32,
}

impl FsTime {
    /// Whether it is one: the nanoseconds are less than a second.
    pub const fn is_valid(self) -> bool {
        self.nanos < 1_000_000_000
    }
}

/// Something in a directory.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FsListed {
    /// Its name.
    pub name: Bytes,
    /// What is known of it; of the link, if it is one.
    pub stat: FsStat,
}

impl FsListed {
    /// What it counts in a batch: at least what it takes on the wire.
    pub fn cost(&self) -> usize {
        self.name.len() + 96
    }
}
