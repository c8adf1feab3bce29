//! Media types: what a descriptor says that the bytes are.

use std::fmt;

use serde::Deserialize;

const OCI: &str = "application/vnd.oci.image.";
const DOCKER_MANIFEST: &str = "application/vnd.docker.distribution.manifest.";
const DOCKER_LAYER: &str = "application/vnd.docker.image.rootfs.";

/// An OCI index.
pub const OCI_INDEX: &str = "application/vnd.oci.image.index.v1+json";
/// An OCI image manifest.
pub const OCI_MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
/// An OCI image's configuration.
pub const OCI_CONFIG: &str = "application/vnd.oci.image.config.v1+json";
/// An OCI layer that is not compressed.
pub const OCI_LAYER: &str = "application/vnd.oci.image.layer.v1.tar";
/// An OCI layer that is compressed with gzip.
pub const OCI_LAYER_GZIP: &str = "application/vnd.oci.image.layer.v1.tar+gzip";
/// An OCI layer that is compressed with zstd.
pub const OCI_LAYER_ZSTD: &str = "application/vnd.oci.image.layer.v1.tar+zstd";
/// Docker's index.
pub const DOCKER_INDEX: &str = "application/vnd.docker.distribution.manifest.list.v2+json";
/// Docker's manifest, version 2, schema 2.
pub const DOCKER_V2S2: &str = "application/vnd.docker.distribution.manifest.v2+json";

/// Every media type of a manifest or an index that is understood: what to ask a registry for.
pub const ACCEPTED: [&str; 4] = [OCI_INDEX, OCI_MANIFEST, DOCKER_INDEX, DOCKER_V2S2];

/// What a document is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// The manifest of one image.
    Image,
    /// An index of several.
    Index,
}

impl Kind {
    /// What this media type is for; `None` for others, which say nothing about it.
    pub fn of(media_type: &str) -> Option<Self> {
        match media_type {
            OCI_INDEX | DOCKER_INDEX => Some(Self::Index),
            OCI_MANIFEST | DOCKER_V2S2 => Some(Self::Image),
            _ => None,
        }
    }

    /// Whether this media type is of the family of manifests, understood or not.
    pub fn is_document(media_type: &str) -> bool {
        Self::of(media_type).is_some() || media_type.starts_with(DOCKER_MANIFEST)
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Image => "the manifest of one image",
            Self::Index => "an index of images",
        })
    }
}

/// How a layer's tar is compressed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Compression {
    /// Not at all.
    None,
    /// `gzip`.
    Gzip,
    /// `zstd`.
    Zstd,
}

impl Compression {
    /// What a layer's media type says; `None` for a media type that is no layer of files.
    pub fn of(media_type: &str) -> Option<Self> {
        let tar = if let Some(oci) = media_type.strip_prefix(OCI) {
            oci.strip_prefix("layer.v1.tar")
                .or_else(|| oci.strip_prefix("layer.nondistributable.v1.tar"))?
        } else {
            let docker = media_type.strip_prefix(DOCKER_LAYER)?;
            docker
                .strip_prefix("diff.tar")
                .or_else(|| docker.strip_prefix("foreign.diff.tar"))?
        };
        match tar {
            "" => Some(Self::None),
            "+gzip" | ".gzip" => Some(Self::Gzip),
            "+zstd" | ".zstd" => Some(Self::Zstd),
            _ => None,
        }
    }
}

/// What a document calls itself.
pub(crate) fn of_document(bytes: &[u8]) -> Option<String> {
    #[derive(Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct Called {
        media_type: Option<String>,
    }
    serde_json::from_slice::<Called>(bytes).ok()?.media_type
}

/// Whether this is an image's configuration. Early releases of Docker called it bytes.
pub(super) fn is_config(media_type: &str) -> bool {
    matches!(
        media_type,
        OCI_CONFIG | "application/vnd.docker.container.image.v1+json" | "application/octet-stream"
    )
}
