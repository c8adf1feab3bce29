//! Taking a snapshot of a sandbox that does not run.

use std::collections::BTreeMap;
use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use msb_image::snapshot::{
    Capture, GoOn, ImageRef, Manifest, PatchFiles, SnapshotDir, SnapshotError, ext4, may_take,
};
use msb_types::{RootfsSource, SandboxConfig};

use super::{Snapshots, TakeError, io_error};
use crate::registry::{Owned, Registry};
use crate::rundir::{RunDir, RunDirError};

/// What is to be taken.
#[derive(Clone, Debug)]
pub struct Take {
    /// The sandbox.
    pub sandbox: String,
    /// Where it goes.
    pub target: Target,
    /// What it is filed under.
    pub labels: BTreeMap<String, String>,
    /// Whether a snapshot that is there may be replaced.
    pub replace: bool,
    /// Whether the disk's contents become part of its identity.
    pub record_integrity: bool,
}

/// Where a snapshot goes.
#[derive(Clone, Debug)]
pub enum Target {
    /// Among the home's, under this name.
    Name(String),
    /// To this place.
    Path(PathBuf),
}

impl Snapshots {
    /// Takes a snapshot. The sandbox is locked until it is done: nobody starts or removes it meanwhile.
    ///
    /// A sandbox that crashed can be taken as well as one that was stopped: what its guest had not written to its
    /// disk yet is lost, and what it was writing is put right from the file system's journal by the next boot.
    pub fn take(
        &self,
        registry: &Registry,
        take: Take,
        go_on: GoOn<'_>,
    ) -> Result<SnapshotDir, TakeError> {
        for (key, value) in &take.labels {
            msb_types::validate_label(key, value)
                .map_err(|error| TakeError::Invalid(error.to_string()))?;
        }
        let (target, elsewhere) = self.target(&take.target)?;
        // What can be told before anything is locked.
        let record = registry.get(&take.sandbox)?.ok_or(TakeError::NoSandbox)?;
        if record.status.is_active() {
            return Err(TakeError::Active(record.status));
        }
        may_take(&target, take.replace)?;

        let run_dir = RunDir::of(&self.home, &take.sandbox);
        let lock = match run_dir.lock() {
            Ok(lock) => lock,
            Err(RunDirError::Held) => {
                return Err(match registry.get(&take.sandbox)? {
                    Some(now) if now.status.is_active() => TakeError::Active(now.status),
                    Some(_) => TakeError::Busy,
                    None => TakeError::NoSandbox,
                });
            }
            Err(error) => return Err(TakeError::Registry(error.into())),
        };
        let owned = registry.own(lock, take.sandbox.clone());
        let taken = self.take_locked(&owned, take, &target, go_on);
        // Until here the sandbox keeps the image; from here on it may go, and the snapshot does.
        let known = taken.and_then(|taken| {
            if elsewhere {
                self.signposts().add(&taken)?;
            }
            Ok(taken)
        });
        // Should it not go away, the next sweep removes it; it is free either way.
        let _ = owned.lock.remove();
        known
    }

    fn take_locked(
        &self,
        owned: &Owned,
        take: Take,
        target: &Path,
        go_on: GoOn<'_>,
    ) -> Result<SnapshotDir, TakeError> {
        let record = owned.record()?.ok_or(TakeError::NoSandbox)?;
        let config: SandboxConfig = serde_json::from_str(&record.config_json)
            .map_err(|error| TakeError::Registry(error.into()))?;
        let image = image(&config)?;
        let dir = owned.dir().path();
        let upper = match open(&dir.join("upper.ext4"))? {
            Some(upper) => upper,
            None => {
                return Err(TakeError::Unfit(
                    "it has never had a disk of its own".into(),
                ));
            }
        };
        let probed = ext4::probe(&upper).map_err(|source| io_error(dir, source))?;
        if probed.is_none() {
            return Err(TakeError::Unfit(
                "its disk is no ext4 file system any more; something in it has overwritten it"
                    .into(),
            ));
        }
        let mut manifest = Manifest::new(image, Some(take.sandbox), 0);
        manifest.labels = take.labels;
        manifest.parent = config.parent_snapshot;
        let capture = Capture {
            upper: &upper,
            patch: patch(&dir.join("patch"))?,
            manifest,
            record_integrity: take.record_integrity,
        };
        Ok(capture.make(target, take.replace, go_on)?)
    }

    /// The place, whose parent directory is made if it is missing, and whether it is not among the home's.
    fn target(&self, target: &Target) -> Result<(PathBuf, bool), TakeError> {
        match target {
            Target::Name(name) => {
                msb_types::validate_sandbox_name(name)
                    .map_err(|error| TakeError::Invalid(format!("snapshot name: {error}")))?;
                self.make_dir()?;
                Ok((self.dir.join(name), false))
            }
            Target::Path(path) => {
                let wrong = || {
                    TakeError::Invalid(format!(
                        "{} is no place for a snapshot; name a directory that is to be made",
                        path.display()
                    ))
                };
                if path.as_os_str().is_empty() || path.file_name().is_none() {
                    return Err(wrong());
                }
                let path = std::path::absolute(path).map_err(|source| io_error(path, source))?;
                let parent = path.parent().ok_or_else(wrong)?;
                fs::create_dir_all(parent).map_err(|source| io_error(parent, source))?;
                let named = self.name_of(&path).is_some();
                if path.parent() == Some(&self.dir) && !named {
                    return Err(wrong());
                }
                Ok((path, !named))
            }
        }
    }
}

/// The image that a sandbox is made from, pinned.
fn image(config: &SandboxConfig) -> Result<ImageRef, TakeError> {
    let RootfsSource::Oci { reference, .. } = &config.image else {
        return Err(TakeError::Unfit(
            "it has a disk of its own and no image below; copy that file instead".into(),
        ));
    };
    let Some(manifest_digest) = config.manifest_digest.clone() else {
        return Err(TakeError::Unfit(
            "nobody wrote down which image it was made from".into(),
        ));
    };
    Ok(ImageRef {
        manifest_digest,
        reference: reference.clone(),
    })
}

/// The files of a patch layer, if there is one.
fn patch(dir: &Path) -> Result<Option<PatchFiles>, SnapshotError> {
    match (open(&dir.join("index"))?, open(&dir.join("data"))?) {
        (Some(index), Some(data)) => Ok(Some(PatchFiles { index, data })),
        (None, None) => Ok(None),
        _ => Err(io_error(
            dir,
            io::Error::new(
                io::ErrorKind::NotFound,
                "half of the patch layer is missing",
            ),
        )),
    }
}

fn open(path: &Path) -> Result<Option<File>, SnapshotError> {
    let opened = OpenOptions::new()
        .read(true)
        .custom_flags(rustix::fs::OFlags::NOFOLLOW.bits().cast_signed())
        .open(path);
    match opened {
        Ok(file) => Ok(Some(file)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(source) => Err(io_error(path, source)),
    }
}
