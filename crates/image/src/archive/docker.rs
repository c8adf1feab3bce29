//! Docker archives: `manifest.json` names, for each image, a configuration, layers, and what the image is called.
//!
//! There is no manifest in the sense of a registry, which an image is identified by. One is made: always the same for
//! the same configuration and layers, so an image that is loaded twice is one image.

use std::collections::HashMap;

use serde::{Deserialize, Serialize};

use super::files::{self, Files, Links, Staged};
use super::oci::MAX_IMAGES;
use super::{ArchiveError, Found, name};
use crate::limits::{MAX_DOCUMENT, MAX_LAYERS};
use crate::manifest::{ImageConfig, ImageManifest, ManifestError, Platform, media};
use crate::store::Claim;
use crate::{Digest, Reference};

pub(super) const MANIFEST: &str = "manifest.json";

/// An image, as `manifest.json` has it.
#[derive(Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct Entry {
    pub(super) config: String,
    #[serde(default)]
    pub(super) repo_tags: Option<Vec<String>>,
    pub(super) layers: Vec<String>,
}

/// The manifest that is made.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Made<'a> {
    schema_version: u32,
    media_type: &'a str,
    config: MadeDescriptor<'a>,
    layers: Vec<MadeDescriptor<'a>>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct MadeDescriptor<'a> {
    media_type: &'a str,
    digest: Digest,
    size: u64,
}

/// The images of an archive; `None` if it is none.
pub(super) fn images(claim: &Claim, files: &dyn Files) -> Result<Option<Vec<Found>>, ArchiveError> {
    let Some(entries) = entries(claim, files)? else {
        return Ok(None);
    };
    let images = entries.iter().map(|entry| image(claim, files, entry));
    images.collect::<Result<_, _>>().map(Some)
}

/// What images are called, by the digests of their configurations: a layout's `manifest.json` says it too.
pub(super) fn tags(
    claim: &Claim,
    files: &dyn Files,
) -> Result<HashMap<Digest, Vec<Reference>>, ArchiveError> {
    let mut tags: HashMap<Digest, Vec<Reference>> = HashMap::new();
    for entry in entries(claim, files)?.unwrap_or_default() {
        // Of a layout's blob the name says the digest, and it was checked.
        let digest = entry.config.strip_prefix("blobs/sha256/");
        let digest = digest.and_then(|hex| format!("sha256:{hex}").parse().ok());
        if let Some(digest) = digest {
            tags.entry(digest).or_default().extend(references(&entry)?);
        }
    }
    Ok(tags)
}

fn entries(claim: &Claim, files: &dyn Files) -> Result<Option<Vec<Entry>>, ArchiveError> {
    let Some(bytes) = files::document(claim, files, MANIFEST)? else {
        return Ok(None);
    };
    let entries: Vec<Entry> =
        serde_json::from_slice(&bytes).map_err(ArchiveError::json(MANIFEST))?;
    match entries.len() > MAX_IMAGES {
        true => Err(ArchiveError::TooManyImages(MAX_IMAGES)),
        false => Ok(Some(entries)),
    }
}

fn references(entry: &Entry) -> Result<Vec<Reference>, ArchiveError> {
    let tags = entry.repo_tags.iter().flatten();
    tags.map(|text| {
        text.parse().map_err(|source| ArchiveError::Reference {
            text: text.chars().take(200).collect(),
            source,
        })
    })
    .collect()
}

fn image(claim: &Claim, files: &dyn Files, entry: &Entry) -> Result<Found, ArchiveError> {
    if entry.layers.len() > MAX_LAYERS {
        let many = ManifestError::TooManyLayers(entry.layers.len());
        return Err(ArchiveError::document(MANIFEST)(many));
    }
    let staged = file(claim, files, &entry.config, MAX_DOCUMENT)?;
    check_name(&entry.config, &staged)?;
    let bytes = staged.read()?;
    let wrong = ArchiveError::document(&entry.config);
    let config = ImageConfig::parse(&bytes).map_err(&wrong)?;
    config.check_platform(&Platform::host()).map_err(&wrong)?;
    let layers = entry.layers.iter();
    let layers = layers.map(|layer| file(claim, files, layer, u64::MAX));
    let layers = layers.collect::<Result<Vec<_>, _>>()?;
    let manifest = made(&staged, &layers)?;
    let parsed = ImageManifest::parse(&manifest).map_err(ArchiveError::document(MANIFEST))?;
    parsed.check_config(&config).map_err(&wrong)?;
    Ok(Found {
        digest: Digest::of(&manifest),
        index: None,
        manifest,
        config: bytes,
        parsed: (parsed, config),
        layers,
        references: references(entry)?,
    })
}

fn file(claim: &Claim, files: &dyn Files, named: &str, limit: u64) -> Result<Staged, ArchiveError> {
    let missing = || ArchiveError::Missing(named.chars().take(200).collect());
    let name = name::clean(named.as_bytes())?.ok_or_else(missing)?;
    let file = files.file(claim, &name, Links::Followed, limit)?;
    file.ok_or_else(missing)
}

/// A file that is named by a digest must have it. (Layers are named by other things as well: older releases make
/// numbers up that look like digests. What a layer is, the configuration says.)
fn check_name(name: &str, staged: &Staged) -> Result<(), ArchiveError> {
    let last = name.rsplit('/').next().unwrap_or(name);
    let hex = last.strip_suffix(".json").unwrap_or(last);
    let hex = hex.strip_prefix("sha256:").unwrap_or(hex);
    match format!("sha256:{hex}").parse::<Digest>() {
        Ok(digest) if digest != staged.digest => Err(ArchiveError::WrongDigest {
            name: name.to_owned(),
            found: staged.digest,
        }),
        _ => Ok(()),
    }
}

fn made(config: &Staged, layers: &[Staged]) -> Result<Vec<u8>, ArchiveError> {
    let layers = layers.iter().map(|layer| {
        let first = layer.first()?;
        Ok(MadeDescriptor {
            media_type: match first {
                [0x1f, 0x8b, ..] => media::OCI_LAYER_GZIP,
                [0x28, 0xb5, 0x2f, 0xfd] => media::OCI_LAYER_ZSTD,
                _ => media::OCI_LAYER,
            },
            digest: layer.digest,
            size: layer.size,
        })
    });
    let manifest = Made {
        schema_version: 2,
        media_type: media::OCI_MANIFEST,
        config: MadeDescriptor {
            media_type: media::OCI_CONFIG,
            digest: config.digest,
            size: config.size,
        },
        layers: layers.collect::<Result<_, ArchiveError>>()?,
    };
    serde_json::to_vec(&manifest).map_err(ArchiveError::json(MANIFEST))
}
