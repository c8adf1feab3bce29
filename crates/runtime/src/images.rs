//! The images of a home, and who needs them.
//!
//! Images are in `<home>/images/` ([`msb_image::store`]). The store knows neither sandboxes nor snapshots; what
//! they need is told from their directories, which are the truth about them.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use msb_image::Digest;
use msb_image::store::{InUse, InUseError, Store, StoreError};

use crate::sandbox_dir::SandboxDir;
use crate::snapshots::{SnapshotError, Snapshots};

/// Opens the images of a home.
pub fn open(home: &Path) -> Result<Store, StoreError> {
    Store::open(&home.join("images"))
}

/// Tells which images the sandboxes and snapshots of a home need.
///
/// A sandbox counts from when its directory is in its place. Until then whoever makes it has a
/// [`Claim`](msb_image::store::Claim) on its image.
#[derive(Clone, Debug)]
pub struct HomeInUse {
    home: PathBuf,
}

/// It cannot be told what is in use.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum HomeInUseError {
    /// The directory of all sandboxes cannot be read.
    #[error("cannot read {}", path.display())]
    Io {
        /// Which.
        path: PathBuf,
        /// Why not.
        #[source]
        source: io::Error,
    },
    /// What a sandbox is made of cannot be read.
    #[error("the configuration of sandbox {name:?} cannot be read; remove the sandbox, or mend it")]
    Sandbox {
        /// Which.
        name: String,
        /// Why not.
        #[source]
        source: io::Error,
    },
    /// A snapshot cannot be read.
    #[error("the snapshots cannot be read")]
    Snapshot(#[source] SnapshotError),
}

impl HomeInUse {
    /// Of this home.
    pub fn of(home: &Path) -> Self {
        Self {
            home: home.to_path_buf(),
        }
    }

    fn sandboxes(&self) -> Result<Vec<Digest>, HomeInUseError> {
        let path = self.home.join("sandboxes");
        let io = |source| HomeInUseError::Io {
            path: path.clone(),
            source,
        };
        let entries = match fs::read_dir(&path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            entries => entries.map_err(io)?,
        };
        let mut images = Vec::new();
        for entry in entries {
            let name = entry.map_err(io)?.file_name();
            // What is on its way in or out has a name that no sandbox has.
            let Some(name) = name.to_str() else { continue };
            if msb_types::validate_sandbox_name(name).is_ok() {
                images.extend(self.sandbox(name)?);
            }
        }
        Ok(images)
    }

    fn sandbox(&self, name: &str) -> Result<Option<Digest>, HomeInUseError> {
        let wrong = |source| HomeInUseError::Sandbox {
            name: name.to_owned(),
            source,
        };
        let file = match SandboxDir::of(&self.home, name).read_config() {
            // No directory: somebody's file, of which nothing is made.
            Err(error) if error.kind() == io::ErrorKind::NotADirectory => None,
            read => read.map_err(wrong)?,
        };
        // It may have gone since its name was read.
        let Some(digest) = file.and_then(|file| file.config.manifest_digest) else {
            return Ok(None);
        };
        let digest = digest.parse();
        digest
            .map(Some)
            .map_err(|error| wrong(io::Error::other(error)))
    }
}

impl InUse for HomeInUse {
    fn in_use(&self) -> Result<Vec<Digest>, InUseError> {
        let mut images = self.sandboxes()?;
        let snapshots = Snapshots::of(&self.home).images_in_use();
        images.extend(snapshots.map_err(HomeInUseError::Snapshot)?);
        // A sandbox may have been made of a snapshot, and the snapshot removed, between the two looks; the other
        // way round is no matter, as sandboxes were looked at first.
        images.extend(self.sandboxes()?);
        Ok(images)
    }
}

#[cfg(test)]
mod tests {
    use chrono::Utc;
    use msb_types::SandboxConfig;

    use super::*;
    use crate::sandbox_dir::{ConfigFile, RunFile};

    fn create(home: &Path, name: &str, manifest_digest: Option<String>) {
        let config = ConfigFile {
            created_at: Utc::now(),
            config: SandboxConfig {
                name: name.to_owned(),
                manifest_digest,
                ..SandboxConfig::default()
            },
        };
        let run = RunFile {
            id: 1,
            pid: 1,
            started_at: Utc::now(),
            ended: None,
            isolation: Default::default(),
        };
        let dir = SandboxDir::of(home, name);
        dir.prepare(&config, &run).unwrap().complete().unwrap();
    }

    #[test]
    fn what_sandboxes_are_made_of_is_in_use_until_they_are_removed() {
        let home = tempfile::tempdir().unwrap();
        let home = home.path();
        let in_use = HomeInUse::of(home);
        assert_eq!(in_use.in_use().unwrap(), []);
        let digest = Digest::of(b"image");
        create(home, "web", Some(digest.to_string()));
        create(home, "disk", None);
        fs::write(home.join("sandboxes/notes"), "a file").unwrap();
        assert_eq!(in_use.in_use().unwrap(), [digest; 2]);
        SandboxDir::of(home, "web").remove().unwrap();
        assert_eq!(in_use.in_use().unwrap(), []);
    }

    #[test]
    fn what_cannot_be_read_may_be_in_use() {
        let home = tempfile::tempdir().unwrap();
        let home = home.path();
        let in_use = HomeInUse::of(home);
        create(home, "web", Some("sha256:none".to_owned()));
        assert!(in_use.in_use().is_err());
        let config = SandboxDir::of(home, "web").path().join("config.json");
        fs::write(&config, "{").unwrap();
        assert!(in_use.in_use().is_err());
        SandboxDir::of(home, "web").remove().unwrap();
        assert!(in_use.in_use().is_ok());
        fs::remove_dir_all(home.join("sandboxes")).unwrap();
        fs::write(home.join("sandboxes"), "no directory").unwrap();
        assert!(in_use.in_use().is_err());
    }
}
