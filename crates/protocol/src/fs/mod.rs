//! Files of the guest: one operation, one conversation.
//!
//! The host opens the conversation with an [`FsRequest`] and the agent does it as root, in the
//! guest's root. The answer is one message ([`FsAnswer::Done`], [`FsAnswer::Stat`] and
//! the like) or a stream of them that ends with [`FsAnswer::Done`]; in its place may always
//! come [`FsAnswer::Failed`].
//!
//! What is in a file, and what is in a tree of files, goes either way as [`FsPart`]s: an entry
//! begins, then its data and its holes follow, then the next entry. No part says how much is to
//! come: the reader of a file finds out where it ends by reading, so there is no size
//! that anybody could lie about or that could change underneath.
//!
//! From the guest to the host the connection's own credit is enough, as for a command's
//! output. The other way there is a window, as for a command's input ([`INITIAL_FS_WINDOW`]):
//! the agent can then read everything that was sent even while a file system stands still, and so
//! notices that the host hung up.

mod failure;
mod names;
mod request;
mod tree;

pub use failure::{FsFailure, FsFailureKind};
pub use names::{MAX_NAME, MAX_PATH, check_name, check_path};
pub use request::{FsAttributes, FsCall, FsRequest};
pub use tree::{FsAnswer, FsKind, FsListed, FsNode, FsPart, FsStat, FsTime, FsTreeEntry};

/// What the host may have sent of [`FsPart`]s, by their [`FsPart::cost`], before the guest says
/// with [`FsAnswer::Consumed`] that it has taken some.
pub const INITIAL_FS_WINDOW: u32 = 256 * 1024;

/// What a part costs beside its bytes. It bounds how many parts may be on their way.
pub const FS_PART_COST: u32 = 64;

/// How many directories may be within one another in a tree that goes over the wire.
pub const MAX_TREE_DEPTH: usize = 256;

/// The most bytes of entries, counted with [`FsListed::cost`], in one [`FsAnswer::Entries`].
pub const MAX_LISTED_BATCH: usize = 64 * 1024;
