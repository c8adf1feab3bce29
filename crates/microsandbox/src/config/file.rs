//! Files of a home that a person writes: where they are, and how they are read.

use std::io::Read;
use std::path::{Path, PathBuf};

use serde::de::DeserializeOwned;

use crate::error::{MicrosandboxError, MicrosandboxResult};

/// The longest file that is read here, in bytes.
const MAX_FILE: u64 = 1 << 20;

/// Where the configuration of this home is.
pub(super) fn path(home: &Path) -> PathBuf {
    let named = std::env::var_os("MSB_CONFIG_PATH").filter(|path| !path.is_empty());
    named.map_or_else(|| home.join("config.json"), PathBuf::from)
}

/// The part of the configuration that `T` knows; the default if there is no file. May block.
pub(super) fn parse<T: DeserializeOwned + Default>(path: &Path) -> MicrosandboxResult<T> {
    let read = read(path).map_err(|error| wrong(path, format!("cannot be read: {error}")))?;
    let Some(bytes) = read else {
        return Ok(T::default());
    };
    serde_json::from_slice(&bytes)
        .map_err(|error| wrong(path, format!("is not as it should be: {error}")))
}

pub(super) fn wrong(path: &Path, why: impl std::fmt::Display) -> MicrosandboxError {
    MicrosandboxError::InvalidConfig(format!("the file {} {why}", path.display()))
}

/// A whole file; `None` when there is none.
pub(super) fn read(path: &Path) -> std::io::Result<Option<Vec<u8>>> {
    let file = match std::fs::File::open(path) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        opened => opened?,
    };
    let mut bytes = Vec::new();
    file.take(MAX_FILE + 1).read_to_end(&mut bytes)?;
    match bytes.len() as u64 > MAX_FILE {
        true => Err(std::io::ErrorKind::FileTooLarge.into()),
        false => Ok(Some(bytes)),
    }
}
