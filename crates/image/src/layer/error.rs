//! What can be wrong with a layer's archive.

use std::io;

use super::PathProblem;

/// A layer that cannot be unpacked.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum LayerError {
    /// Its bytes could not be read.
    #[error("cannot read the layer")]
    Read(#[source] io::Error),
    /// Its files' bytes could not be written.
    #[error("cannot write the files of the layer; is there room on the disk?")]
    Write(#[source] io::Error),
    /// There is no thread for the unpacking.
    #[error("cannot start a thread to unpack the layer")]
    Thread(#[source] io::Error),
    /// It is packed in a way that is not known here.
    #[error("the layer is compressed with {0}; only gzip, zstd and plain archives are supported")]
    UnknownCompression(&'static str),
    /// What it was compressed to is not what it should be.
    #[error("the layer's compressed data is damaged; pull the image again")]
    Decompress(#[source] io::Error),
    /// It ends in the middle of something.
    #[error("the layer ends too early; pull the image again")]
    Truncated,
    /// It is no archive.
    #[error("the layer is no valid tar archive ({0}); pull the image again")]
    Damaged(&'static str),
    /// One entry cannot be in an image.
    #[error("{path} in the layer cannot be used")]
    Entry {
        /// Which.
        path: String,
        /// Why.
        #[source]
        problem: EntryProblem,
    },
    /// More than one layer may have.
    #[error("the layer has more than {limit} {what}; the image cannot be used")]
    TooLarge {
        /// What there is too much of, in the plural.
        what: &'static str,
        /// How much there may be.
        limit: u64,
    },
    /// Whoever is told of the progress wants no more of it.
    #[error("unpacking the layer was cancelled")]
    Cancelled,
}

/// What is wrong with one entry.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum EntryProblem {
    /// Its own path.
    #[error(transparent)]
    Path(#[from] PathProblem),
    /// The path that a hard link links to.
    #[error("it is a hard link to what cannot be in an image")]
    LinkTarget(#[source] PathProblem),
    /// A kind of entry that archives of layers do not have.
    #[error("entries of type {0:?} are not supported")]
    Kind(char),
    /// An owner that no file can have.
    #[error("its owner or group is no valid number")]
    Owner,
    /// A device that cannot be.
    #[error("its device numbers are out of range")]
    Device,
    /// A symbolic link that says nothing, or too much.
    #[error("it is a symbolic link whose target is empty, too long, or contains a zero byte")]
    Symlink,
    /// Extended attributes.
    #[error("its extended attributes are too large, or have no valid name")]
    Xattrs,
}
