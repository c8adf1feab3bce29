//! What some errors carry that no other crate of ours has a type for.

use msb_image::archive::ArchiveError;
use msb_image::registry::PullError;
use msb_image::store::StoreError;

/// A request over HTTP that came to nothing: no answer, or one that could not be read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
#[non_exhaustive]
pub struct HttpError {
    /// Where it went.
    pub url: Option<String>,
    /// The status of the answer, if one came.
    pub status: Option<u16>,
    /// What a person reads.
    pub message: String,
}

/// An error number of the operating system.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Errno(pub i32);

impl std::fmt::Display for Errno {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        std::io::Error::from_raw_os_error(self.0).fmt(f)
    }
}

impl std::error::Error for Errno {}

/// An image that cannot be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ImageError {
    /// A text that refers to no image.
    #[error("{reference:?} refers to no image; write name:tag or registry/name:tag")]
    InvalidReference {
        /// The text.
        reference: String,
    },
    /// It could not be brought to this host.
    #[error("{reference} could not be pulled")]
    Pull {
        /// The image.
        reference: String,
        /// Why not.
        #[source]
        source: Box<PullError>,
    },
    /// The images of this home cannot be read, or not be changed as asked.
    #[error("the images of this home cannot be used as asked")]
    Store(#[source] Box<StoreError>),
    /// An archive is not as it must be, or cannot be written.
    #[error("the archive of images cannot be used")]
    Archive(#[source] Box<ArchiveError>),
    /// The image is another than was said.
    #[error(
        "the image that {reference} is to mean is not as described; take its description from the image"
    )]
    Mismatch {
        /// The reference.
        reference: String,
    },
}
