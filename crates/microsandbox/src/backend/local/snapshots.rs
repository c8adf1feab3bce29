//! Snapshots of this machine's sandboxes.
//!
//! All of it is disk work on a thread of its own. Whoever stops waiting for it ends it, at the next of its
//! steps; what it had begun is deleted.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use msb_image::snapshot::{GoOn, ManifestError, SnapshotDir, SnapshotError, origin};
use msb_runtime::chain::chain;
use msb_runtime::snapshots::{
    Found, RemoveSnapshotError, Snapshots, Take, TakeError, Target, list_dir,
};
use msb_types::SandboxConfig;

use super::LocalBackend;
use super::link::settle;
use crate::blocking::elsewhere;
use crate::error::{ImageError, MicrosandboxError, MicrosandboxResult};
use crate::snapshot::{ExportOpts, Snapshot, SnapshotConfig, SnapshotDestination};

/// How often a snapshot waits for somebody who lets go of the sandbox.
const TAKE_TRIES: u32 = 8;

const MIB: u64 = 1 << 20;

impl LocalBackend {
    /// The directory with the home's snapshots.
    pub fn snapshots_dir(&self) -> MicrosandboxResult<PathBuf> {
        Ok(self.snapshots()?.dir().to_path_buf())
    }

    fn snapshots(&self) -> MicrosandboxResult<Snapshots> {
        Ok(Snapshots::of(&self.home()?))
    }

    pub(crate) async fn snapshot_create(
        &self,
        config: SnapshotConfig,
    ) -> MicrosandboxResult<Snapshot> {
        let name = config.source_sandbox;
        crate::sandbox::validate_sandbox_name(&name)?;
        let (target, shown) = match config.destination {
            SnapshotDestination::Name(name) => (Target::Name(name.clone()), name),
            SnapshotDestination::Path(path) => {
                let shown = path.display().to_string();
                (Target::Path(path), shown)
            }
        };
        let take = Take {
            sandbox: name.clone(),
            target,
            labels: config.labels.into_iter().collect(),
            replace: config.force,
            record_integrity: config.record_integrity,
        };
        let mut tries = 0;
        loop {
            let registry = self.registry().await?.clone();
            let (snapshots, take) = (self.snapshots()?, take.clone());
            let taken = offload(move |go_on| snapshots.take(&registry, take, go_on)).await?;
            return match taken {
                Ok(dir) => Ok(Snapshot::from(&dir)),
                // Its run is over, and whoever has it lets go in a while.
                Err(TakeError::Busy) if tries < TAKE_TRIES => {
                    tries += 1;
                    settle(&self.run_dir(&name)?).await;
                    continue;
                }
                Err(error) => Err(not_taken(&name, &shown, error)),
            };
        }
    }

    pub(crate) async fn snapshot_open(&self, which: &str) -> MicrosandboxResult<Snapshot> {
        let found = self.snapshot_get(which).await?;
        self.snapshot_open_at(found.dir.path().to_path_buf()).await
    }

    pub(crate) async fn snapshot_open_at(&self, path: PathBuf) -> MicrosandboxResult<Snapshot> {
        let shown = path.display().to_string();
        let opened = offload(move |_| SnapshotDir::open(&path)).await?;
        let dir = opened.map_err(|error| not_found(&shown, error))?;
        Ok(Snapshot::from(&dir))
    }

    pub(crate) async fn snapshot_get(&self, which: &str) -> MicrosandboxResult<Found> {
        let (snapshots, wanted) = (self.snapshots()?, which.to_owned());
        let found = offload(move |_| snapshots.find(&wanted)).await?;
        found.map_err(|error| not_found(which, error))
    }

    pub(crate) async fn snapshot_list(&self) -> MicrosandboxResult<Vec<Found>> {
        let snapshots = self.snapshots()?;
        let shown = snapshots.dir().display().to_string();
        let found = offload(move |_| snapshots.list()).await?;
        found.map_err(|error| refused(&shown, error))
    }

    pub(crate) async fn snapshot_list_dir(&self, dir: &Path) -> MicrosandboxResult<Vec<Snapshot>> {
        let (shown, dir) = (dir.display().to_string(), dir.to_path_buf());
        let found = offload(move |_| list_dir(&dir)).await?;
        let found = found.map_err(|error| refused(&shown, error))?;
        Ok(found.iter().map(Snapshot::from).collect())
    }

    pub(crate) async fn snapshot_remove(&self, which: &str, force: bool) -> MicrosandboxResult<()> {
        let (snapshots, wanted) = (self.snapshots()?, which.to_owned());
        match offload(move |_| snapshots.remove(&wanted, force)).await? {
            Ok(()) => Ok(()),
            Err(RemoveSnapshotError::HasChildren { child }) => {
                Err(MicrosandboxError::SnapshotInUse {
                    snapshot: which.to_owned(),
                    child,
                })
            }
            Err(RemoveSnapshotError::Snapshot(error @ SnapshotError::Missing { .. })) => {
                Err(not_found(which, error))
            }
            Err(RemoveSnapshotError::Snapshot(error)) => Err(refused(which, error)),
            Err(other) => Err(MicrosandboxError::Runtime(other.to_string())),
        }
    }

    pub(crate) async fn snapshot_reindex(&self, dir: &Path) -> MicrosandboxResult<usize> {
        let (snapshots, shown) = (self.snapshots()?, dir.display().to_string());
        let dir = dir.to_path_buf();
        let counted = offload(move |_| snapshots.reindex(&dir)).await?;
        counted.map_err(|error| refused(&shown, error))
    }

    pub(crate) async fn snapshot_export(
        &self,
        which: &str,
        out: &Path,
        opts: ExportOpts,
    ) -> MicrosandboxResult<()> {
        let (snapshots, wanted, out) = (self.snapshots()?, which.to_owned(), out.to_path_buf());
        let exported =
            offload(move |go_on| snapshots.export(&wanted, &out, opts.into(), go_on)).await?;
        exported.map_err(|error| not_found(which, error))
    }

    pub(crate) async fn snapshot_import(
        &self,
        archive: &Path,
        dest: Option<&Path>,
    ) -> MicrosandboxResult<Found> {
        let (snapshots, shown) = (self.snapshots()?, archive.display().to_string());
        let (archive, dest) = (archive.to_path_buf(), dest.map(Path::to_path_buf));
        let imported =
            offload(move |go_on| snapshots.import(&archive, dest.as_deref(), go_on)).await?;
        imported.map_err(|error| match error {
            // It is the name in the archive that is taken, not the archive's.
            SnapshotError::Exists { path } => {
                let name = path.file_name().unwrap_or(path.as_os_str());
                MicrosandboxError::SnapshotAlreadyExists(name.to_string_lossy().into_owned())
            }
            error => refused(&shown, error),
        })
    }

    /// What a sandbox that begins from this snapshot is made of: the image that the snapshot pins, and its
    /// writable layer.
    pub(crate) async fn beginning(&self, which: &str) -> MicrosandboxResult<Beginning> {
        let snapshot = self.snapshot_open(which).await?;
        let manifest = snapshot.manifest();
        Ok(Beginning {
            reference: manifest.image.reference.clone(),
            manifest_digest: manifest.image.manifest_digest.clone(),
            upper: snapshot.path().join(&manifest.upper.file),
            upper_mib: u32::try_from(snapshot.size_bytes().div_ceil(MIB)).unwrap_or(u32::MAX),
        })
    }

    /// Notes which snapshot a new sandbox begins from, if it begins from one: only a look at what it is
    /// made from tells. The image below must be the one that the snapshot was taken over.
    pub(super) async fn note_parent(&self, config: &mut SandboxConfig) -> MicrosandboxResult<()> {
        config.parent_snapshot = None;
        let Some(upper) = config.snapshot_upper_source.clone() else {
            return Ok(());
        };
        let upper = std::path::absolute(upper)?;
        config.snapshot_upper_source = Some(upper.clone());
        let shown = upper.display().to_string();
        let found = offload(move |_| origin(&upper)).await?;
        let Some(dir) = found.map_err(|error| refused(&shown, error))? else {
            return Ok(());
        };
        let pinned = &dir.sealed().manifest().image;
        if config.manifest_digest.as_ref() != Some(&pinned.manifest_digest) {
            return Err(MicrosandboxError::InvalidConfig(format!(
                "the snapshot {shown} was taken over the image {} ({}), and can begin nothing over another",
                pinned.reference, pinned.manifest_digest
            )));
        }
        config.parent_snapshot = Some(dir.sealed().digest().to_string());
        Ok(())
    }
}

/// What a sandbox that begins from a snapshot is made of.
#[derive(Debug)]
pub(crate) struct Beginning {
    pub(crate) reference: String,
    pub(crate) manifest_digest: String,
    pub(crate) upper: PathBuf,
    pub(crate) upper_mib: u32,
}

/// Says to long work that nobody waits for it any more.
struct Waiting(Arc<AtomicBool>);

impl Drop for Waiting {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// Does long work elsewhere, for as long as this is waited for.
pub(crate) async fn offload<T: Send + 'static, E: Send + 'static>(
    work: impl FnOnce(GoOn<'_>) -> Result<T, E> + Send + 'static,
) -> MicrosandboxResult<Result<T, E>> {
    let waiting = Waiting(Arc::new(AtomicBool::new(false)));
    let given_up = Arc::clone(&waiting.0);
    let mut go_on = move || match given_up.load(Ordering::Relaxed) {
        false => Ok(()),
        true => Err(io::Error::other("nobody waits for it any more")),
    };
    let done = elsewhere(move || work(&mut go_on)).await;
    drop(waiting);
    done
}

fn not_taken(sandbox: &str, target: &str, error: TakeError) -> MicrosandboxError {
    match error {
        TakeError::NoSandbox => MicrosandboxError::SandboxNotFound(sandbox.to_owned()),
        TakeError::Active(_) | TakeError::Busy => {
            MicrosandboxError::SnapshotSandboxRunning(sandbox.to_owned())
        }
        TakeError::Unfit(why) => MicrosandboxError::InvalidConfig(format!(
            "sandbox {sandbox:?} cannot be made a snapshot of: {why}"
        )),
        TakeError::Invalid(why) => MicrosandboxError::InvalidConfig(why),
        TakeError::Registry(error) => MicrosandboxError::Database(error.into()),
        TakeError::Snapshot(error) => refused(target, error),
        other => MicrosandboxError::Runtime(other.to_string()),
    }
}

/// An error of a call that was to find a snapshot: what is none is not found.
fn not_found(which: &str, error: SnapshotError) -> MicrosandboxError {
    match error {
        SnapshotError::Foreign { .. } => MicrosandboxError::SnapshotNotFound(which.to_owned()),
        other => refused(which, other),
    }
}

/// An error about a snapshot, as programs see it; `which` is what they called it.
pub(crate) fn refused(which: &str, error: SnapshotError) -> MicrosandboxError {
    match error {
        SnapshotError::Missing { .. } => MicrosandboxError::SnapshotNotFound(which.to_owned()),
        SnapshotError::Exists { .. } => MicrosandboxError::SnapshotAlreadyExists(which.to_owned()),
        SnapshotError::Manifest {
            source: ManifestError::Schema(_) | ManifestError::Format,
            ..
        } => MicrosandboxError::Unsupported {
            feature: chain(&error),
            available_when: "use the release of this library that wrote it".to_owned(),
        },
        SnapshotError::Manifest { .. }
        | SnapshotError::Damaged { .. }
        | SnapshotError::Archive { .. } => MicrosandboxError::SnapshotIntegrity(chain(&error)),
        SnapshotError::ImageMissing { image } => {
            MicrosandboxError::SnapshotImageMissing(image.to_string())
        }
        SnapshotError::Image { source } => MicrosandboxError::Image(ImageError::Store(source)),
        SnapshotError::Io { path, source } => MicrosandboxError::Io(io::Error::new(
            source.kind(),
            format!("cannot use {}: {source}", path.display()),
        )),
        other => MicrosandboxError::InvalidConfig(chain(&other)),
    }
}
