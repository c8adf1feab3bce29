//! Writing images to an archive, with every blob as it came.

use std::collections::{BTreeMap, HashSet};
use std::fs::{File, Permissions};
use std::io::{BufWriter, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use rustix::fs::{CWD, RenameFlags, renameat_with};
use serde::Serialize;

use super::sink::{Directory, Sink, Tar};
use super::{ArchiveError, docker, name, oci};
use crate::manifest::{Descriptor, DescriptorPlatform, media};
use crate::store::{Blob, Claim, Hashing, ImageRecord, StoreError};
use crate::{Digest, Reference};

/// The forms of archive that are written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Format {
    /// What `docker save` writes: an OCI layout, and `manifest.json` for those who do not know one.
    #[default]
    Docker,
    /// An OCI layout alone.
    Oci,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct IndexOut {
    schema_version: u32,
    media_type: &'static str,
    manifests: Vec<Descriptor>,
}

/// Writes images to an archive, a tar. `said` is what it is called in messages.
///
/// # Errors
///
/// [`ReferenceMissing`](StoreError::ReferenceMissing) when one is not here, [`Integrity`](StoreError::Integrity) when
/// one was damaged, and whatever writing meets. What was written until then is of no use.
pub fn save<W: Write>(
    claim: &Claim,
    references: &[Reference],
    format: Format,
    out: W,
    said: &Path,
) -> Result<W, ArchiveError> {
    let mut tar = Tar::new(out, said);
    write(claim, references, format, &mut tar)?;
    tar.finish()
}

/// Writes images to a file, a tar, which is there when all of it is and then replaces what was there.
///
/// # Errors
///
/// As [`save`].
pub fn save_file(
    claim: &Claim,
    references: &[Reference],
    format: Format,
    path: &Path,
) -> Result<(), ArchiveError> {
    let io = |source| ArchiveError::io(path, source);
    let parent = parent(path);
    let file = tempfile::Builder::new()
        .prefix(PASSING)
        // What the user's mask leaves of it.
        .permissions(Permissions::from_mode(0o666))
        .tempfile_in(parent)
        .map_err(io)?;
    let out = save(claim, references, format, BufWriter::new(file), path)?;
    let file = out.into_inner().map_err(|error| io(error.into_error()))?;
    file.as_file().sync_all().map_err(io)?;
    file.persist(path).map_err(|error| io(error.error))?;
    sync(parent)
}

/// Writes images to a new directory, as an OCI layout. The directory is there when all of it is.
///
/// # Errors
///
/// As [`save`]; and when there is something already.
pub fn save_dir(claim: &Claim, references: &[Reference], path: &Path) -> Result<(), ArchiveError> {
    let io = |source| ArchiveError::io(path, source);
    let parent = parent(path);
    let dir = tempfile::Builder::new()
        .prefix(PASSING)
        .permissions(Permissions::from_mode(0o777))
        .tempdir_in(parent)
        .map_err(io)?;
    write(
        claim,
        references,
        Format::Oci,
        &mut Directory::new(dir.path()),
    )?;
    // Unlike a plain rename, it does not replace a directory that is empty.
    renameat_with(CWD, dir.path(), CWD, path, RenameFlags::NOREPLACE)
        .map_err(|error| io(error.into()))?;
    let _ = dir.keep();
    sync(parent)
}

/// What is being written is called so, with random letters behind.
const PASSING: &str = ".msb-image-";

fn parent(path: &Path) -> &Path {
    match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    }
}

fn sync(dir: &Path) -> Result<(), ArchiveError> {
    let synced = File::open(dir).and_then(|dir| dir.sync_all());
    synced.map_err(|source| ArchiveError::io(dir, source))
}

fn write(
    claim: &Claim,
    references: &[Reference],
    format: Format,
    sink: &mut dyn Sink,
) -> Result<(), ArchiveError> {
    // Each image once, whatever number of names it has.
    let mut images: BTreeMap<Digest, (ImageRecord, Vec<Reference>)> = BTreeMap::new();
    for reference in references {
        let image = claim
            .find(reference)?
            .ok_or_else(|| StoreError::ReferenceMissing(reference.to_string()))?;
        let entry = images.entry(image.manifest_digest);
        let (_, names) = entry.or_insert_with(|| (image, Vec::new()));
        names.push(reference.clone());
    }
    let mut blobs = Blobs::new(claim);
    let mut manifests = Vec::new();
    let mut entries = Vec::new();
    for (image, names) in images.values() {
        let manifest = blobs.need(&image.manifest_digest)?;
        blobs.need(&image.config_digest)?;
        for layer in &image.layers {
            blobs.need(&layer.blob_digest)?;
        }
        let names: Vec<_> = names.iter().filter_map(portable).collect();
        manifests.extend(described(image, &manifest, &names)?);
        entries.push(docker::Entry {
            config: name::blob(&image.config_digest),
            repo_tags: Some(names.iter().map(ToString::to_string).collect()),
            layers: image
                .layers
                .iter()
                .map(|layer| name::blob(&layer.blob_digest))
                .collect(),
        });
    }
    let index = IndexOut {
        schema_version: 2,
        media_type: media::OCI_INDEX,
        manifests,
    };
    text(
        sink,
        "oci-layout",
        &BTreeMap::from([("imageLayoutVersion", "1.0.0")]),
    )?;
    text(sink, "index.json", &index)?;
    if format == Format::Docker {
        text(sink, docker::MANIFEST, &entries)?;
    }
    blobs.write(sink)
}

/// A reference as it can be in an archive: by its tag. One that is only a digest says nothing that the archive does not,
/// and may be that of an index, which is not in it.
fn portable(reference: &Reference) -> Option<Reference> {
    let tag = reference.tag()?;
    let text = format!("{}/{}:{tag}", reference.registry(), reference.repository());
    text.parse().ok()
}

/// Entries of the index: one for each name, or one without.
fn described(
    image: &ImageRecord,
    manifest: &Blob,
    names: &[Reference],
) -> Result<Vec<Descriptor>, ArchiveError> {
    let bytes = manifest.read_document()?;
    let named = media::of_document(&bytes);
    let plain = Descriptor {
        media_type: named.unwrap_or_else(|| media::OCI_MANIFEST.to_owned()),
        digest: image.manifest_digest,
        size: manifest.size(),
        platform: Some(DescriptorPlatform {
            architecture: image.architecture.clone(),
            os: image.os.clone(),
            variant: None,
        })
        .filter(|platform| !platform.os.is_empty()),
        annotations: BTreeMap::new(),
    };
    if names.is_empty() {
        return Ok(vec![plain]);
    }
    let named = names.iter().map(|name| {
        let tag = name.tag().unwrap_or_default().to_owned();
        Descriptor {
            annotations: BTreeMap::from([
                (oci::IMAGE_NAME.to_owned(), name.to_string()),
                (oci::REF_NAME.to_owned(), tag),
            ]),
            ..plain.clone()
        }
    });
    Ok(named.collect())
}

fn text(sink: &mut dyn Sink, name: &str, value: &impl Serialize) -> Result<(), ArchiveError> {
    let bytes = serde_json::to_vec(value).map_err(ArchiveError::json(name))?;
    sink.file(name, bytes.len() as u64, &mut bytes.as_slice())
}

/// The blobs of an archive, each once, in the order in which they were first needed.
struct Blobs<'a> {
    claim: &'a Claim,
    needed: Vec<Blob>,
    known: HashSet<Digest>,
}

impl<'a> Blobs<'a> {
    fn new(claim: &'a Claim) -> Self {
        Self {
            claim,
            needed: Vec::new(),
            known: HashSet::new(),
        }
    }

    fn need(&mut self, digest: &Digest) -> Result<Blob, ArchiveError> {
        let blob = self.claim.store().blob(digest)?;
        let blob = blob.ok_or(StoreError::BlobMissing(*digest))?;
        if self.known.insert(*digest) {
            self.needed.push(blob.clone());
        }
        Ok(blob)
    }

    fn write(self, sink: &mut dyn Sink) -> Result<(), ArchiveError> {
        for blob in &self.needed {
            let mut reader = Hashing::new(blob.open()?);
            let name = name::blob(blob.digest());
            sink.file(&name, blob.size(), &mut reader)?;
            // As much as was written, and no more.
            if reader.digest() != *blob.digest() {
                self.claim.check_blob(blob)?;
                // Whoever changed it has changed it back.
                return Err(StoreError::WrongDigest {
                    expected: *blob.digest(),
                    found: reader.digest(),
                }
                .into());
            }
        }
        Ok(())
    }
}
