//! What can be wrong with layers that are put over one another.

use super::ResolveError;

/// Layers that make no tree.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum TreeError {
    /// More names than an image may have.
    #[error("the image has more than {0} files and directories; use a smaller one")]
    TooManyEntries(u64),
    /// Names and attributes take more memory than an image's may.
    #[error("the image's names and attributes take more than {0} bytes; use a smaller one")]
    TooLarge(u64),
    /// Directories in directories, more than there may be.
    #[error("{path} is more than {limit} directories deep; the image cannot be used")]
    TooDeep {
        /// What.
        path: String,
        /// How deep it may be.
        limit: usize,
    },
    /// A path, once the symbolic links in it are followed, is longer than one may be.
    #[error(
        "{path} is, through symbolic links, more than {limit} bytes long; the image cannot be used"
    )]
    PathTooLong {
        /// What.
        path: String,
        /// How long it may be, in bytes.
        limit: usize,
    },
    /// A name that no file can have.
    #[error("{0:?} cannot be a file's name; the image is damaged")]
    BadName(String),
    /// Something is to be put into what is no directory.
    #[error("{0} should be in something that is no directory; the image is damaged")]
    NotADirectory(String),
    /// The way to a path cannot be followed.
    #[error("{path} cannot be reached; the image is damaged")]
    Unreachable {
        /// Which path.
        path: String,
        /// Why not.
        source: ResolveError,
    },
    /// A hard link to nothing.
    #[error("{path} is a hard link to {target}, which is not there; the image is damaged")]
    LinkToNothing {
        /// The link.
        path: String,
        /// What it links to.
        target: String,
    },
    /// A hard link to a directory.
    #[error("{path} is a hard link to {target}, which is a directory; the image is damaged")]
    LinkToDirectory {
        /// The link.
        path: String,
        /// What it links to.
        target: String,
    },
    /// The root directory is removed, or replaced by something else.
    #[error("a layer puts something else in the place of the root directory; the image is damaged")]
    RootReplaced,
}
