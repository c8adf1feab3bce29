//! One layer: what it changes in the tree below it, and the data blob with its files' bytes.
//!
//! A layer is a list of changes in the order of its archive (OCI image specification, "Layers"). A path is
//! names with single slashes between them, none of them empty, `.` or `..`, and no slash in front; the
//! empty path is the root. Bytes, not text: names need not be UTF-8.
//!
//! `unpack` makes one from an archive, `index` keeps it in a file and reads it back.

mod archive;
mod blob;
mod check;
mod entries;
mod error;
mod index;
mod path;
mod source;
mod stream;
#[cfg(test)]
mod tests;
mod unpack;

pub(crate) use blob::{BlobWriter, FileWriter};
pub use check::LayerFlaw;
pub(crate) use entries::{TarEntry, TarReader, read_tar};
pub use error::{EntryProblem, LayerError};
pub use index::IndexError;
pub use path::PathProblem;
pub(crate) use path::split;
pub use unpack::{Progress, Unpacked, unpack};

use serde::{Deserialize, Serialize};

use crate::node::{Content, Node};

/// A layer, unpacked: its changes in order.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Layer {
    /// What it changes.
    pub changes: Vec<Change>,
    /// Size of its data blob in bytes: a multiple of [`BLOCK`](crate::limits::BLOCK).
    pub data_bytes: u64,
}

/// One change of a tree.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Change {
    /// Where.
    pub path: Vec<u8>,
    /// What.
    pub action: Action,
}

/// What is changed at a path.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Action {
    /// This is there now. A directory keeps what is in it if it was one; all else is replaced.
    Put(Node<Content>),
    /// It is another name of what `target` is: a path like any other, in this layer or below it.
    Link {
        /// Of what.
        target: Vec<u8>,
    },
    /// What lower layers have there is not there any more (`.wh.NAME`).
    Whiteout,
    /// What lower layers have in this directory is not there any more (`.wh..wh..opq`).
    Opaque,
}

/// The most that one change may [cost](Change::cost), in bytes. Indexes are read in changes, and what is read can be
/// checked only once it is in memory.
const MAX_CHANGE: usize = 4 << 20;

impl Change {
    /// About what it takes in memory, in bytes.
    fn cost(&self) -> u64 {
        let action = match &self.action {
            Action::Put(node) => node.cost(Content::cost),
            Action::Link { target } => 160 + target.len() as u64,
            Action::Whiteout | Action::Opaque => 160,
        };
        action + self.path.len() as u64
    }
}
