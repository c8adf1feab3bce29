//! Disks that are mapped into the guest's memory.

use serde::{Deserialize, Serialize};

use crate::config::Source;
use crate::disk::{DiskContent, DiskExtent, OneOfTwo};

/// One disk that is mapped, `/dev/pmem0` onwards in the order given. It is read-only, and all machines that map
/// a file have the host's page cache of it in common.
///
/// In JSON it has either `"path"`, or `"extents"`, as a [`DiskConfig`](crate::DiskConfig) has.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "Shape", into = "Shape")]
pub struct PmemConfig {
    /// Where its bytes are. All parts begin and end at multiples of 4096 in their files.
    pub content: DiskContent,
}

impl PmemConfig {
    /// A disk that is all of one file.
    pub fn whole(source: impl Into<Source>) -> Self {
        Self {
            content: DiskContent::Whole(source.into()),
        }
    }
}

/// A mapped disk as it is written.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Shape {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    path: Option<Source>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    extents: Option<Vec<DiskExtent>>,
}

impl TryFrom<Shape> for PmemConfig {
    type Error = OneOfTwo;

    fn try_from(shape: Shape) -> Result<Self, OneOfTwo> {
        Ok(Self {
            content: DiskContent::of(shape.path, shape.extents)?,
        })
    }
}

impl From<PmemConfig> for Shape {
    fn from(disk: PmemConfig) -> Self {
        let (path, extents) = disk.content.into_parts();
        Self { path, extents }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::VmConfig;

    #[test]
    fn mapped_disks_in_json() {
        let text = r#"{"kernel":"k","pmem":[{"path":"root.erofs"},
            {"extents":[{"path":{"fd":3},"offset":4096,"length":8192}]}]}"#;
        let config: VmConfig = serde_json::from_str(text).unwrap();
        let extent = DiskExtent {
            path: Source::Fd { fd: 3 },
            offset: 4096,
            length: 8192,
        };
        let content = DiskContent::Extents(vec![extent]);
        let whole = PmemConfig::whole(Source::Path("root.erofs".into()));
        assert_eq!(config.pmem, [whole, PmemConfig { content }]);
        let again = serde_json::from_str(&serde_json::to_string(&config).unwrap()).unwrap();
        assert_eq!(config, again);
    }

    #[test]
    fn what_it_cannot_be_is_refused() {
        for json in [
            "{}",
            r#"{"path":"a","extents":[]}"#,
            r#"{"path":"a","read_only":false}"#,
            r#"{"path":"a","id":"root"}"#,
        ] {
            assert!(serde_json::from_str::<PmemConfig>(json).is_err(), "{json}");
        }
    }
}
