//! Blobs: bytes by their digest, and downloads that can be cut short.
//!
//! Each digest has a lock of its own, so one downloads it while others wait and then find it. What a download
//! that was cut short left is gone on with: it is read once to bring the hash up to date, and the digest at the
//! end says whether all of it was right.

use std::fs::{self, File, OpenOptions};
use std::io::{Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use sha2::{Digest as _, Sha256};

use super::error::{AtPath, StoreError};
use super::turn::Elsewhere;
use super::{Claim, Store, durable, lock, space, stamp};
use crate::Digest;
use crate::limits::MAX_DOCUMENT;

/// How long somebody else may take for a document.
const DOCUMENT_WAIT: Duration = Duration::from_secs(60);

/// A blob that is in the store.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Blob {
    digest: Digest,
    size: u64,
    path: PathBuf,
}

/// Whose turn it is to download a blob.
#[derive(Debug)]
pub enum BlobTurn {
    /// It is here.
    Present(Blob),
    /// Ours.
    Mine(BlobWriter),
    /// Somebody else's. Wait, and then [begin](Claim::begin_blob) again: the other may have failed.
    Elsewhere(Elsewhere),
}

/// A download. Dropping it keeps what came, for the next one.
#[derive(Debug)]
pub struct BlobWriter {
    store: Store,
    digest: Digest,
    size: u64,
    /// Bytes in the file, all of them hashed.
    offset: u64,
    hasher: Sha256,
    file: File,
    partial: PathBuf,
    /// Held until the end, and removed before it is let go.
    _lock: LockFile,
}

impl Blob {
    /// What it is called.
    pub fn digest(&self) -> &Digest {
        &self.digest
    }

    /// Its length in bytes.
    pub fn size(&self) -> u64 {
        self.size
    }

    /// Opens it. It was verified when it came in; whoever reads all of it should see whether it still is
    /// what it is called.
    ///
    /// # Errors
    ///
    /// [`Io`](StoreError::Io).
    pub fn open(&self) -> Result<File, StoreError> {
        durable::open(&self.path)
    }

    /// Where it is.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// A manifest, an index or a configuration as a whole, verified.
    ///
    /// # Errors
    ///
    /// [`WrongSize`](StoreError::WrongSize) when it is longer than [`MAX_DOCUMENT`], and
    /// [`Integrity`](StoreError::Integrity) when it is not what it was.
    pub fn read_document(&self) -> Result<Vec<u8>, StoreError> {
        let mut bytes = Vec::new();
        self.open()?
            .take(MAX_DOCUMENT + 1)
            .read_to_end(&mut bytes)
            .at(&self.path)?;
        if bytes.len() as u64 > MAX_DOCUMENT {
            return Err(StoreError::WrongSize {
                digest: self.digest,
                expected: MAX_DOCUMENT,
                found: self.size,
            });
        }
        match Digest::of(&bytes) {
            found if found == self.digest => Ok(bytes),
            found => Err(self.changed(found)),
        }
    }

    fn changed(&self, found: Digest) -> StoreError {
        StoreError::Integrity {
            path: self.path.clone(),
            expected: self.digest,
            found,
        }
    }
}

impl Store {
    /// The blob of this digest, if it is here. Without a [`Claim`] on it, it may go at any time.
    ///
    /// # Errors
    ///
    /// [`Io`](StoreError::Io).
    pub fn blob(&self, digest: &Digest) -> Result<Option<Blob>, StoreError> {
        let path = self.layout.blob(digest);
        let found = durable::found(fs::symlink_metadata(&path)).at(&path)?;
        Ok(found.filter(fs::Metadata::is_file).map(|found| Blob {
            digest: *digest,
            size: found.len(),
            path,
        }))
    }

    /// The lock of a download, if nobody is at it.
    pub(super) fn own_download(&self, digest: &Digest) -> Result<Option<LockFile>, StoreError> {
        let path = self.layout.partial_lock(digest);
        let file = lock::open(&path).at(&path)?;
        let owned = lock::try_own(file, &path).at(&path)?;
        Ok(owned.map(|file| LockFile { _file: file, path }))
    }
}

impl Claim {
    /// Begins to download a blob of so many bytes, unless it is here or somebody else is at it. It stays
    /// from now on.
    ///
    /// # Errors
    ///
    /// [`WrongSize`](StoreError::WrongSize) when it is here and has another size,
    /// [`SpaceMissing`](StoreError::SpaceMissing) when it would not fit on the disk.
    pub fn begin_blob(&self, digest: &Digest, size: u64) -> Result<BlobTurn, StoreError> {
        self.keep(&[*digest])?;
        let store = self.store();
        let path = store.layout.partial_lock(digest);
        loop {
            if let Some(blob) = self.sized(digest, size)? {
                return Ok(BlobTurn::Present(blob));
            }
            let file = lock::open(&path).at(&path)?;
            let waiting = file.try_clone().at(&path)?;
            let Some(file) = lock::try_own(file, &path).at(&path)? else {
                if lock::is_current(&waiting, &path) {
                    let partial = store.layout.partial(digest);
                    return Elsewhere::behind(waiting, partial).map(BlobTurn::Elsewhere);
                }
                continue;
            };
            let lock = LockFile {
                _file: file,
                path: path.clone(),
            };
            // It may have come between the look and the lock.
            if let Some(blob) = self.sized(digest, size)? {
                return Ok(BlobTurn::Present(blob));
            }
            return BlobWriter::new(store, *digest, size, lock).map(BlobTurn::Mine);
        }
    }

    /// Stores a manifest, an index or a configuration.
    ///
    /// # Errors
    ///
    /// As [`begin_blob`](Self::begin_blob), and [`WrongSize`](StoreError::WrongSize) when it is longer than
    /// [`MAX_DOCUMENT`].
    pub fn put_document(&self, bytes: &[u8]) -> Result<Blob, StoreError> {
        let digest = Digest::of(bytes);
        let size = bytes.len() as u64;
        if size > MAX_DOCUMENT {
            return Err(StoreError::WrongSize {
                digest,
                expected: MAX_DOCUMENT,
                found: size,
            });
        }
        let mut again = true;
        loop {
            match self.begin_blob(&digest, size)? {
                BlobTurn::Present(blob) => match self.check_blob(&blob) {
                    Err(StoreError::Integrity { .. }) if again => again = false,
                    checked => return checked.map(|()| blob),
                },
                BlobTurn::Mine(mut writer) => {
                    writer.restart()?;
                    writer.write(bytes)?;
                    return writer.finish();
                }
                BlobTurn::Elsewhere(mut elsewhere) => {
                    if !elsewhere.wait(DOCUMENT_WAIT, &mut |_| {})? {
                        return Err(StoreError::Busy {
                            path: self.store().layout.partial(&digest),
                            waited: DOCUMENT_WAIT,
                        });
                    }
                }
            }
        }
    }
}

impl Claim {
    /// Makes a file of the claim's own work, written and hashed by it, a blob of the store.
    pub(crate) fn adopt_blob(&self, scratch: &Path, digest: &Digest) -> Result<(), StoreError> {
        self.keep(&[*digest])?;
        match durable::found(File::open(scratch)).at(scratch)? {
            Some(file) => file.sync_all().at(scratch)?,
            // Two of its layers are the same.
            None if self.store().blob(digest)?.is_some() => return Ok(()),
            None => return Err(StoreError::BlobMissing(*digest)),
        }
        // What is there already may have been damaged, and should somebody be downloading it, the same bytes come to
        // the same place a second time.
        durable::rename(scratch, &self.store().layout.blob(digest))
    }

    /// Looks whether a blob is what it was when it came. One that is not makes room, so that it can come again.
    ///
    /// # Errors
    ///
    /// [`Integrity`](StoreError::Integrity) when it is not.
    pub(crate) fn check_blob(&self, blob: &Blob) -> Result<(), StoreError> {
        let file = blob.open()?;
        let found = stamp::hash(&file).at(&blob.path)?;
        if found == blob.digest {
            return Ok(());
        }
        let _exclusive = self.store().exclusive()?;
        // Another may have come in its place since it was opened.
        if lock::is_current(&file, &blob.path) {
            fs::rename(&blob.path, self.scratch()).at(&blob.path)?;
        }
        Err(blob.changed(found))
    }

    /// The blob, if it is here. One of another size is either not what it was, and then as good as none, or
    /// the size is wrong.
    fn sized(&self, digest: &Digest, size: u64) -> Result<Option<Blob>, StoreError> {
        let Some(blob) = self.store().blob(digest)? else {
            return Ok(None);
        };
        if blob.size == size {
            return Ok(Some(blob));
        }
        match self.check_blob(&blob) {
            Err(error @ StoreError::Integrity { .. }) => {
                tracing::warn!(%error, "a blob is damaged and comes again");
                Ok(None)
            }
            checked => checked.and(Err(StoreError::WrongSize {
                digest: *digest,
                expected: size,
                found: blob.size,
            })),
        }
    }
}

impl BlobWriter {
    fn new(store: &Store, digest: Digest, size: u64, lock: LockFile) -> Result<Self, StoreError> {
        let partial = store.layout.partial(&digest);
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o600)
            .open(&partial)
            .at(&partial)?;
        let mut writer = Self {
            store: store.clone(),
            digest,
            size,
            offset: 0,
            hasher: Sha256::new(),
            file,
            partial,
            _lock: lock,
        };
        writer.resume()?;
        space::check(&store.layout.tmp(), size - writer.offset)?;
        Ok(writer)
    }

    /// Hashes what is there already.
    fn resume(&mut self) -> Result<(), StoreError> {
        let there = self.file.metadata().at(&self.partial)?.len();
        if there > self.size {
            return self.restart();
        }
        let mut buffer = vec![0; 128 << 10];
        while self.offset < there {
            let count = self.file.read(&mut buffer).at(&self.partial)?;
            let Some(read) = buffer.get(..count).filter(|read| !read.is_empty()) else {
                // Shorter than it was a moment ago; somebody meddles.
                return self.restart();
            };
            self.hasher.update(read);
            self.offset += count as u64;
        }
        match self.offset > self.size {
            true => self.restart(),
            false => Ok(()),
        }
    }

    /// Bytes that are here: where to go on.
    pub fn offset(&self) -> u64 {
        self.offset
    }

    /// Bytes that there are to be.
    pub fn size(&self) -> u64 {
        self.size
    }

    /// Takes the next bytes.
    ///
    /// # Errors
    ///
    /// [`WrongSize`](StoreError::WrongSize) when they are more than there are to be, and nothing is kept then;
    /// [`DiskFull`](StoreError::DiskFull).
    pub fn write(&mut self, bytes: &[u8]) -> Result<(), StoreError> {
        let offset = self.offset.saturating_add(bytes.len() as u64);
        if offset > self.size {
            self.restart()?;
            durable::remove_file(&self.partial)?;
            return Err(StoreError::WrongSize {
                digest: self.digest,
                expected: self.size,
                found: offset,
            });
        }
        if let Err(error) = self.file.write_all(bytes) {
            // Some of it may have been written, and is not hashed.
            self.file.set_len(self.offset).at(&self.partial)?;
            std::io::Seek::seek(&mut self.file, std::io::SeekFrom::Start(self.offset))
                .at(&self.partial)?;
            return Err(StoreError::io(&self.partial, error));
        }
        self.hasher.update(bytes);
        self.offset = offset;
        Ok(())
    }

    /// Forgets what came, for a source that cannot go on in the middle.
    ///
    /// # Errors
    ///
    /// [`Io`](StoreError::Io).
    pub fn restart(&mut self) -> Result<(), StoreError> {
        self.file
            .set_len(0)
            .and_then(|()| std::io::Seek::rewind(&mut self.file))
            .at(&self.partial)?;
        self.hasher = Sha256::new();
        self.offset = 0;
        Ok(())
    }

    /// Makes it a blob of the store.
    ///
    /// # Errors
    ///
    /// [`WrongSize`](StoreError::WrongSize) when bytes are missing: those that came are kept.
    /// [`WrongDigest`](StoreError::WrongDigest) when it is something else: nothing is kept, so after a download
    /// that was gone on with, another from the start may be right.
    pub fn finish(self) -> Result<Blob, StoreError> {
        if self.offset != self.size {
            return Err(StoreError::WrongSize {
                digest: self.digest,
                expected: self.size,
                found: self.offset,
            });
        }
        let found = Digest::from_hasher(self.hasher.clone());
        if found != self.digest {
            durable::remove_file(&self.partial)?;
            return Err(StoreError::WrongDigest {
                expected: self.digest,
                found,
            });
        }
        self.file.sync_all().at(&self.partial)?;
        let path = self.store.layout.blob(&self.digest);
        durable::rename(&self.partial, &path)?;
        Ok(Blob {
            digest: self.digest,
            size: self.size,
            path,
        })
    }
}

/// A lock's file, removed before it is let go, so that none is left for each digest there ever was.
#[derive(Debug)]
pub(super) struct LockFile {
    _file: File,
    path: PathBuf,
}

impl Drop for LockFile {
    fn drop(&mut self) {
        // One that stays is free, and is used again or swept.
        let _ = fs::remove_file(Path::new(&self.path));
    }
}

#[cfg(test)]
#[path = "blob_tests.rs"]
mod tests;
