//! What can be wrong with an archive.

use std::io;
use std::path::{Path, PathBuf};

use crate::Digest;
use crate::layer::LayerError;
use crate::manifest::ManifestError;
use crate::reference::ReferenceError;
use crate::store::StoreError;

/// An archive that cannot be loaded or written.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ArchiveError {
    /// The host refused.
    #[error("cannot use {}", path.display())]
    Io {
        /// What was to be used.
        path: PathBuf,
        /// Why not.
        #[source]
        source: io::Error,
    },
    /// It is no archive of images.
    #[error(
        "it has neither an index.json nor a manifest.json, so it is no archive of images; give one \
         that `docker save` or its like has written, or an OCI layout"
    )]
    NoArchive,
    /// It does not read as a tar.
    #[error("the archive cannot be read")]
    Tar(#[source] LayerError),
    /// It has more in it than an archive of images has.
    #[error("the archive has more than {0} files; it is no archive of images")]
    TooManyFiles(usize),
    /// It has more images than can be loaded at once.
    #[error("the archive names more than {0} images; load fewer at once")]
    TooManyImages(usize),
    /// A name in it leads out of it, or is no name.
    #[error("the archive has the name {0:?}, which leads out of it or is none")]
    Name(String),
    /// A name is there twice.
    #[error("the archive has {0:?} twice; it is not to be trusted")]
    Twice(String),
    /// Something is a device, a link, or the like, where a file must be.
    #[error("{0:?} in the archive must be a plain file, and is not")]
    NoFile(String),
    /// A file that another names is not there.
    #[error("{0:?} is not in the archive, which is incomplete")]
    Missing(String),
    /// A file is longer than it may be.
    #[error("{name:?} in the archive has more than {limit} bytes")]
    TooLong {
        /// The file.
        name: String,
        /// The most bytes it may have.
        limit: u64,
    },
    /// A file is not what it is called.
    #[error("{name:?} in the archive is {found}; the archive is damaged, or not to be trusted")]
    WrongDigest {
        /// What it is called, by its name or by who names it.
        name: String,
        /// What it is.
        found: Digest,
    },
    /// A file is not as long as another says.
    #[error("{name:?} in the archive was said to have {expected} bytes and has {found}")]
    WrongSize {
        /// The file.
        name: String,
        /// What was said.
        expected: u64,
        /// What it has.
        found: u64,
    },
    /// The layout has a version that is not known.
    #[error("the archive is a layout of version {0:?}, and 1.0.0 is known")]
    Version(String),
    /// A file of names does not parse.
    #[error("{name:?} in the archive cannot be read")]
    Json {
        /// The file.
        name: String,
        /// What is wrong.
        #[source]
        source: serde_json::Error,
    },
    /// A manifest, index or configuration in it cannot be used.
    #[error("{name:?} in the archive cannot be used")]
    Document {
        /// The file.
        name: String,
        /// What is wrong.
        #[source]
        source: ManifestError,
    },
    /// It calls an image what cannot be a reference.
    #[error("the archive calls an image {text:?}")]
    Reference {
        /// What it calls it.
        text: String,
        /// What is wrong.
        #[source]
        source: ReferenceError,
    },
    /// It calls an image by the digest of another.
    #[error("the archive calls an image {reference}, and it is {found}; it is not to be trusted")]
    Pinned {
        /// What it calls it.
        reference: String,
        /// What it is.
        found: Digest,
    },
    /// It does not say what its image is called.
    #[error("the archive does not say what its image is called; give it a reference")]
    Unnamed,
    /// A reference was given for more images than one.
    #[error("the archive has {0} images, and one reference was given; load it without")]
    Several(usize),
    /// The store failed.
    #[error("the image cannot be stored")]
    Store(#[from] StoreError),
}

impl ArchiveError {
    pub(super) fn io(path: &Path, source: io::Error) -> Self {
        // A full disk is one thing, wherever it shows.
        match StoreError::io(path, source) {
            StoreError::Io { path, source } => Self::Io { path, source },
            full => Self::Store(full),
        }
    }

    pub(super) fn document(name: &str) -> impl Fn(ManifestError) -> Self {
        move |source| Self::Document {
            name: name.to_owned(),
            source,
        }
    }

    pub(super) fn json(name: &str) -> impl Fn(serde_json::Error) -> Self {
        move |source| Self::Json {
            name: name.to_owned(),
            source,
        }
    }
}
