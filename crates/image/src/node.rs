//! What can be at a path: a file, a directory, a link, a device, with its owner, mode, time and attributes.

use serde::{Deserialize, Serialize};

/// The longest name that a path can have between two slashes (`NAME_MAX`), in bytes.
pub const MAX_NAME: usize = 255;

/// What is at a path. `C` says where a regular file's bytes are.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Node<C> {
    /// Who may do what with it, and when it was changed.
    pub attributes: Attributes,
    /// What it is.
    pub kind: Kind<C>,
}

/// What all kinds have.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Attributes {
    /// Permission bits, set-user-id, set-group-id and sticky: the low twelve bits of `st_mode`.
    pub mode: u16,
    /// Owner.
    pub uid: u32,
    /// Group.
    pub gid: u32,
    /// Seconds since 1970.
    pub mtime: i64,
    /// And nanoseconds, below 1,000,000,000.
    pub mtime_nsec: u32,
    /// Extended attributes, each name once, in the order of the names' bytes.
    pub xattrs: Vec<Xattr>,
}

/// An extended attribute (`xattr(7)`).
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Xattr {
    /// Its whole name: `security.capability`.
    pub name: Vec<u8>,
    /// Its value.
    pub value: Vec<u8>,
}

/// The kinds of things.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Kind<C> {
    /// A regular file.
    File(C),
    /// A directory.
    Directory,
    /// A symbolic link, and what it says: 1 to 4095 bytes, none of them zero.
    Symlink(Vec<u8>),
    /// A character device.
    CharDevice(Device),
    /// A block device.
    BlockDevice(Device),
    /// A named pipe.
    Fifo,
    /// A Unix socket.
    Socket,
}

/// A device's numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Device {
    /// Below 2^12, as the kernel has it.
    pub major: u32,
    /// Below 2^20.
    pub minor: u32,
}

/// The bytes of a regular file: stretches of a data blob, and zeros between them.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Content {
    /// The file's size in bytes.
    pub size: u64,
    /// Where its bytes are, in ascending order, without overlap; what none of them covers is zeros. A file
    /// without holes has one, an empty one none.
    pub pieces: Vec<Piece>,
}

/// A stretch of a file that is in a data blob.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Piece {
    /// Where it begins in the file: a multiple of [`BLOCK`](crate::limits::BLOCK).
    pub at: u64,
    /// Where it begins in the data blob: a multiple of it too.
    pub blob: u64,
    /// Bytes; only the last piece of a file may end within a block. The rest of its last block in the data
    /// blob is zeros.
    pub len: u64,
}
