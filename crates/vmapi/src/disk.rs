//! Disks: all of a file, or stretches of several laid end to end.

use serde::{Deserialize, Serialize};

use crate::config::Source;

/// One raw disk, `/dev/vda` onwards in the order given.
///
/// In JSON it has either `"path"`, or `"extents"`, a list: `{"path": "root.ext4"}`, or `{"extents":
/// [{"path": "a", "length": 4096}, {"path": "b", "offset": 512, "length": 1024}], "read_only": true}`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "Shape", into = "Shape")]
pub struct DiskConfig {
    /// Where its bytes are.
    pub content: DiskContent,
    /// Opened and presented read-only; may then be shared with other machines.
    pub read_only: bool,
    /// What the guest sees as the disk's serial, at most 20 bytes.
    pub id: Option<String>,
}

/// Where the bytes of a disk are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum DiskContent {
    /// In one raw image or block device, all of which is the disk.
    Whole(Source),
    /// In stretches of files, one after the other. Only a disk that is read-only can be made so.
    Extents(Vec<DiskExtent>),
}

/// A stretch of a file that is a part of a disk. Several may be of one file: they may name the same
/// descriptor.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DiskExtent {
    /// The file or block device.
    pub path: Source,
    /// Where it begins in that, in bytes: a multiple of 512, or of 4096 where the disk is mapped.
    #[serde(default)]
    pub offset: u64,
    /// Its bytes: a multiple of 512, or of 4096 where the disk is mapped.
    pub length: u64,
}

impl DiskConfig {
    /// A disk that is all of one raw image, without a serial.
    pub fn whole(source: impl Into<Source>, read_only: bool) -> Self {
        Self {
            content: DiskContent::Whole(source.into()),
            read_only,
            id: None,
        }
    }
}

/// A disk as it is written.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Shape {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    path: Option<Source>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    extents: Option<Vec<DiskExtent>>,
    #[serde(default)]
    read_only: bool,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    id: Option<String>,
}

/// A disk with no content, or with two.
#[derive(Debug, thiserror::Error)]
#[error("a disk has either `path`, or `extents`, a list of {{path, offset, length}}")]
pub(crate) struct OneOfTwo;

impl DiskContent {
    /// From the two ways to write it.
    pub(crate) fn of(
        path: Option<Source>,
        extents: Option<Vec<DiskExtent>>,
    ) -> Result<Self, OneOfTwo> {
        match (path, extents) {
            (Some(source), None) => Ok(Self::Whole(source)),
            (None, Some(extents)) => Ok(Self::Extents(extents)),
            _ => Err(OneOfTwo),
        }
    }

    /// To the two ways to write it.
    pub(crate) fn into_parts(self) -> (Option<Source>, Option<Vec<DiskExtent>>) {
        match self {
            Self::Whole(source) => (Some(source), None),
            Self::Extents(extents) => (None, Some(extents)),
        }
    }
}

impl TryFrom<Shape> for DiskConfig {
    type Error = OneOfTwo;

    fn try_from(shape: Shape) -> Result<Self, OneOfTwo> {
        Ok(Self {
            content: DiskContent::of(shape.path, shape.extents)?,
            read_only: shape.read_only,
            id: shape.id,
        })
    }
}

impl From<DiskConfig> for Shape {
    fn from(disk: DiskConfig) -> Self {
        let (path, extents) = disk.content.into_parts();
        Self {
            path,
            extents,
            read_only: disk.read_only,
            id: disk.id,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_kinds_in_json() {
        let plain = r#"{"path":"root.ext4","read_only":false}"#;
        let disk: DiskConfig = serde_json::from_str(plain).unwrap();
        assert_eq!(
            disk,
            DiskConfig::whole(Source::Path("root.ext4".into()), false)
        );
        assert_eq!(serde_json::to_string(&disk).unwrap(), plain);

        let list = r#"{"extents":[{"path":"a","length":4096},{"path":{"fd":3},"offset":512,"length":1024}],
            "read_only":true,"id":"root"}"#;
        let disk: DiskConfig = serde_json::from_str(list).unwrap();
        let expected = [
            DiskExtent {
                path: Source::Path("a".into()),
                offset: 0,
                length: 4096,
            },
            DiskExtent {
                path: Source::Fd { fd: 3 },
                offset: 512,
                length: 1024,
            },
        ];
        assert_eq!(disk.content, DiskContent::Extents(expected.to_vec()));
        let again = serde_json::from_str(&serde_json::to_string(&disk).unwrap()).unwrap();
        assert_eq!(disk, again);
    }

    #[test]
    fn a_disk_has_one_content() {
        for json in [
            r#"{}"#,
            r#"{"read_only":true}"#,
            r#"{"path":"a","extents":[]}"#,
        ] {
            let error = serde_json::from_str::<DiskConfig>(json)
                .unwrap_err()
                .to_string();
            assert!(error.contains("either `path`, or `extents`"), "{error}");
        }
        for json in [
            r#"{"extents":[{"path":"a"}]}"#,
            r#"{"extents":[{"path":"a","length":-1}]}"#,
            r#"{"extents":[{"path":"a","length":1,"len":1}]}"#,
        ] {
            assert!(serde_json::from_str::<DiskConfig>(json).is_err(), "{json}");
        }
    }
}
