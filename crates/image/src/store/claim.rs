//! Claims: what somebody is about to need stays.
//!
//! A pull fetches an image piece by piece, and a sandbox is made from one a while after its reference was
//! looked up. Meanwhile nothing refers to the pieces. So whoever does such a thing has a claim, and what is
//! stored or looked up by way of it is named in it before it is looked at.
//!
//! On disk a claim is a directory `tmp/<random>.work/` that is locked for as long as it is held. Its file `keep`
//! has a digest in each line; what is being written is beside it. A directory whose lock is free is of a
//! process that is gone, and whoever finds it deletes it.

use std::collections::HashSet;
use std::fs::{self, File, OpenOptions, Permissions};
use std::io::{self, BufRead, BufReader, Read, Write};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};

use super::error::{AtPath, StoreError};
use super::hashing::Hashing;
use super::layout::{UNPACK, WORK};
use super::lock::{self, Shared};
use super::{Store, durable, space};
use crate::Digest;

const KEEP: &str = "keep";

/// The longest list of what must stay, in bytes: some thousands of images of the most layers.
const MAX_KEEP: u64 = 256 << 20;

/// What is named in it is not removed while it is held. Everything that is stored is stored by way of one.
///
/// It can be shared between threads. Dropping it, or the end of the process by whatever cause, ends it.
#[derive(Debug)]
pub struct Claim {
    store: Store,
    work: PathBuf,
    /// Its lock says that the claim is held.
    _lock: File,
    kept: Mutex<Kept>,
    next: AtomicU64,
}

#[derive(Debug)]
struct Kept {
    file: File,
    bytes: u64,
    digests: HashSet<Digest>,
}

impl Store {
    /// A new claim, which names nothing yet. What processes that are gone were working on is deleted first.
    ///
    /// # Errors
    ///
    /// [`Io`](StoreError::Io) and [`DiskFull`](StoreError::DiskFull).
    pub fn claim(&self) -> Result<Claim, StoreError> {
        self.sweep_work()?;
        loop {
            let tmp = self.layout.tmp();
            let work = tempfile::Builder::new()
                .suffix(WORK)
                .rand_bytes(12)
                .permissions(Permissions::from_mode(0o700))
                .tempdir_in(&tmp)
                .at(&tmp)?
                .keep();
            // Somebody who sweeps may find it before we have locked it.
            let Some(lock) = own_dir(&work)? else {
                continue;
            };
            let path = work.join(KEEP);
            let file = OpenOptions::new()
                .append(true)
                .create_new(true)
                .mode(0o600)
                .open(&path)
                .at(&path)?;
            return Ok(Claim {
                store: self.clone(),
                work,
                _lock: lock,
                kept: Mutex::new(Kept {
                    file,
                    bytes: 0,
                    digests: HashSet::new(),
                }),
                next: AtomicU64::new(0),
            });
        }
    }

    /// Deletes the work of processes that are gone. Whoever is at work is left alone.
    pub(super) fn sweep_work(&self) -> Result<Swept, StoreError> {
        let mut swept = Swept::default();
        for path in self.work(&[WORK, UNPACK])? {
            if let Some(_owned) = own_dir(&path)? {
                swept.bytes = swept.bytes.saturating_add(space::of_dir(&path));
                swept.removed += u32::from(durable::remove_dir(&path)?);
            }
        }
        Ok(swept)
    }

    /// The work of claims that are held.
    pub(super) fn held_work(&self) -> Result<Vec<PathBuf>, StoreError> {
        let mut held = Vec::new();
        for path in self.work(&[WORK])? {
            if own_dir(&path)?.is_none() {
                held.push(path);
            }
        }
        Ok(held)
    }

    fn work(&self, endings: &[&str]) -> Result<Vec<PathBuf>, StoreError> {
        let tmp = self.layout.tmp();
        let mut found = Vec::new();
        for entry in fs::read_dir(&tmp).at(&tmp)? {
            let path = entry.at(&tmp)?.path();
            let name = path.file_name().unwrap_or_default().to_string_lossy();
            if endings.iter().any(|ending| name.ends_with(ending)) {
                found.push(path);
            }
        }
        Ok(found)
    }
}

/// Locks a directory of work, if nobody holds it and it is still there then.
pub(super) fn own_dir(path: &Path) -> Result<Option<File>, StoreError> {
    match durable::found(File::open(path)).at(path)? {
        Some(dir) => lock::try_own(dir, path).at(path),
        None => Ok(None),
    }
}

/// What sweeping deleted.
#[derive(Debug, Default)]
pub(super) struct Swept {
    /// Directories.
    pub(super) removed: u32,
    /// Bytes that they took on the disk.
    pub(super) bytes: u64,
}

/// What a claim that is held names.
pub(super) fn kept(work: &Path) -> Result<Vec<Digest>, StoreError> {
    let path = work.join(KEEP);
    let Some(file) = durable::found(File::open(&path)).at(&path)? else {
        return Ok(Vec::new());
    };
    if file.metadata().at(&path)?.len() > MAX_KEEP {
        return Err(too_long(&path));
    }
    // Names are whole: they are written while this cannot be asked.
    let mut digests = Vec::new();
    for line in BufReader::new(file.take(MAX_KEEP)).lines() {
        digests.extend(line.at(&path)?.parse::<Digest>());
    }
    Ok(digests)
}

fn too_long(path: &Path) -> StoreError {
    let error = io::Error::new(io::ErrorKind::FileTooLarge, "more is claimed than can be");
    StoreError::io(path, error)
}

impl Claim {
    /// The store.
    pub fn store(&self) -> &Store {
        &self.store
    }

    /// Names what must stay: blobs by their digests, layers by their diff ids, images by their manifests' digests.
    ///
    /// # Errors
    ///
    /// [`Busy`](StoreError::Busy) when somebody removes something and does not come to an end.
    pub fn keep(&self, digests: &[Digest]) -> Result<(), StoreError> {
        if self.has(digests) {
            return Ok(());
        }
        let shared = self.store.shared()?;
        self.keep_under(&shared, digests)
    }

    /// Names it while nothing can be removed.
    pub(super) fn keep_under(&self, _: &Shared, digests: &[Digest]) -> Result<(), StoreError> {
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        let new: Vec<_> = digests
            .iter()
            .filter(|digest| !kept.digests.contains(digest))
            .copied()
            .collect();
        let lines: String = new.iter().map(|digest| format!("{digest}\n")).collect();
        let path = self.work.join(KEEP);
        if kept.bytes + lines.len() as u64 > MAX_KEEP {
            return Err(too_long(&path));
        }
        kept.file.write_all(lines.as_bytes()).at(&path)?;
        kept.bytes += lines.len() as u64;
        kept.digests.extend(new);
        Ok(())
    }

    fn has(&self, digests: &[Digest]) -> bool {
        let kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        digests.iter().all(|digest| kept.digests.contains(digest))
    }

    /// A new file that goes with the claim.
    pub(crate) fn stage(&self) -> Result<StagedFile, StoreError> {
        let path = self.scratch();
        let file = Hashing::new(durable::create(&path)?);
        Ok(StagedFile {
            path,
            file,
            size: 0,
        })
    }

    /// Checks that so many bytes can be stored.
    pub(crate) fn check_space(&self, bytes: u64) -> Result<(), StoreError> {
        space::check(&self.work, bytes)
    }

    /// A free name for something that is being written.
    pub(super) fn scratch(&self) -> PathBuf {
        let number = self.next.fetch_add(1, Ordering::Relaxed);
        self.work.join(number.to_string())
    }
}

/// A file that is being written, and hashed.
#[derive(Debug)]
pub(crate) struct StagedFile {
    path: PathBuf,
    file: Hashing<File>,
    size: u64,
}

impl StagedFile {
    /// Where it is.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// Where it is, its digest, and its length in bytes.
    pub(crate) fn finish(self) -> (PathBuf, Digest, u64) {
        let (_, digest) = self.file.into_parts();
        (self.path, digest, self.size)
    }
}

impl Write for StagedFile {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let count = self.file.write(bytes)?;
        self.size += count as u64;
        Ok(count)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}

impl Drop for Claim {
    fn drop(&mut self) {
        // Should it not go, whoever comes next finds its lock free.
        let _ = durable::remove_dir(&self.work);
    }
}
