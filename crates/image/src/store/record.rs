//! Records: small JSON files, each with the version of what it says.
//!
//! They are written by this library and read back with suspicion: other programs of the same user can write them,
//! and so can an older or newer release. What a newer one wrote is left alone.

use std::io::{ErrorKind, Read};
use std::path::Path;

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use super::error::{AtPath, StoreError};
use super::{Claim, durable};

/// The version of the records that this release writes.
const VERSION: u32 = 1;

/// The longest record, in bytes: an image of the most layers needs a tenth.
const MAX_RECORD: u64 = 1 << 20;

#[derive(Serialize)]
struct Writing<'a, T> {
    version: u32,
    #[serde(flatten)]
    record: &'a T,
}

#[derive(Deserialize)]
struct Version {
    version: u32,
}

#[derive(Deserialize)]
struct Reading<T> {
    #[serde(flatten)]
    record: T,
}

impl Claim {
    /// Writes a record, whole or not at all.
    pub(super) fn write_record(
        &self,
        path: &Path,
        record: &impl Serialize,
    ) -> Result<(), StoreError> {
        durable::write(&self.scratch(), path, &to_bytes(record, path)?)
    }
}

/// A record as it is written.
pub(super) fn to_bytes(record: &impl Serialize, path: &Path) -> Result<Vec<u8>, StoreError> {
    let writing = Writing {
        version: VERSION,
        record,
    };
    let bytes = serde_json::to_vec_pretty(&writing);
    bytes.map_err(std::io::Error::from).at(path)
}

/// Reads a record; `None` when there is none.
pub(super) fn read<T: DeserializeOwned>(path: &Path) -> Result<Option<T>, StoreError> {
    let file = match durable::open(path) {
        Err(StoreError::Io { source, .. }) if source.kind() == ErrorKind::NotFound => {
            return Ok(None);
        }
        opened => opened?,
    };
    let mut bytes = Vec::new();
    file.take(MAX_RECORD).read_to_end(&mut bytes).at(path)?;
    parse(&bytes, path).map(Some)
}

fn parse<T: DeserializeOwned>(bytes: &[u8], path: &Path) -> Result<T, StoreError> {
    let damaged = |source| StoreError::Damaged {
        path: path.to_path_buf(),
        source,
    };
    let Version { version } = serde_json::from_slice(bytes).map_err(damaged)?;
    if version > VERSION {
        return Err(StoreError::Newer {
            path: path.to_path_buf(),
            version,
        });
    }
    let reading: Reading<T> = serde_json::from_slice(bytes).map_err(damaged)?;
    Ok(reading.record)
}
