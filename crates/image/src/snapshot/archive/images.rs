//! The images of a store, in an archive of snapshots: every blob as it came from the registry.
//!
//! Who reads an archive takes its blobs into the store under their digests, which are looked at, and makes of
//! them the images that the snapshots pin. What the layout's own index says is for other programs. No reference
//! is made or moved: whoever wrote the archive has no say in what `python:3.12` means here.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{Read, Write};
use std::ops::ControlFlow;
use std::time::Duration;

use serde::Serialize;

use super::{ImageFiles, ImagePath, Writer, wrong};
use crate::Digest;
use crate::limits::Limits;
use crate::manifest::{Descriptor, DescriptorPlatform, ImageConfig, ImageManifest, media};
use crate::snapshot::GoOn;
use crate::snapshot::error::{Result, SnapshotError};
use crate::snapshot::integrity::CHUNK;
use crate::store::{Blob, BlobTurn, BlobWriter, Claim, Hashing, Store, StoreError};

/// How long somebody else may take for a blob before we ask whether to go on.
const STEP: Duration = Duration::from_secs(1);

/// A store, as archives need it. What it sent or took in stays in the store for as long as this is held.
#[derive(Debug)]
pub struct StoreImages {
    claim: Claim,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Index {
    schema_version: u32,
    media_type: &'static str,
    manifests: Vec<Descriptor>,
}

impl StoreImages {
    /// Those of this store.
    pub fn of(store: &Store) -> Result<Self> {
        let claim = store.claim().map_err(failed)?;
        Ok(Self { claim })
    }

    /// Writes images into an archive.
    ///
    /// # Errors
    ///
    /// [`ImageMissing`](SnapshotError::ImageMissing) for the first that is not here, and
    /// [`Image`](SnapshotError::Image) when one was damaged.
    pub fn send<W: Write>(
        &self,
        images: &BTreeSet<Digest>,
        archive: &mut Writer<W>,
        go_on: GoOn<'_>,
    ) -> Result<()> {
        let mut blobs: BTreeMap<Digest, Blob> = BTreeMap::new();
        let mut manifests = Vec::new();
        for image in images {
            self.claim.keep(&[*image]).map_err(failed)?;
            let missing = || SnapshotError::ImageMissing { image: *image };
            let record = self.claim.store().image(image).map_err(failed)?;
            let record = record.ok_or_else(missing)?;
            let layers = record.layers.iter().map(|layer| layer.blob_digest);
            for digest in [*image, record.config_digest].into_iter().chain(layers) {
                let blob = self.claim.store().blob(&digest).map_err(failed)?;
                blobs.insert(digest, blob.ok_or_else(missing)?);
            }
            let manifest = blobs.get(image).ok_or_else(missing)?;
            let bytes = manifest.read_document().map_err(failed)?;
            let called = media::of_document(&bytes);
            manifests.push(Descriptor {
                media_type: called.unwrap_or_else(|| media::OCI_MANIFEST.to_owned()),
                digest: *image,
                size: manifest.size(),
                platform: Some(DescriptorPlatform {
                    architecture: record.architecture,
                    os: record.os,
                    variant: None,
                }),
                annotations: BTreeMap::new(),
            });
        }
        let version = BTreeMap::from([("imageLayoutVersion", "1.0.0")]);
        document(archive, ImagePath::Layout, &version)?;
        let index = Index {
            schema_version: 2,
            media_type: media::OCI_INDEX,
            manifests,
        };
        document(archive, ImagePath::Index, &index)?;
        for (digest, blob) in &blobs {
            go_on().map_err(SnapshotError::io(self.claim.store().path()))?;
            let mut file = Hashing::new(blob.open().map_err(failed)?);
            archive.image(ImagePath::Blob(*digest), blob.size(), &mut file)?;
            let found = file.digest();
            if found != *digest {
                self.claim.check_blob(blob).map_err(failed)?;
                return Err(failed(StoreError::WrongDigest {
                    expected: *digest,
                    found,
                }));
            }
        }
        Ok(())
    }

    /// Makes the images that snapshots pin of what was taken in. They are unpacked, which can take long.
    ///
    /// # Errors
    ///
    /// [`Archive`](SnapshotError::Archive) when a part of one did not come or cannot be used.
    pub fn complete(
        &self,
        images: &BTreeSet<Digest>,
        limits: &Limits,
        go_on: GoOn<'_>,
    ) -> Result<()> {
        images
            .iter()
            .try_for_each(|image| self.complete_one(image, limits, go_on))
    }

    fn complete_one(&self, image: &Digest, limits: &Limits, go_on: GoOn<'_>) -> Result<()> {
        let bytes = self.document(image)?;
        let manifest = ImageManifest::parse(&bytes).map_err(|error| unusable(image, &error))?;
        let config_bytes = self.document(&manifest.config.digest)?;
        let config = ImageConfig::parse(&config_bytes).map_err(|error| unusable(image, &error))?;
        for (layer, diff_id) in manifest.layers.iter().zip(&config.diff_ids) {
            let mut ended = None;
            let mut progress = |_| match go_on() {
                Ok(()) => ControlFlow::Continue(()),
                Err(error) => {
                    ended = Some(error);
                    ControlFlow::Break(())
                }
            };
            let unpacked = self
                .claim
                .unpack_layer(&layer.digest, diff_id, limits, &mut progress);
            if let Some(error) = ended {
                return Err(SnapshotError::io(self.claim.store().path())(error));
            }
            unpacked.map_err(came)?;
        }
        self.claim
            .commit_image(None, &bytes, &config_bytes, limits)
            .map(drop)
            .map_err(came)
    }

    fn document(&self, digest: &Digest) -> Result<Vec<u8>> {
        self.claim.keep(&[*digest]).map_err(failed)?;
        let blob = self.claim.store().blob(digest).map_err(failed)?;
        let blob = blob.ok_or_else(|| wrong(format!("{digest} of its image is missing")))?;
        blob.read_document().map_err(came)
    }
}

impl ImageFiles for StoreImages {
    fn file(
        &mut self,
        path: ImagePath,
        size: u64,
        contents: &mut dyn Read,
        go_on: GoOn<'_>,
    ) -> Result<()> {
        let ImagePath::Blob(digest) = path else {
            return Ok(());
        };
        loop {
            match self.claim.begin_blob(&digest, size).map_err(came)? {
                BlobTurn::Present(_) => return Ok(()),
                BlobTurn::Mine(writer) => return take(writer, contents, go_on),
                BlobTurn::Elsewhere(mut other) => {
                    while !other.wait(STEP, &mut |_| {}).map_err(failed)? {
                        go_on().map_err(SnapshotError::io(self.claim.store().path()))?;
                    }
                }
            }
        }
    }
}

fn take(mut writer: BlobWriter, contents: &mut dyn Read, go_on: GoOn<'_>) -> Result<()> {
    // What is here of it came from somewhere else, and this cannot begin in the middle.
    writer.restart().map_err(failed)?;
    let mut chunk = vec![0; CHUNK];
    loop {
        go_on().map_err(super::broken)?;
        let read = contents.read(&mut chunk).map_err(super::broken)?;
        match chunk.get(..read) {
            None | Some([]) => break,
            Some(bytes) => writer.write(bytes).map_err(came)?,
        }
    }
    writer.finish().map(drop).map_err(came)
}

fn document<W: Write>(
    archive: &mut Writer<W>,
    path: ImagePath,
    document: &impl Serialize,
) -> Result<()> {
    let bytes = serde_json::to_vec(document)
        .map_err(|error| SnapshotError::archive(format!("{path} cannot be written: {error}")))?;
    archive.image(path, bytes.len() as u64, &mut &bytes[..])
}

/// What our own store says.
fn failed(source: StoreError) -> SnapshotError {
    SnapshotError::Image {
        source: Box::new(source),
    }
}

/// What the store says of something that came in an archive.
fn came(error: StoreError) -> SnapshotError {
    match error {
        StoreError::WrongDigest { .. }
        | StoreError::WrongSize { .. }
        | StoreError::BlobMissing(_)
        | StoreError::Layer { .. }
        | StoreError::Tree { .. }
        | StoreError::Disk { .. }
        | StoreError::Manifest { .. } => {
            let mut text = error.to_string();
            let mut source = std::error::Error::source(&error);
            while let Some(cause) = source {
                text.push_str(&format!(": {cause}"));
                source = cause.source();
            }
            wrong(format!("its image: {text}"))
        }
        ours => failed(ours),
    }
}

fn unusable(image: &Digest, error: &dyn std::error::Error) -> SnapshotError {
    wrong(format!("its image {image}: {error}"))
}
