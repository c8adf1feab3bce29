//! What sandboxes of OCI images have where they do not say it themselves.

use std::path::Path;

use msb_types::{MAX_UPPER_MIB, MIN_UPPER_MIB};
use serde::Deserialize;

use super::file;
use crate::error::MicrosandboxResult;

/// The part of the file that is read here.
#[derive(Default, Deserialize)]
#[serde(default)]
struct File {
    oci: Oci,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Oci {
    upper_size_mib: Option<u32>,
}

/// The size of writable layers that the file of this home says, in MiB. May block.
pub(crate) fn upper_size_mib(home: &Path) -> MicrosandboxResult<Option<u32>> {
    in_file(&file::path(home))
}

fn in_file(path: &Path) -> MicrosandboxResult<Option<u32>> {
    match file::parse::<File>(path)?.oci.upper_size_mib {
        Some(mib) if !(MIN_UPPER_MIB..=MAX_UPPER_MIB).contains(&mib) => Err(file::wrong(
            path,
            format!(
                "has an oci.upper_size_mib of {mib}; give {MIN_UPPER_MIB} to {MAX_UPPER_MIB}, or leave it out"
            ),
        )),
        said => Ok(said),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_size_is_read_if_it_is_one() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("config.json");
        assert_eq!(in_file(&path).unwrap(), None);
        for (text, size) in [
            ("{}", None),
            (r#"{"oci": {}}"#, None),
            (r#"{"oci": {"upper_size_mib": null}}"#, None),
            (r#"{"oci": {"upper_size_mib": 8192, "x": 1}}"#, Some(8192)),
            // What is wrong elsewhere is no affair of this.
            (r#"{"registries": 1}"#, None),
        ] {
            std::fs::write(&path, text).unwrap();
            assert_eq!(in_file(&path).unwrap(), size, "{text}");
        }
        for text in [
            r#"{"oci": {"upper_size_mib": 1}}"#,
            r#"{"oci": {"upper_size_mib": "8G"}}"#,
            r#"{"oci": 1}"#,
        ] {
            std::fs::write(&path, text).unwrap();
            let error = in_file(&path).unwrap_err().to_string();
            assert!(error.contains("config.json"), "{error}");
        }
    }
}
