//! What an archive gives: files by their names, on the disk under names of ours, hashed.

use std::fs::File;
use std::io::Read;
use std::path::PathBuf;

use super::ArchiveError;
use crate::Digest;
use crate::limits::MAX_DOCUMENT;
use crate::manifest::Descriptor;
use crate::store::Claim;

/// A file of an archive, in a directory of work.
#[derive(Clone, Debug)]
pub(super) struct Staged {
    pub(super) path: PathBuf,
    pub(super) digest: Digest,
    pub(super) size: u64,
}

/// The files of an archive.
pub(super) trait Files {
    /// A file of at most `limit` bytes; `None` if there is none of the name. It is no link: `links` says whether one may
    /// lead to it.
    fn file(
        &self,
        claim: &Claim,
        name: &str,
        links: Links,
        limit: u64,
    ) -> Result<Option<Staged>, ArchiveError>;
}

/// Whether links are followed within an archive.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Links {
    /// A link is refused.
    Refused,
    /// A link is followed: older releases of Docker write a layer once, and links to it.
    Followed,
}

impl Staged {
    /// All of it. It is no longer than a document may be.
    pub(super) fn read(&self) -> Result<Vec<u8>, ArchiveError> {
        let io = |source| ArchiveError::io(&self.path, source);
        let mut bytes = Vec::new();
        let file = File::open(&self.path).map_err(io)?;
        file.take(MAX_DOCUMENT)
            .read_to_end(&mut bytes)
            .map_err(io)?;
        Ok(bytes)
    }

    /// Its first bytes: enough to see how it is compressed.
    pub(super) fn first(&self) -> Result<[u8; 4], ArchiveError> {
        let io = |source| ArchiveError::io(&self.path, source);
        let mut first = [0; 4];
        let mut file = File::open(&self.path).map_err(io)?;
        let mut filled = 0;
        while let Some(rest) = first.get_mut(filled..).filter(|rest| !rest.is_empty()) {
            match file.read(rest).map_err(io)? {
                0 => break,
                count => filled += count,
            }
        }
        Ok(first)
    }
}

/// A document by its name.
pub(super) fn document(
    claim: &Claim,
    files: &dyn Files,
    name: &str,
) -> Result<Option<Vec<u8>>, ArchiveError> {
    files
        .file(claim, name, Links::Refused, MAX_DOCUMENT)?
        .map(|staged| staged.read())
        .transpose()
}

/// The bytes that a descriptor speaks of, which must be what it says.
pub(super) fn blob(
    claim: &Claim,
    files: &dyn Files,
    descriptor: &Descriptor,
) -> Result<Staged, ArchiveError> {
    let name = super::name::blob(&descriptor.digest);
    let staged = files
        .file(claim, &name, Links::Refused, descriptor.size)?
        .ok_or_else(|| ArchiveError::Missing(name.clone()))?;
    if staged.size != descriptor.size {
        return Err(ArchiveError::WrongSize {
            name,
            expected: descriptor.size,
            found: staged.size,
        });
    }
    if staged.digest != descriptor.digest {
        return Err(ArchiveError::WrongDigest {
            name,
            found: staged.digest,
        });
    }
    Ok(staged)
}

/// A document that a descriptor speaks of.
pub(super) fn blob_document(
    claim: &Claim,
    files: &dyn Files,
    descriptor: &Descriptor,
) -> Result<Vec<u8>, ArchiveError> {
    if descriptor.size > MAX_DOCUMENT {
        return Err(ArchiveError::TooLong {
            name: super::name::blob(&descriptor.digest),
            limit: MAX_DOCUMENT,
        });
    }
    blob(claim, files, descriptor)?.read()
}
