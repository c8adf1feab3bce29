//! What a sandbox that begins from a snapshot is given: its own copy of what the snapshot has.
//!
//! The copy shares the snapshot's blocks where the file system can; elsewhere what is data is copied.

use std::fs::OpenOptions;
use std::path::Path;

use msb_image::snapshot::{SnapshotError, always, restore};
use msb_runtime::boot::{BootError, BootErrorKind, BootStage};
use msb_runtime::chain::chain;
use msb_runtime::control::{HomeError, LaunchError};
use msb_runtime::registry::RegistryError;
use msb_runtime::upper;

use super::invalid;

/// Copies the snapshot that has this writable layer into `dir`, the directory of a sandbox that does not exist
/// yet. The layer then has so many MiB; the agent has the file system grow to that.
pub(super) fn begin(from: &Path, mib: u32, dir: &Path) -> Result<(), LaunchError> {
    restore(from, dir, &mut always).map_err(|error| failed(error, dir))?;
    let path = dir.join(upper::FILE);
    let io = |source| home(&path, source);
    let disk = OpenOptions::new().write(true).open(&path).map_err(io)?;
    let (bytes, least) = (u64::from(mib) << 20, disk.metadata().map_err(io)?.len());
    if bytes < least {
        return Err(LaunchError::Boot(invalid(format!(
            "the writable layer is to have {bytes} bytes, and the snapshot's has {least}; give at least that"
        ))));
    }
    if bytes > least {
        disk.set_len(bytes)
            .and_then(|()| disk.sync_all())
            .map_err(io)?;
    }
    Ok(())
}

/// What the home could not take is the home's; all else is about the snapshot.
fn failed(error: SnapshotError, dir: &Path) -> LaunchError {
    match error {
        SnapshotError::Io { path, source } if path.starts_with(dir) => home(&path, source),
        error => LaunchError::Boot(BootError::new(
            BootStage::Supervisor,
            BootErrorKind::Image,
            format!("the snapshot cannot be used: {}", chain(&error)),
        )),
    }
}

fn home(path: &Path, source: std::io::Error) -> LaunchError {
    LaunchError::Home(HomeError::from(RegistryError::Io {
        path: path.to_path_buf(),
        source,
    }))
}
