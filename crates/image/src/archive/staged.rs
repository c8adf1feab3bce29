//! A tar, read once from its beginning to its end.

use std::collections::HashMap;
use std::io::{Read, Write};

use tar::EntryType;

use super::files::{Files, Links, Staged};
use super::{ArchiveError, name};
use crate::layer::{self, LayerError, TarEntry, TarReader};
use crate::store::Claim;

/// The most entries of an archive. Each image of the older form has three for each layer.
const MAX_ENTRIES: usize = 20_000;

/// How many links may lead to one another.
const MAX_LINKS: usize = 8;

/// What was in it.
#[derive(Default)]
pub(super) struct Archive {
    names: HashMap<String, Thing>,
}

enum Thing {
    File(Staged),
    /// A link, and what it leads to.
    Link(String),
    /// Something that is no file.
    Other,
}

/// Reads an archive of images, plain or compressed: its files go to the work of the claim.
pub(super) fn read(claim: &Claim, reader: impl Read + Send) -> Result<Archive, ArchiveError> {
    layer::read_tar(reader, |tar| {
        let mut archive = Archive::default();
        while let Some(entry) = tar.next(MAX_ENTRIES as u64).map_err(too_many)? {
            archive.add(claim, tar, &entry)?;
        }
        Ok(archive)
    })
}

fn too_many(error: LayerError) -> ArchiveError {
    match error {
        LayerError::TooLarge {
            what: "entries", ..
        } => ArchiveError::TooManyFiles(MAX_ENTRIES),
        error => ArchiveError::Tar(error),
    }
}

impl From<LayerError> for ArchiveError {
    fn from(error: LayerError) -> Self {
        Self::Tar(error)
    }
}

impl Archive {
    fn add(
        &mut self,
        claim: &Claim,
        tar: &mut TarReader<'_>,
        entry: &TarEntry,
    ) -> Result<(), ArchiveError> {
        let Some(name) = name::clean(&entry.path)? else {
            return Ok(());
        };
        let twice = self.names.contains_key(&name);
        let thing = match entry.kind {
            // One may be named before and after what is in it.
            EntryType::Directory if twice => return Ok(()),
            EntryType::Regular if entry.extents.is_none() => {
                Thing::File(stage(claim, tar, entry.size)?)
            }
            EntryType::Symlink => Thing::Link(name::follow(&name, &entry.link)?),
            EntryType::Link => match name::clean(&entry.link)? {
                Some(target) => Thing::Link(target),
                None => Thing::Other,
            },
            _ => Thing::Other,
        };
        match twice {
            true => Err(ArchiveError::Twice(name)),
            false => {
                self.names.insert(name, thing);
                Ok(())
            }
        }
    }
}

fn stage(claim: &Claim, tar: &mut TarReader<'_>, size: u64) -> Result<Staged, ArchiveError> {
    claim.check_space(size)?;
    let mut scratch = claim.stage()?;
    loop {
        let bytes = tar.data(u64::MAX)?;
        if bytes.is_empty() {
            break;
        }
        scratch
            .write_all(bytes)
            .map_err(|source| ArchiveError::io(scratch.path(), source))?;
    }
    let (path, digest, size) = scratch.finish();
    Ok(Staged { path, digest, size })
}

impl Files for Archive {
    fn file(
        &self,
        _: &Claim,
        name: &str,
        links: Links,
        limit: u64,
    ) -> Result<Option<Staged>, ArchiveError> {
        let mut at = name;
        for _ in 0..=MAX_LINKS {
            match self.names.get(at) {
                None if at == name => return Ok(None),
                None => return Err(ArchiveError::Missing(at.to_owned())),
                Some(Thing::File(staged)) if staged.size > limit => {
                    return Err(ArchiveError::TooLong {
                        name: at.to_owned(),
                        limit,
                    });
                }
                Some(Thing::File(staged)) => return Ok(Some(staged.clone())),
                Some(Thing::Link(target)) if links == Links::Followed => at = target,
                Some(Thing::Link(_) | Thing::Other) => break,
            }
        }
        Err(ArchiveError::NoFile(name.to_owned()))
    }
}
