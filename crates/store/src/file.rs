//! The catalog's file: how it comes to be, which file it is, and who may replace it.
//!
//! ```text
//! db/catalog.redb            the catalog
//! db/catalog.redb.lock       flock: shared while a commit is made, exclusive while the catalog is
//!                            put in its place
//! db/catalog.redb.new        one that is being made, by whoever holds the lock exclusively
//! db/catalog.redb.damaged-1  one that a rebuild has replaced
//! ```
//!
//! A catalog is made whole under its temporary name and then renamed, so nobody ever opens half a
//! catalog. A file that is open stays open when another takes its name. So every operation
//! compares the device and inode numbers of the open file with those of the path, and a write
//! does so under the shared lock, when no replacement can come between the look and the commit.

use std::fs::{self, DirBuilder, File, TryLockError};
use std::io::{self, Read};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use redb::backends::FileBackend;
use redb::{Builder, ConcurrencyMode, Database, StorageBackend};

use crate::StoreError;
use crate::error::Fault;
use crate::schema;

/// redb's page cache. A catalog is some hundred records of a few kilobytes.
const CACHE_BYTES: usize = 1 << 20;

/// How a redb file begins.
const MAGIC: &[u8] = b"redb\x1A\x0A\xA9\x0D\x0A";

/// Which file a path names: its device and inode.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Identity(u64, u64);

/// The lock file, locked.
#[derive(Debug)]
pub(crate) struct Placement<'a>(&'a File);

impl Drop for Placement<'_> {
    fn drop(&mut self) {
        // It can fail only for a file that is not open, and the lock ends with the file anyway.
        let _ = self.0.unlock();
    }
}

impl<'a> Placement<'a> {
    /// Keeps the catalog where it is until this is dropped. Waits for whoever replaces it.
    pub(crate) fn keep(lock: &'a File) -> io::Result<Self> {
        match lock.try_lock_shared() {
            Err(TryLockError::WouldBlock) => lock.lock_shared()?,
            Err(TryLockError::Error(error)) => return Err(error),
            Ok(()) => {}
        }
        Ok(Self(lock))
    }

    /// Allows the catalog to be put in its place until this is dropped. Waits for all others.
    pub(crate) fn replace(lock: &'a File) -> io::Result<Self> {
        lock.lock()?;
        Ok(Self(lock))
    }
}

/// The file that `path` names now, if there is one.
pub(crate) fn identity(path: &Path) -> Result<Option<Identity>, StoreError> {
    match fs::metadata(path) {
        Ok(metadata) => Ok(Some(Identity(metadata.dev(), metadata.ino()))),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(StoreError::io(path, error)),
    }
}

/// `path` with something appended to its name.
pub(crate) fn beside(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(suffix);
    name.into()
}

/// Makes the directory, if it is not there, and opens the lock file.
pub(crate) fn open_lock(path: &Path) -> Result<File, StoreError> {
    if let Some(parent) = path.parent() {
        DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(parent)
            .map_err(|error| StoreError::io(parent, error))?;
    }
    let lock = beside(path, ".lock");
    options()
        .create(true)
        .truncate(false)
        .open(&lock)
        .map_err(|error| StoreError::io(&lock, error))
}

/// Opens the catalog. `None` if there is none.
pub(crate) fn open(path: &Path) -> Result<Option<(Database, Identity)>, StoreError> {
    let io = |error| StoreError::io(path, error);
    let file = match options().open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(io(error)),
    };
    let metadata = file.metadata().map_err(io)?;
    if !metadata.is_file() {
        return Err(foreign(path, "it is not a file"));
    }
    let mut start = [0; MAGIC.len()];
    let length = usize::try_from(metadata.len()).unwrap_or(usize::MAX);
    let start = start.get_mut(..MAGIC.len().min(length)).unwrap_or_default();
    (&file).read_exact(start).map_err(io)?;
    if start.is_empty() {
        return Err(damaged(path, "it is empty"));
    }
    if !MAGIC.starts_with(start) {
        return Err(foreign(path, "it does not begin as a redb file does"));
    }
    let identity = Identity(metadata.dev(), metadata.ino());
    let backend = FileBackend::new(file).map_err(|error| Fault::from(error).at(path))?;
    let database = open_backend(backend).map_err(|fault| fault.at(path))?;
    Ok(Some((database, identity)))
}

/// Opens what a backend holds, and checks all of it: redb trusts a file that was closed properly,
/// and one that was damaged since makes it panic, and panic again while it cleans up, which ends
/// the process. The check takes a millisecond or two and turns that into an error.
pub(crate) fn open_backend(backend: impl StorageBackend) -> Result<Database, Fault> {
    let mut builder = Builder::new();
    builder
        .set_concurrency_mode(ConcurrencyMode::MultiWriter)
        .set_cache_size(CACHE_BYTES)
        .set_check_integrity_on_open(true);
    Ok(builder.create_with_backend(backend)?)
}

/// Makes a catalog beside `path`, filled by `fill`, and returns where it is. Whoever calls this
/// holds the lock exclusively and renames the file afterwards.
pub(crate) fn prepare(
    path: &Path,
    fill: impl FnOnce(&Database) -> Result<(), Fault>,
) -> Result<PathBuf, StoreError> {
    let new = beside(path, ".new");
    let io = |error| StoreError::io(&new, error);
    match fs::remove_file(&new) {
        // Somebody died at this before.
        Ok(()) => {}
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(error) => return Err(io(error)),
    }
    let file = options().create_new(true).open(&new).map_err(io)?;
    let keep = file.try_clone().map_err(io)?;
    let write = || -> Result<(), Fault> {
        let database = open_backend(FileBackend::new(file)?)?;
        schema::initialize(&database)?;
        fill(&database)?;
        Ok(database.close()?)
    };
    let written = write()
        .map_err(|fault| fault.at(&new))
        .and_then(|()| keep.sync_all().map_err(io));
    if written.is_err() {
        // Best effort: the next one to prepare removes it.
        let _ = fs::remove_file(&new);
    }
    written.map(|()| new)
}

/// Renames `new` to `path` so that it is there after a power failure too.
pub(crate) fn put_in_place(new: &Path, path: &Path) -> Result<(), StoreError> {
    fs::rename(new, path).map_err(|error| StoreError::io(path, error))?;
    sync_directory(path)
}

/// Makes the names in the directory of `path` durable.
pub(crate) fn sync_directory(path: &Path) -> Result<(), StoreError> {
    let parent = match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    };
    File::open(parent)
        .and_then(|directory| directory.sync_all())
        .map_err(|error| StoreError::io(parent, error))
}

fn options() -> fs::OpenOptions {
    let mut options = File::options();
    options.read(true).write(true).mode(0o600);
    options
}

fn foreign(path: &Path, detail: &str) -> StoreError {
    StoreError::Foreign {
        path: path.to_owned(),
        detail: detail.to_owned(),
    }
}

fn damaged(path: &Path, detail: &str) -> StoreError {
    StoreError::Damaged {
        path: path.to_owned(),
        detail: detail.to_owned(),
    }
}
