//! What can go wrong when patches are made.

use std::io;
use std::path::PathBuf;

use crate::layer::LayerFlaw;
use crate::tree::{ResolveError, TreeError};

/// A patch that cannot be made.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum PatchError {
    /// A path in the guest that is none.
    #[error("{0:?} is no path in the guest; one begins with / and has no zero byte")]
    BadPath(String),
    /// A mode with more than permission bits.
    #[error("the mode {0:o} has more than permission bits; use at most 7777")]
    BadMode(u32),
    /// A symbolic link that would say nothing, or too much.
    #[error("the target of the link {0} is empty, too long, or contains a zero byte")]
    BadTarget(String),
    /// Something is there, and was not to be replaced.
    #[error("{0} is in the image already; say that it may be replaced, or use another path")]
    Exists(String),
    /// A directory is where something else was to be.
    #[error("{0} is a directory; remove it first, or use another path")]
    IsADirectory(String),
    /// Something else is where a directory was to be.
    #[error("{0} is in the image and is no directory; remove it first, or use another path")]
    NotADirectory(String),
    /// There is no such file to add something to.
    #[error("there is no {0} in the image to append to; write the file instead")]
    NotFound(String),
    /// Only to files can something be added.
    #[error("{0} is no regular file, so nothing can be appended to it")]
    NotAFile(String),
    /// The root directory was to be removed.
    #[error("the root directory cannot be removed")]
    Root,
    /// The way to a path cannot be followed.
    #[error("{path} cannot be reached in the image")]
    Unreachable {
        /// Which path.
        path: String,
        /// Why not.
        #[source]
        source: ResolveError,
    },
    /// Something of the host could not be read.
    #[error("cannot read {} on the host", path.display())]
    Host {
        /// What.
        path: PathBuf,
        /// Why not.
        #[source]
        source: io::Error,
    },
    /// Something of the host is of a kind that is not copied.
    #[error("{} on the host is not a {wanted}", path.display())]
    HostKind {
        /// What.
        path: PathBuf,
        /// What it should be.
        wanted: &'static str,
    },
    /// Something of the host was changed or removed while it was read.
    #[error("{} on the host was changed while it was copied; try again when nobody writes there", .0.display())]
    HostChanged(PathBuf),
    /// The old content of a file could not be read.
    #[error("cannot read the image's data; remove the image and pull it again")]
    Blob(#[source] io::Error),
    /// The new contents could not be written.
    #[error("cannot write the patched files; is there room on the disk?")]
    Write(#[source] io::Error),
    /// More bytes than a layer may have.
    #[error("the patched files have more than {0} bytes together; mount a volume instead")]
    TooLarge(u64),
    /// The tree would be more than a tree may be.
    #[error("the patches do not fit into the image")]
    Tree(#[from] TreeError),
    /// Something that no layer can have.
    #[error("{path} cannot be in an image")]
    Impossible {
        /// What.
        path: String,
        /// Why not.
        #[source]
        flaw: LayerFlaw,
    },
    /// A kind of patch of a later version.
    #[error("this kind of patch is not known here; use a newer version of the library")]
    Unknown,
}
