//! One step down from an open directory.
//!
//! A name that was checked to be a single step cannot lead out of its directory but by a symbolic
//! link, and `O_NOFOLLOW` stops at those. `openat2` says the same once more, for the whole
//! resolution; kernels and containers that do not have it (it is of 2020) get the first alone.

use std::ffi::{CString, OsStr};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use msb_protocol::{FsFailure, FsFailureKind, FsTime, check_name};
use rustix::fs::{CWD, Mode, OFlags, ResolveFlags, Timespec, Timestamps, openat, openat2};
use rustix::io::Errno;

use crate::Result;
use crate::failure::fail;

/// Opens `name`, one step below `directory`, without following a link.
pub(crate) fn open_step(
    directory: impl AsFd,
    name: &std::ffi::CStr,
    flags: OFlags,
    mode: Mode,
) -> rustix::io::Result<OwnedFd> {
    let flags = flags | OFlags::NOFOLLOW | OFlags::CLOEXEC | OFlags::NOCTTY;
    let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_MAGICLINKS;
    let opened =
        rustix::io::retry_on_intr(|| openat2(directory.as_fd(), name, flags, mode, resolve));
    match opened {
        Err(Errno::NOSYS | Errno::PERM) => {
            rustix::io::retry_on_intr(|| openat(directory.as_fd(), name, flags, mode))
        }
        opened => opened,
    }
}

/// What a peer or a directory calls a file, as one step.
pub(crate) fn step_name(name: &[u8]) -> Result<CString> {
    let bad = |kind| {
        FsFailure::new(
            kind,
            format!("{:?} is not a file's name", String::from_utf8_lossy(name)),
        )
    };
    check_name(name).map_err(bad)?;
    CString::new(name).map_err(|_| bad(FsFailureKind::InvalidName))
}

/// A place that a caller named: the directory it is in, open, and its name there.
#[derive(Debug)]
pub(crate) struct Place {
    pub(crate) parent: OwnedFd,
    pub(crate) name: CString,
    pub(crate) path: PathBuf,
}

impl Place {
    /// Finds it. The way to it is the caller's own, so links on it are followed; what is
    /// at the place itself is not looked at.
    pub(crate) fn find(path: &Path) -> Result<Self> {
        let Some(name) = path.file_name() else {
            return Err(FsFailure::new(
                FsFailureKind::InvalidArgument,
                format!("{}: name a place within a directory", path.display()),
            ));
        };
        let parent = match path.parent() {
            Some(parent) if !parent.as_os_str().is_empty() => parent,
            _ => Path::new("."),
        };
        // Only found and not read: a directory that one may put something into need not be readable.
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let opened = rustix::io::retry_on_intr(|| openat(CWD, parent, flags, Mode::empty()));
        Ok(Self {
            parent: opened.map_err(|errno| fail(errno, parent))?,
            name: step_name(name.as_bytes())?,
            path: path.to_owned(),
        })
    }
}

/// Both times, for the kernel; nothing that is special to it.
pub(crate) fn timestamps(accessed: FsTime, modified: FsTime) -> Result<Timestamps> {
    let time = |time: FsTime| {
        time.is_valid()
            .then(|| Timespec {
                tv_sec: time.seconds,
                tv_nsec: time.nanos.into(),
            })
            .ok_or_else(|| {
                FsFailure::new(
                    FsFailureKind::InvalidArgument,
                    "a time has more nanoseconds than a second has",
                )
            })
    };
    Ok(Timestamps {
        last_access: time(accessed)?,
        last_modification: time(modified)?,
    })
}

/// The name as part of a path in a message.
pub(crate) fn shown(name: &std::ffi::CStr) -> &Path {
    Path::new(OsStr::from_bytes(name.to_bytes()))
}
