//! Whether a file is as it was when it was verified.
//!
//! Hashing gigabytes before each boot would take longer than the boot. So after a file was hashed it is noted
//! what the file system says of it. As long as that is the same nobody has written to it: a write changes the
//! times, of which `ctime` cannot be set by a program, and another file in its place has another inode. If
//! anything differs, as it does after the store was copied, the file is hashed again.

use std::fs::{File, Metadata};
use std::io;
use std::os::unix::fs::{FileExt, MetadataExt};

use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use crate::Digest;

/// What a file was when its digest was taken.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Noted {
    /// Of its bytes.
    pub(super) digest: Digest,
    /// In bytes.
    pub(super) size: u64,
    inode: u64,
    mtime: (i64, i64),
    ctime: (i64, i64),
}

/// How a file compares with what was noted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Compared {
    /// Nobody has touched it.
    Same,
    /// It was touched, and has the same bytes.
    Touched(Noted),
    /// It has other bytes.
    Changed(Digest),
}

impl Noted {
    /// Hashes a file and notes what it is.
    pub(super) fn of(file: &File) -> io::Result<Self> {
        // Before its bytes are read: what is written while they are shows.
        let found = file.metadata()?;
        let digest = hash(file)?;
        Ok(Self::new(digest, &found))
    }

    /// Notes a file whose digest was taken while it was written, by us alone.
    pub(super) fn new(digest: Digest, found: &Metadata) -> Self {
        Self {
            digest,
            size: found.len(),
            inode: found.ino(),
            mtime: (found.mtime(), found.mtime_nsec()),
            ctime: (found.ctime(), found.ctime_nsec()),
        }
    }

    /// Compares a file with it, by hashing only if that is needed.
    pub(super) fn compare(&self, file: &File) -> io::Result<Compared> {
        if *self == Self::new(self.digest, &file.metadata()?) {
            return Ok(Compared::Same);
        }
        self.compare_bytes(file)
    }

    /// Compares its bytes, whatever the file system says.
    pub(super) fn compare_bytes(&self, file: &File) -> io::Result<Compared> {
        let now = Self::of(file)?;
        Ok(match now {
            now if now.digest != self.digest => Compared::Changed(now.digest),
            now if now == *self => Compared::Same,
            now => Compared::Touched(now),
        })
    }
}

/// Hashes a file, wherever it stands.
pub(super) fn hash(file: &File) -> io::Result<Digest> {
    let mut hasher = Sha256::new();
    let mut buffer = vec![0; 256 << 10];
    let mut offset = 0;
    loop {
        let count = match file.read_at(&mut buffer, offset) {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            read => read?,
        };
        match buffer.get(..count) {
            None | Some([]) => return Ok(Digest::from_hasher(hasher)),
            Some(read) => hasher.update(read),
        }
        offset += count as u64;
    }
}
