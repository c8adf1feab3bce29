//! A root of two disks: below what many machines share, above it what this one changed.
//!
//! ```text
//!  /newroot   overlay ──┬── /upper/upper   changes         ext4, writable
//!                       │   /upper/work    the kernel's
//!                       └── /lower         the image       read-only
//! ```
//!
//! The two disks are mounted in the initramfs and only until the overlay is: it holds what it needs of them. The
//! upper one's root is kept open for the end, when the file system on it is to be left clean. Nothing else
//! leads to it, so nobody changes it behind the overlay's back.

use std::ffi::CStr;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::OnceLock;
use std::time::Duration;

use msb_protocol::BootStage;
use rustix::fs::{
    AtFlags, Mode, OFlags, Timespec, Timestamps, UTIME_OMIT, fchmod, fchown, fstat, futimens,
    mkdir, mkdirat, open, openat, renameat, unlinkat,
};
use rustix::io::Errno;
use rustix::mount::{
    FsPickFlags, MountFlags, UnmountFlags, fsconfig_reconfigure, fsconfig_set_flag, fspick, mount,
    unmount,
};
use rustix::process::{Gid, Uid};

use super::switch::NEW_ROOT;
use super::{BootError, disks, root, upper, xattrs};

const LOWER: &str = "/lower";
const UPPER: &str = "/upper";

/// What the upper disk has in its root.
const CHANGES: &str = "upper";
const WORK: &str = "work";
/// The first before it is complete.
const NEW_CHANGES: &str = "upper.new";

/// - `redirect_dir`: a directory of the image can be renamed, as on any other file system;
/// - `xino`: one device number for all, and a file keeps its number when it is changed. The image's files have numbers
///   from 2^63 on, since the kernel takes the highest bit for telling them apart;
/// - `metacopy` off: what is above does not depend on what is below more than it has to;
/// - `index` and `nfs_export` off: they cost something with each change, for what no container has had.
const OPTIONS: &CStr =
    c"lowerdir=/lower,upperdir=/upper/upper,workdir=/upper/work,redirect_dir=on,\
xino=on,metacopy=off,index=off,nfs_export=off";

/// The root of the upper disk, once it is in use.
static KEPT: OnceLock<OwnedFd> = OnceLock::new();

/// How the disk below is known.
#[derive(Clone, Copy, Debug)]
pub(super) enum Lower<'a> {
    /// By its serial.
    Serial(&'a str),
    /// By its device.
    Device(&'a str),
}

/// Mounts two disks, one over the other, where the new root is prepared. The upper one is known by its serial.
pub(super) async fn mount_disks(
    lower: Lower<'_>,
    fstype: Option<&str>,
    upper: &str,
    patience: Duration,
) -> Result<(), BootError> {
    let lower = match lower {
        Lower::Serial(serial) => disks::with_serial(serial, patience).await?,
        Lower::Device(device) => disks::at(device, patience).await?,
    };
    let upper = disks::with_serial(upper, patience).await?;
    for place in [LOWER, UPPER, NEW_ROOT] {
        match mkdir(place, Mode::from_raw_mode(0o755)) {
            Ok(()) | Err(Errno::EXIST) => {}
            Err(error) => return Err(BootError::new(BootStage::Root, place, error)),
        }
    }
    root::file_system(&lower, LOWER, fstype, true)?;
    upper::mount(&upper, UPPER)?;
    let kept = put_together().map_err(|error| {
        let what = "putting the writable disk over the image";
        BootError::new(BootStage::Root, what, error)
    })?;
    let _ = KEPT.set(kept);
    Ok(())
}

/// Whether the root is of two disks.
pub(crate) fn is_root() -> bool {
    KEPT.get().is_some()
}

/// Leaves the upper disk clean: all is written to it, and it is not written to any more. Nothing happens to a
/// root that has none.
pub(crate) fn close() -> Result<(), Errno> {
    KEPT.get().map_or(Ok(()), read_only)
}

fn read_only(directory: impl AsFd) -> Result<(), Errno> {
    let flags = FsPickFlags::FSPICK_CLOEXEC | FsPickFlags::FSPICK_EMPTY_PATH;
    let context = fspick(directory, c"", flags)?;
    fsconfig_set_flag(&context, "ro")?;
    fsconfig_reconfigure(&context)
}

/// Mounts the overlay of what is mounted at `/lower` and `/upper`, and these two no longer. Returns the
/// upper one's root.
fn put_together() -> Result<OwnedFd, Errno> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let lower = open(LOWER, flags, Mode::empty())?;
    let upper = open(UPPER, flags, Mode::empty())?;
    prepare(&lower, &upper)?;
    mount("overlay", NEW_ROOT, "overlay", MountFlags::empty(), OPTIONS)?;
    drop(lower);
    unmount(LOWER, UnmountFlags::NOFOLLOW)?;
    // Out of sight, and there for as long as it is open.
    unmount(UPPER, UnmountFlags::DETACH | UnmountFlags::NOFOLLOW)?;
    Ok(upper)
}

/// Makes what the upper disk has to have, where it is missing.
fn prepare(lower: &OwnedFd, upper: &OwnedFd) -> Result<(), Errno> {
    match mkdirat(upper, WORK, Mode::RWXU) {
        Ok(()) | Err(Errno::EXIST) => {}
        Err(error) => return Err(error),
    }
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    match openat(upper, CHANGES, flags, Mode::empty()) {
        Ok(_) => return Ok(()),
        Err(Errno::NOENT) => {}
        Err(error) => return Err(error),
    }
    // The root of an overlay is the upper one's: it has to look as the image's does.
    match unlinkat(upper, NEW_CHANGES, AtFlags::REMOVEDIR) {
        Ok(()) | Err(Errno::NOENT) => {}
        Err(error) => return Err(error),
    }
    mkdirat(upper, NEW_CHANGES, Mode::RWXU)?;
    let new = openat(upper, NEW_CHANGES, flags, Mode::empty())?;
    let like = fstat(lower)?;
    fchown(
        &new,
        Some(Uid::from_raw(like.st_uid)),
        Some(Gid::from_raw(like.st_gid)),
    )?;
    fchmod(&new, Mode::from_raw_mode(like.st_mode))?;
    xattrs::copy(lower, &new);
    futimens(
        &new,
        &Timestamps {
            last_access: Timespec {
                tv_sec: 0,
                tv_nsec: UTIME_OMIT,
            },
            last_modification: Timespec {
                tv_sec: like.st_mtime,
                tv_nsec: i64::try_from(like.st_mtime_nsec).unwrap_or_default(),
            },
        },
    )?;
    renameat(upper, NEW_CHANGES, upper, CHANGES)
}

#[cfg(test)]
#[path = "overlay_tests.rs"]
mod tests;
