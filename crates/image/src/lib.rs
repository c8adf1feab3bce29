//! Container images: from a registry or an archive to the disk that a sandbox boots from.
//!
//! ```text
//! layer blob (tar, maybe compressed) ──layer──> data blob + index      once for each layer
//! indexes of an image's layers ───────tree────> one tree               whiteouts and links resolved
//! patches of a sandbox ──────────────patch──> one more layer
//! tree ───────────────────────────────erofs───> metadata of a disk     a few MiB for each image
//! [metadata | data blob | data blob ...] ─────> the root, read-only    a list of extents for the VMM
//! ```
//!
//! The bytes of a file are in one place on the host, the data blob of the layer that brought it, whatever
//! number of images have the layer and of machines run them. What an image has for itself is metadata: an
//! EROFS whose files point past its own end, into the data blobs that the block device shows after it.
//!
//! Everything here is hostile: what a registry says, what is in a tar, and what is read back from the
//! store, which other programs of the same user can write. [`limits`] caps what is chosen by others.

pub mod archive;
pub mod digest;
pub mod erofs;
pub mod layer;
pub mod limits;
pub mod manifest;
pub mod node;
pub mod patch;
pub mod reference;
#[cfg(feature = "registry")]
pub mod registry;
mod shown;
pub mod snapshot;
pub mod store;
#[cfg(test)]
mod testing;
pub mod tree;

pub use digest::Digest;
pub use reference::Reference;
