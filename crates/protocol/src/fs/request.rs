//! What the host asks.
//!
//! Paths are bytes, as the guest's kernel has them. A relative one begins at the guest's root.

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use super::{FsPart, FsTime};

/// What the host says in a conversation about files.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub enum FsCall {
    /// Opens the conversation.
    Open(FsRequest),
    /// Of what is written: within the window.
    Part(FsPart),
    /// That was all of it.
    Finish,
}

/// An operation.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub enum FsRequest {
    /// What is in a file: [`FsAnswer::Opened`](super::FsAnswer::Opened), data, the end.
    Read {
        /// The file; links are followed.
        path: Bytes,
    },
    /// Puts data into a file, which is made if it is not there and emptied if it is:
    /// [`FsAnswer::Opened`](super::FsAnswer::Opened), and after [`FsCall::Finish`] the end.
    Write {
        /// The file; links are followed.
        path: Bytes,
        /// Permission bits of a file that is made, less the agent's file mode mask.
        mode: u32,
    },
    /// What is in a directory, in no order.
    List {
        /// The directory; links are followed.
        path: Bytes,
    },
    /// What is known of a file.
    Stat {
        /// The file.
        path: Bytes,
        /// Of what a symbolic link leads to, not of the link.
        follow: bool,
    },
    /// Changes what is known of a file.
    SetStat {
        /// The file.
        path: Bytes,
        /// Of what a symbolic link leads to, not of the link.
        follow: bool,
        /// What to change.
        attributes: FsAttributes,
    },
    /// Makes a directory, and those above it that are missing. One that is there is fine.
    MakeDirectory {
        /// The directory.
        path: Bytes,
    },
    /// Removes a file, or a symbolic link.
    Remove {
        /// The file.
        path: Bytes,
    },
    /// Removes a directory and all in it. Links are not followed; mount points stay.
    RemoveTree {
        /// The directory.
        path: Bytes,
    },
    /// Gives a file another place on its file system.
    Rename {
        /// Where it is.
        from: Bytes,
        /// Where it is to be; what is there is replaced.
        to: Bytes,
    },
    /// Copies a file or a tree within the guest.
    Copy {
        /// What is copied; a link that it is itself is followed.
        from: Bytes,
        /// Where the copy is to be; a file that is there is replaced.
        to: Bytes,
    },
    /// Where a symbolic link leads.
    ReadLink {
        /// The link.
        path: Bytes,
    },
    /// Makes a symbolic link.
    Symlink {
        /// Where it leads.
        target: Bytes,
        /// Where it is.
        path: Bytes,
    },
    /// A file or a tree as parts: [`FsAnswer::Part`](super::FsAnswer::Part)s, the end.
    Export {
        /// What is read; a link that it is itself is followed.
        path: Bytes,
    },
    /// Makes a file or a tree of parts: [`FsAnswer::Opened`](super::FsAnswer::Opened), and after
    /// [`FsCall::Finish`] the end. It appears at its place when it is complete.
    Import {
        /// Where it is to be; a file that is there is replaced.
        path: Bytes,
    },
}

/// What is to change of a file. What is not given stays.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct FsAttributes {
    /// Permission bits, with set-user-id and the like.
    pub mode: Option<u32>,
    /// The owner.
    pub uid: Option<u32>,
    /// The owner's group.
    pub gid: Option<u32>,
    /// The size in bytes: it is cut, or grows by a hole.
    pub size: Option<u64>,
    /// When it was last read.
    pub accessed: Option<FsTime>,
    /// When it was last written.
    pub modified: Option<FsTime>,
}
