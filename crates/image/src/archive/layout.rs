//! An OCI layout that is a directory of the host.
//!
//! It is read where it is, and only what is asked for: each file is copied into the work while it is hashed, so that
//! what was hashed is what is stored, whoever writes to the directory meanwhile.

use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

use rustix::fs::{Mode, OFlags, ResolveFlags};
use rustix::io::Errno;

use super::ArchiveError;
use super::files::{Files, Links, Staged};
use crate::store::Claim;

/// A directory.
pub(super) struct Layout {
    path: PathBuf,
    dir: OwnedFd,
}

impl Layout {
    pub(super) fn open(path: &Path) -> Result<Self, ArchiveError> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let dir = rustix::fs::open(path, flags, Mode::empty())
            .map_err(|error| ArchiveError::io(path, error.into()))?;
        Ok(Self {
            path: path.to_path_buf(),
            dir,
        })
    }
}

impl Files for Layout {
    fn file(
        &self,
        claim: &Claim,
        name: &str,
        _: Links,
        limit: u64,
    ) -> Result<Option<Staged>, ArchiveError> {
        let path = self.path.join(name);
        let io = |source: io::Error| ArchiveError::io(&path, source);
        // No link is followed, on no part of the way.
        let opened = rustix::fs::openat2(
            &self.dir,
            name,
            OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NONBLOCK,
            Mode::empty(),
            ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS,
        );
        let file = match opened {
            Ok(file) => File::from(file),
            Err(Errno::NOENT | Errno::NOTDIR) => return Ok(None),
            Err(Errno::LOOP | Errno::XDEV) => return Err(ArchiveError::NoFile(name.to_owned())),
            Err(error) => return Err(io(error.into())),
        };
        let found = file.metadata().map_err(io)?;
        if !found.is_file() {
            return Err(ArchiveError::NoFile(name.to_owned()));
        }
        let too_long = || ArchiveError::TooLong {
            name: name.to_owned(),
            limit,
        };
        if found.len() > limit {
            return Err(too_long());
        }
        claim.check_space(found.len())?;
        let mut scratch = claim.stage()?;
        let mut file = file.take(limit.saturating_add(1));
        let mut buffer = vec![0; 128 << 10];
        loop {
            let count = match file.read(&mut buffer) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                read => read.map_err(io)?,
            };
            match buffer.get(..count) {
                None | Some([]) => break,
                Some(read) => scratch
                    .write_all(read)
                    .map_err(|source| ArchiveError::io(scratch.path(), source))?,
            }
        }
        let (path, digest, size) = scratch.finish();
        match size > limit {
            true => Err(too_long()),
            false => Ok(Some(Staged { path, digest, size })),
        }
    }
}
