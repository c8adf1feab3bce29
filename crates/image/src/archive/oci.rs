//! OCI layouts (OCI image specification, "Image Layout").
//!
//! `index.json` names images. An entry is a manifest, or an index that leads to one for each platform; entries with
//! one name are a choice as well. What an entry is called is in its annotations: containerd and Docker write the whole
//! reference in one of their own and the tag in the specification's, others write either in the latter.

use std::collections::BTreeMap;

use serde::Deserialize;

use super::files::{self, Files};
use super::{ArchiveError, Found, docker, name};
use crate::Digest;
use crate::Reference;
use crate::manifest::{
    Descriptor, Document, ImageConfig, ImageManifest, Index, Kind, MAX_DEPTH, ManifestError,
    Platform,
};
use crate::store::Claim;

const LAYOUT: &str = "oci-layout";
const INDEX: &str = "index.json";
/// Where containerd and Docker write the whole reference.
pub(super) const IMAGE_NAME: &str = "io.containerd.image.name";
/// Where the specification has a name: a tag for some, a whole reference for others.
pub(super) const REF_NAME: &str = "org.opencontainers.image.ref.name";

/// The most images of one archive.
pub(super) const MAX_IMAGES: usize = 200;
/// The most manifests, indexes and configurations that are looked at on the way to one image.
const MAX_LOOKED_AT: usize = 64;

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct LayoutVersion {
    image_layout_version: String,
}

/// The images of a layout; `None` if it is none.
pub(super) fn images(claim: &Claim, files: &dyn Files) -> Result<Option<Vec<Found>>, ArchiveError> {
    let Some(index) = files::document(claim, files, INDEX)? else {
        return Ok(None);
    };
    if let Some(layout) = files::document(claim, files, LAYOUT)? {
        let layout: LayoutVersion =
            serde_json::from_slice(&layout).map_err(ArchiveError::json(LAYOUT))?;
        let version = layout.image_layout_version;
        if !version.starts_with("1.") {
            return Err(ArchiveError::Version(version.chars().take(40).collect()));
        }
    }
    let index = match Document::parse(&index, None).map_err(ArchiveError::document(INDEX))? {
        Document::Index(index) => index,
        Document::Image(_) => {
            return Err(ArchiveError::document(INDEX)(ManifestError::Neither));
        }
    };
    let mut found: Vec<Found> = Vec::new();
    for (called, choice) in named(index)? {
        let mut image = Search::new(claim, files).choose(&choice, None, 0)?;
        image.references = called;
        // Several names of one image are several entries.
        match found.iter_mut().find(|other| other.digest == image.digest) {
            Some(other) => other.references.append(&mut image.references),
            None => found.push(image),
        }
    }
    let mut tags = docker::tags(claim, files)?;
    for image in &mut found {
        let more = tags.remove(&image.parsed.0.config.digest);
        image.references.extend(more.into_iter().flatten());
        image.references.sort_by_key(ToString::to_string);
        image.references.dedup();
    }
    Ok(Some(found))
}

/// The entries, those of one name together.
fn named(index: Index) -> Result<Vec<(Vec<Reference>, Index)>, ArchiveError> {
    let mut by_name: BTreeMap<Option<String>, Vec<Descriptor>> = BTreeMap::new();
    for entry in index.manifests {
        let called = entry.annotations.get(IMAGE_NAME);
        let called = called.or_else(|| entry.annotations.get(REF_NAME));
        by_name.entry(called.cloned()).or_default().push(entry);
    }
    if by_name.len() > MAX_IMAGES {
        return Err(ArchiveError::TooManyImages(MAX_IMAGES));
    }
    by_name
        .into_iter()
        .filter(|(called, manifests)| called.is_some() || manifests.iter().any(for_somebody))
        .map(|(called, manifests)| {
            let references = called.as_deref().map(reference).transpose()?.flatten();
            Ok((references.into_iter().collect(), Index { manifests }))
        })
        .collect()
}

/// Whether it can be an image. Attestations and the like have no name and are for nobody.
fn for_somebody(entry: &Descriptor) -> bool {
    let platform = entry.platform.as_ref();
    Kind::of(&entry.media_type).is_some()
        && platform.is_none_or(|platform| platform.os != "unknown")
}

/// What an annotation calls an image. A tag alone, which is what the specification's often is, is no name.
fn reference(text: &str) -> Result<Option<Reference>, ArchiveError> {
    if !text.contains([':', '/', '@']) {
        return Ok(None);
    }
    let parsed = text.parse().map_err(|source| ArchiveError::Reference {
        text: text.chars().take(200).collect(),
        source,
    });
    parsed.map(Some)
}

/// The way to one image.
struct Search<'a> {
    claim: &'a Claim,
    files: &'a dyn Files,
    looked_at: usize,
}

impl<'a> Search<'a> {
    fn new(claim: &'a Claim, files: &'a dyn Files) -> Self {
        Self {
            claim,
            files,
            looked_at: 0,
        }
    }

    /// The first of the candidates that is for this host.
    fn choose(
        &mut self,
        index: &Index,
        called: Option<Digest>,
        depth: usize,
    ) -> Result<Found, ArchiveError> {
        let wrong = ArchiveError::document(INDEX);
        if depth == MAX_DEPTH {
            return Err(wrong(ManifestError::TooDeep));
        }
        let mut other = None;
        for candidate in index.candidates(&Platform::host()).map_err(&wrong)? {
            match self.open(candidate, called, depth) {
                Err(ArchiveError::Document {
                    source:
                        source
                        @ (ManifestError::NoPlatform { .. } | ManifestError::WrongPlatform { .. }),
                    name,
                }) => other = Some(ArchiveError::Document { name, source }),
                opened => return opened,
            }
        }
        Err(other.unwrap_or(ArchiveError::NoArchive))
    }

    fn open(
        &mut self,
        descriptor: &Descriptor,
        called: Option<Digest>,
        depth: usize,
    ) -> Result<Found, ArchiveError> {
        self.looked_at += 1;
        let name = name::blob(&descriptor.digest);
        let wrong = ArchiveError::document(&name);
        if self.looked_at > MAX_LOOKED_AT {
            return Err(wrong(ManifestError::TooDeep));
        }
        let bytes = files::blob_document(self.claim, self.files, descriptor)?;
        match Document::parse(&bytes, Some(&descriptor.media_type)).map_err(&wrong)? {
            Document::Index(index) => {
                self.choose(&index, called.or(Some(descriptor.digest)), depth + 1)
            }
            Document::Image(image) => self.image(descriptor.digest, called, bytes, image),
        }
    }

    fn image(
        &mut self,
        digest: Digest,
        index: Option<Digest>,
        manifest: Vec<u8>,
        parsed: ImageManifest,
    ) -> Result<Found, ArchiveError> {
        let name = name::blob(&parsed.config.digest);
        let wrong = ArchiveError::document(&name);
        let bytes = files::blob_document(self.claim, self.files, &parsed.config)?;
        let config = ImageConfig::parse(&bytes).map_err(&wrong)?;
        config.check_platform(&Platform::host()).map_err(&wrong)?;
        parsed.check_config(&config).map_err(&wrong)?;
        let layers = parsed.layers.iter();
        let layers = layers.map(|layer| files::blob(self.claim, self.files, layer));
        Ok(Found {
            digest,
            index,
            manifest,
            config: bytes,
            layers: layers.collect::<Result<_, _>>()?,
            parsed: (parsed, config),
            references: Vec::new(),
        })
    }
}
