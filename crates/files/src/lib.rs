//! Trees of files: read into parts, and made of parts.
//!
//! A copy between host and guest has a [reader](export) on one side and a [`TreeWriter`] on the
//! other, with the parts of `msb_protocol` on the wire between them. Both are the same
//! code on either side, since both need the same care: somebody who must not be trusted may
//! have made the tree, may be changing it right now, or may be sending the parts.
//!
//! - Every step is one name below an open directory, and no step follows a symbolic link. The
//!   kernel is asked to see to it too (`openat2`).
//! - Nothing that is there is ever opened for writing. A copy is made under a name of its own
//!   beside its place, and renamed when it is complete.
//! - Nothing is as large as somebody said: what is read is read to its end, one chunk at a time.
//!
//! All of it blocks, and is meant for threads that may. Each step reports to a function of the
//! caller's, which can end the work there.

mod content;
mod failure;
mod read;
mod remove;
mod step;
mod write;

pub use content::read_content;
pub use failure::{cancelled, fail, kind_of};
pub use read::export;
pub use remove::remove_tree;
pub use write::TreeWriter;

/// The result of everything here.
pub type Result<T> = std::result::Result<T, msb_protocol::FsFailure>;
