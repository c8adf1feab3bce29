//! What can be wrong with a disk that is read.

use std::io;

/// A disk, or something on it, that cannot be read.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ReadError {
    /// It begins with something else.
    #[error("this is no EROFS; give the disk of an image, or one that mkfs.erofs has made")]
    NotErofs,
    /// It uses what is not supported here.
    #[error("the EROFS uses {0}; make it without (mkfs.erofs without options does)")]
    Unsupported(String),
    /// The superblock's checksum is another one.
    #[error("the superblock of the EROFS is damaged; make it anew")]
    Checksum,
    /// Something on it makes no sense.
    #[error("the EROFS is damaged: {what} (inode {nid}); make it anew")]
    Damaged {
        /// What.
        what: &'static str,
        /// The number of the inode that it is about.
        nid: u64,
    },
    /// There is more in it than was asked for.
    #[error("the EROFS has more than {limit} {what}; read it with higher limits")]
    Limit {
        /// Of what.
        what: &'static str,
        /// How many there may be.
        limit: u64,
    },
    /// What is asked for is of another kind.
    #[error("that is no {expected}; ask for one")]
    Kind {
        /// Of which it should be.
        expected: &'static str,
    },
    /// The source cannot be read.
    #[error("cannot read the EROFS")]
    Io(#[from] io::Error),
}
