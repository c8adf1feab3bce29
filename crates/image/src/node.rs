//! What can be at a path: a file, a directory, a link, a device, with its owner, mode, time and attributes.

use serde::{Deserialize, Serialize};

/// The longest name that a path can have between two slashes (`NAME_MAX`), in bytes.
pub const MAX_NAME: usize = 255;

/// The longest that a symbolic link can say (`PATH_MAX`, with its final zero), in bytes.
pub const MAX_TARGET: usize = 4095;

/// The longest value of an extended attribute (`XATTR_SIZE_MAX`), in bytes.
pub const MAX_VALUE: usize = 64 << 10;

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

impl<C> Kind<C> {
    /// The same kind of thing, whose contents, if it is a file, are told by `content`.
    pub fn map<D>(&self, content: impl FnOnce(&C) -> D) -> Kind<D> {
        match self {
            Self::File(file) => Kind::File(content(file)),
            Self::Directory => Kind::Directory,
            Self::Symlink(target) => Kind::Symlink(target.clone()),
            Self::CharDevice(device) => Kind::CharDevice(*device),
            Self::BlockDevice(device) => Kind::BlockDevice(*device),
            Self::Fifo => Kind::Fifo,
            Self::Socket => Kind::Socket,
        }
    }
}

/// A device's numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Device {
    /// Below 2^12, as the kernel has it.
    pub major: u32,
    /// Below 2^20.
    pub minor: u32,
}

impl Device {
    /// Whether the kernel could have such a device.
    pub fn is_valid(&self) -> bool {
        self.major < 1 << 12 && self.minor < 1 << 20
    }
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

/// About what things take in memory, in bytes. It is what limits are compared with, so it need not be exact, but
/// it grows as they do, and it is never less than what they take in an index.
impl<C> Node<C> {
    pub(crate) fn cost(&self, content: impl Fn(&C) -> u64) -> u64 {
        let xattrs = &self.attributes.xattrs;
        let xattrs = xattrs
            .iter()
            .map(|Xattr { name, value }| 48 + name.len() + value.len());
        let target = match &self.kind {
            Kind::Symlink(target) => target.len(),
            _ => 0,
        };
        let content = match &self.kind {
            Kind::File(file) => content(file),
            _ => 0,
        };
        160 + (xattrs.sum::<usize>() + target) as u64 + content
    }
}

impl Content {
    pub(crate) fn cost(&self) -> u64 {
        32 * self.pieces.len() as u64
    }
}
