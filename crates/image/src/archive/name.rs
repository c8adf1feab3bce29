//! Names in archives.

use super::ArchiveError;
use crate::Digest;

/// The longest name in an archive of images, in bytes. The longest in use has some hundred and fifty.
const MAX_NAME: usize = 1024;

/// A name as it is looked up: no `.`, no `..`, no slash too many. `None` for the archive's own directory.
pub(super) fn clean(bytes: &[u8]) -> Result<Option<String>, ArchiveError> {
    let wrong = || ArchiveError::Name(shown(bytes));
    let text = std::str::from_utf8(bytes).map_err(|_| wrong())?;
    if text.len() > MAX_NAME || text.starts_with('/') || text.contains(char::is_control) {
        return Err(wrong());
    }
    let mut parts = Vec::new();
    for part in text.split('/') {
        match part {
            "" | "." => {}
            ".." => return Err(wrong()),
            part => parts.push(part),
        }
    }
    Ok(Some(parts.join("/")).filter(|name| !name.is_empty()))
}

/// What a symbolic link says, put together with where it is. It must not lead out of the archive.
pub(super) fn follow(link: &str, target: &[u8]) -> Result<String, ArchiveError> {
    let wrong = || ArchiveError::Name(shown(target));
    let text = std::str::from_utf8(target).map_err(|_| wrong())?;
    if text.is_empty() || text.len() > MAX_NAME || text.starts_with('/') {
        return Err(wrong());
    }
    let mut parts: Vec<_> = link.split('/').collect();
    parts.pop();
    for part in text.split('/') {
        match part {
            "" | "." => {}
            ".." => drop(parts.pop().ok_or_else(wrong)?),
            part => parts.push(part),
        }
    }
    clean(parts.join("/").as_bytes())?.ok_or_else(wrong)
}

/// Where a layout has a blob.
pub(super) fn blob(digest: &Digest) -> String {
    format!("blobs/sha256/{}", digest.hex())
}

/// As much of a name as a message has room for.
fn shown(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).chars().take(200).collect()
}
