//! What an image may ask of the host.

use serde::{Deserialize, Serialize};

/// The block size of root disks and the alignment of file contents in data blobs, in bytes.
pub const BLOCK: u64 = 4096;

/// The largest manifest, index or image configuration, in bytes (registries refuse more than 4 MiB).
pub const MAX_DOCUMENT: u64 = 4 << 20;

/// The most layers an image may have. Each is a descriptor that goes to the VMM in one message, which
/// has room for 253; the engines in use build at most 127.
pub const MAX_LAYERS: usize = 200;

/// What one image may be. The defaults are far above any image in use.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Limits {
    /// Bytes of all files of one layer, holes and repeated files counted.
    pub layer_bytes: u64,
    /// Entries of one layer's archive, of whatever kind.
    pub layer_entries: u64,
    /// Bytes of memory that one layer's changes take: paths, attributes, and where contents are.
    pub index_bytes: u64,
    /// Files, directories and others in an image's tree: their names, so a hard link is one more.
    pub tree_entries: u64,
    /// Bytes of memory that an image's tree takes.
    pub tree_bytes: u64,
    /// Bytes of a path, without the slash in front.
    pub path_bytes: usize,
    /// Names in a path.
    pub depth: usize,
    /// Bytes of one file's extended attributes, names and values.
    pub xattr_bytes: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            layer_bytes: 64 << 30,
            layer_entries: 1_000_000,
            index_bytes: 512 << 20,
            tree_entries: 2_000_000,
            tree_bytes: 1 << 30,
            path_bytes: 4095,
            depth: 256,
            xattr_bytes: 32 << 10,
        }
    }
}
