//! The names in an archive. There are no others, so a name is known or wrong, and none is a path.

use std::fmt;

use crate::Digest;
use crate::snapshot::manifest::{DEFAULT_UPPER_FILE, MANIFEST_FILENAME};

/// What GNU tar calls the directory of a sparse file's parts.
const SPARSE_DIR: &str = "GNUSparseFile.0";

/// The name of one file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Name {
    Contents,
    Manifest(Digest),
    Upper(Digest),
    PatchIndex(Digest),
    PatchData(Digest),
    Image(ImagePath),
    End,
}

/// A file of an image's OCI layout (OCI image specification, "Image Layout").
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum ImagePath {
    /// `oci-layout`: the layout's version.
    Layout,
    /// `index.json`: the images' manifests.
    Index,
    /// `blobs/sha256/<hex>`: a manifest, a configuration or a layer.
    Blob(Digest),
}

impl Name {
    /// The name that these bytes are, if they are one.
    pub(super) fn parse(bytes: &[u8]) -> Option<Self> {
        let text = std::str::from_utf8(bytes).ok()?;
        match text {
            "snapshot.json" => return Some(Self::Contents),
            "end.json" => return Some(Self::End),
            "image/oci-layout" => return Some(Self::Image(ImagePath::Layout)),
            "image/index.json" => return Some(Self::Image(ImagePath::Index)),
            _ => {}
        }
        if let Some(hex) = text.strip_prefix("image/blobs/sha256/") {
            return Some(Self::Image(ImagePath::Blob(digest(hex)?)));
        }
        let (hex, file) = text.strip_prefix("snapshots/")?.split_once('/')?;
        let digest = digest(hex)?;
        match file {
            MANIFEST_FILENAME => Some(Self::Manifest(digest)),
            DEFAULT_UPPER_FILE => Some(Self::Upper(digest)),
            "patch/index" => Some(Self::PatchIndex(digest)),
            "patch/data" => Some(Self::PatchData(digest)),
            _ => None,
        }
    }

    /// What the header of a sparse file is called, whose own name is in its extended header.
    pub(super) fn sparse_header(&self) -> String {
        let name = self.to_string();
        match name.rsplit_once('/') {
            Some((dir, file)) => format!("{dir}/{SPARSE_DIR}/{file}"),
            None => format!("{SPARSE_DIR}/{name}"),
        }
    }
}

fn digest(hex: &str) -> Option<Digest> {
    format!("sha256:{hex}").parse().ok()
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let of = |f: &mut fmt::Formatter<'_>, digest: &Digest, file: &str| {
            write!(f, "snapshots/{}/{file}", digest.hex())
        };
        match self {
            Self::Contents => f.write_str("snapshot.json"),
            Self::Manifest(digest) => of(f, digest, MANIFEST_FILENAME),
            Self::Upper(digest) => of(f, digest, DEFAULT_UPPER_FILE),
            Self::PatchIndex(digest) => of(f, digest, "patch/index"),
            Self::PatchData(digest) => of(f, digest, "patch/data"),
            Self::Image(path) => write!(f, "image/{path}"),
            Self::End => f.write_str("end.json"),
        }
    }
}

impl fmt::Display for ImagePath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Layout => f.write_str("oci-layout"),
            Self::Index => f.write_str("index.json"),
            Self::Blob(digest) => write!(f, "blobs/sha256/{}", digest.hex()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_reads_as_it_is_written() {
        let digest = Digest::of(b"x");
        for name in [
            Name::Contents,
            Name::Manifest(digest),
            Name::Upper(digest),
            Name::PatchIndex(digest),
            Name::PatchData(digest),
            Name::Image(ImagePath::Layout),
            Name::Image(ImagePath::Index),
            Name::Image(ImagePath::Blob(digest)),
            Name::End,
        ] {
            assert_eq!(Name::parse(name.to_string().as_bytes()), Some(name));
        }
    }

    #[test]
    fn what_is_no_name_is_none() {
        let hex = Digest::of(b"x").hex();
        for text in [
            String::new(),
            "/snapshot.json".to_owned(),
            "./snapshot.json".to_owned(),
            "snapshots/../end.json".to_owned(),
            format!("snapshots/{hex}/../../x"),
            format!("snapshots/{hex}/patch/../upper.ext4"),
            format!("snapshots/{hex}/other"),
            format!("snapshots/{}/upper.ext4", hex.to_uppercase()),
            format!("image/blobs/sha512/{hex}"),
            "image/blobs/sha256/../../x".to_owned(),
            "image/../end.json".to_owned(),
            "end.json\0".to_owned(),
        ] {
            assert_eq!(Name::parse(text.as_bytes()), None, "{text}");
        }
        assert_eq!(Name::parse(b"\xff"), None);
    }
}
