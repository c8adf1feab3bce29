//! Images in files: what `docker save` and its like write, and OCI image layouts.
//!
//! Two forms are read. An *OCI layout* has `index.json`, which names images, and `blobs/sha256/`; a *Docker archive* has
//! `manifest.json`, which names files with a configuration and layers. Docker has written both in one archive since
//! version 25, and so do we. A layout may be a directory; either may be a tar, plain or compressed.
//!
//! An archive comes from anybody. It is read once, from its beginning to its end, and each file in it goes to a
//! directory of work under a name of ours, hashed on the way; names in the archive are looked up in a table and never on
//! the disk. What the documents then ask for must have the digest and the length that they say.
//!
//! Nothing has a name until everything is right: images get their references at the end, and all at once.

mod docker;
mod error;
mod files;
mod layout;
mod name;
mod oci;
mod save;
mod sink;
mod staged;

pub use error::ArchiveError;
pub use save::{Format, save, save_dir, save_file};

use std::fs::{self, File};
use std::io::Read;
use std::path::Path;

use crate::limits::Limits;
use crate::manifest::{ImageConfig, ImageManifest};
use crate::store::Claim;
use crate::{Digest, Reference};

use files::{Files, Staged};

/// How an archive is to be loaded.
#[derive(Clone, Debug, Default)]
pub struct LoadOptions {
    /// What its image is to be called, whatever the archive calls it. It must then have one only.
    pub reference: Option<Reference>,
    /// What an image may be.
    pub limits: Limits,
}

/// An image that was loaded.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Loaded {
    /// What it is.
    pub manifest_digest: Digest,
    /// What it is called now.
    pub references: Vec<Reference>,
}

/// Loads all images for this host from a file, or from a directory with an OCI layout.
///
/// # Errors
///
/// [`ArchiveError`] when it is no archive of images, or is not as it says; nothing is called anything then.
pub fn load(
    claim: &Claim,
    path: &Path,
    options: &LoadOptions,
) -> Result<Vec<Loaded>, ArchiveError> {
    let io = |source| ArchiveError::io(path, source);
    if fs::metadata(path).map_err(io)?.is_dir() {
        return load_files(claim, &layout::Layout::open(path)?, options);
    }
    load_reader(claim, File::open(path).map_err(io)?, options)
}

/// Loads all images for this host from an archive that is read from anywhere.
///
/// # Errors
///
/// As [`load`].
pub fn load_reader(
    claim: &Claim,
    reader: impl Read + Send,
    options: &LoadOptions,
) -> Result<Vec<Loaded>, ArchiveError> {
    load_files(claim, &staged::read(claim, reader)?, options)
}

fn load_files(
    claim: &Claim,
    files: &dyn Files,
    options: &LoadOptions,
) -> Result<Vec<Loaded>, ArchiveError> {
    let mut found = match oci::images(claim, files)? {
        Some(images) => images,
        None => docker::images(claim, files)?.ok_or(ArchiveError::NoArchive)?,
    };
    match (&options.reference, found.as_mut_slice()) {
        (Some(reference), [image]) => image.references = vec![reference.clone()],
        (Some(_), images) => return Err(ArchiveError::Several(images.len())),
        (None, images) if images.iter().any(|image| image.references.is_empty()) => {
            return Err(ArchiveError::Unnamed);
        }
        _ => {}
    }
    for image in &found {
        image.check_references()?;
        image.store(claim, &options.limits)?;
    }
    for image in &found {
        for reference in &image.references {
            claim.set_reference(reference, &image.digest)?;
        }
    }
    Ok(found
        .into_iter()
        .map(|image| Loaded {
            manifest_digest: image.digest,
            references: image.references,
        })
        .collect())
}

/// An image that is in an archive, complete and as its documents say.
struct Found {
    digest: Digest,
    /// What its references may be pinned to: the digest of an index that led to it.
    index: Option<Digest>,
    manifest: Vec<u8>,
    config: Vec<u8>,
    parsed: (ImageManifest, ImageConfig),
    /// In the order of the manifest's.
    layers: Vec<Staged>,
    references: Vec<Reference>,
}

impl Found {
    /// A reference with a digest says what the image is; an archive could say it of another.
    fn check_references(&self) -> Result<(), ArchiveError> {
        for reference in &self.references {
            let pinned = reference.digest();
            if pinned.is_some_and(|pinned| *pinned != self.digest && Some(*pinned) != self.index) {
                return Err(ArchiveError::Pinned {
                    reference: reference.to_string(),
                    found: self.digest,
                });
            }
        }
        Ok(())
    }

    fn store(&self, claim: &Claim, limits: &Limits) -> Result<(), ArchiveError> {
        let (_, config) = &self.parsed;
        for (layer, diff_id) in self.layers.iter().zip(&config.diff_ids) {
            claim.adopt_blob(&layer.path, &layer.digest)?;
            let progress = &mut |_| std::ops::ControlFlow::Continue(());
            claim.unpack_layer(&layer.digest, diff_id, limits, progress)?;
        }
        claim.commit_image(None, &self.manifest, &self.config, limits)?;
        Ok(())
    }
}

#[cfg(test)]
mod tests;
