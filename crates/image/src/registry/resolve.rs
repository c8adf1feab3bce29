//! From a name to an image: the manifest for this platform, its configuration, and what layers it has.
//!
//! Each document is asked for by the digest that the one before it gave, so only the first can be another one
//! tomorrow, and not even that if the reference has a digest itself.

use super::client::{Get, Repository};
use super::document::Answer;
use super::error::RegistryError;
use super::outcome;
use crate::limits::{Limits, MAX_DOCUMENT};
use crate::manifest::{
    Descriptor, Document, ImageConfig, ImageManifest, ManifestError, Platform, media,
};
use crate::{Digest, Reference};

/// Documents that are read on the way to one manifest.
const MAX_STEPS: usize = 12;

/// An image, before its layers are here.
#[derive(Clone, Debug)]
pub(super) struct Resolved {
    pub(super) manifest: Answer,
    pub(super) config: Answer,
    pub(super) layers: Vec<LayerBlob>,
}

/// A layer as a manifest has it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct LayerBlob {
    pub(super) digest: Digest,
    pub(super) size: u64,
    pub(super) diff_id: Digest,
}

impl Repository {
    /// What the reference stands for now.
    pub(super) async fn resolve(
        &self,
        reference: &Reference,
        platform: &Platform,
        limits: &Limits,
    ) -> Result<Resolved, RegistryError> {
        let digest = reference.digest().copied();
        let name = match (digest, reference.tag()) {
            (Some(digest), _) => digest.to_string(),
            (None, tag) => tag.unwrap_or("latest").to_owned(),
        };
        let mut unfit = None;
        // The next is the last of these.
        let mut ahead = vec![(name, digest)];
        for _ in 0..MAX_STEPS {
            let Some((name, digest)) = ahead.pop() else {
                break;
            };
            let answer = self.manifest(&name, digest).await?;
            let parsed = Document::parse(&answer.bytes, answer.media_type.as_deref());
            let tried = match parsed {
                Ok(Document::Index(index)) => index.candidates(platform).map(|found| {
                    let names = found.iter().rev().map(|entry| entry.digest);
                    ahead.extend(names.map(|digest| (digest.to_string(), Some(digest))));
                }),
                Ok(Document::Image(image)) => {
                    match self.image(answer, &image, platform, limits).await? {
                        Ok(resolved) => return Ok(resolved),
                        Err(error) => Err(error),
                    }
                }
                Err(error) => Err(error),
            };
            match tried {
                Ok(()) => {}
                // Another branch may have one.
                Err(
                    error
                    @ (ManifestError::NoPlatform { .. } | ManifestError::WrongPlatform { .. }),
                ) => unfit = Some(error),
                Err(error) => return Err(self.malformed("the manifest", &error)),
            }
        }
        let detail = match unfit {
            Some(error) => error.to_string(),
            None => ManifestError::TooDeep.to_string(),
        };
        Err(RegistryError::NoPlatform {
            image: reference.to_string(),
            detail,
        })
    }

    async fn manifest(&self, name: &str, digest: Option<Digest>) -> Result<Answer, RegistryError> {
        let get = Get {
            path: &format!("manifests/{name}"),
            accept: &media::ACCEPTED.join(", "),
            from: 0,
            what: &format!("the manifest {name:?}"),
        };
        self.document(get, digest).await
    }

    /// The image of a manifest; the inner error when it is not for the platform, or makes no sense.
    async fn image(
        &self,
        manifest: Answer,
        image: &ImageManifest,
        platform: &Platform,
        limits: &Limits,
    ) -> Result<Result<Resolved, ManifestError>, RegistryError> {
        self.fits("the configuration", &image.config, MAX_DOCUMENT)?;
        for layer in &image.layers {
            self.fits("a layer", layer, limits.layer_bytes)?;
        }
        let get = Get {
            path: &format!("blobs/{}", image.config.digest),
            accept: "*/*",
            from: 0,
            what: "the configuration",
        };
        let config = self.document(get, Some(image.config.digest)).await?;
        if config.bytes.len() as u64 != image.config.size {
            return Err(RegistryError::Size {
                registry: self.registry(),
                digest: image.config.digest,
                expected: image.config.size,
                found: config.bytes.len() as u64,
            });
        }
        let checked = ImageConfig::parse(&config.bytes).and_then(|parsed| {
            parsed.check_platform(platform)?;
            image.check_config(&parsed)?;
            Ok(parsed)
        });
        Ok(checked.map(|parsed| Resolved {
            manifest,
            config,
            layers: layers(image, &parsed),
        }))
    }

    fn fits(&self, what: &str, descriptor: &Descriptor, limit: u64) -> Result<(), RegistryError> {
        match descriptor.size <= limit {
            true => Ok(()),
            false => Err(RegistryError::TooLarge {
                registry: self.registry(),
                what: what.to_owned(),
                limit,
            }),
        }
    }

    fn malformed(&self, what: &str, error: &ManifestError) -> RegistryError {
        let detail = match std::error::Error::source(error) {
            Some(source) => format!("{error}: {source}"),
            None => error.to_string(),
        };
        RegistryError::Malformed {
            registry: self.registry(),
            what: what.to_owned(),
            detail: outcome::cut(&detail),
        }
    }
}

fn layers(image: &ImageManifest, config: &ImageConfig) -> Vec<LayerBlob> {
    let pairs = image.layers.iter().zip(&config.diff_ids);
    pairs
        .map(|(layer, diff_id)| LayerBlob {
            digest: layer.digest,
            size: layer.size,
            diff_id: *diff_id,
        })
        .collect()
}
