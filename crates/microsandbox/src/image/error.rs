//! What the store says, in the words of this library.

use msb_image::archive::ArchiveError;
use msb_image::store::StoreError;

use crate::error::{ImageError, MicrosandboxError};

/// Why something could not be done with images.
#[derive(Debug)]
pub(super) enum Failed {
    Store(StoreError),
    Archive(ArchiveError),
    Image(ImageError),
}

impl From<StoreError> for Failed {
    fn from(error: StoreError) -> Self {
        Self::Store(error)
    }
}

impl From<ArchiveError> for Failed {
    fn from(error: ArchiveError) -> Self {
        match error {
            ArchiveError::Store(error) => Self::Store(error),
            error => Self::Archive(error),
        }
    }
}

impl From<ImageError> for Failed {
    fn from(error: ImageError) -> Self {
        Self::Image(error)
    }
}

impl From<Failed> for MicrosandboxError {
    fn from(failed: Failed) -> Self {
        match failed {
            Failed::Store(StoreError::ReferenceMissing(reference)) => {
                Self::ImageNotFound(reference)
            }
            Failed::Store(StoreError::ImageMissing(digest)) => {
                Self::ImageNotFound(digest.to_string())
            }
            Failed::Store(StoreError::InUse(reference)) => Self::ImageInUse(reference),
            Failed::Store(error) => Self::Image(ImageError::Store(Box::new(error))),
            Failed::Archive(error) => Self::Image(ImageError::Archive(Box::new(error))),
            Failed::Image(error) => Self::Image(error),
        }
    }
}
