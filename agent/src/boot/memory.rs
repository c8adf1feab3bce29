//! Memory as a file system: made where nobody can see it, filled, and only then put in its place.
//!
//! A place is found first and opened, and what is mounted is mounted on the open directory. So
//! nothing that an image does with links can have it land anywhere but where it was looked at.

use std::os::fd::{AsFd, OwnedFd};

use rustix::fs::{CWD, FileType, Mode, OFlags, PROC_SUPER_MAGIC, fstat, fstatfs, mkdirat, openat};
use rustix::io::Errno;
use rustix::mount::{
    FsMountFlags, FsOpenFlags, MountAttrFlags, MoveMountFlags, fsconfig_create,
    fsconfig_set_string, fsmount, fsopen, move_mount,
};

/// What sysfs says of itself (`SYSFS_MAGIC`, `linux/magic.h`).
const SYSFS_MAGIC: u64 = 0x6265_6572;

/// Only to be looked at and mounted on.
const PLACE: OFlags = OFlags::PATH.union(OFlags::DIRECTORY).union(OFlags::CLOEXEC);

/// A file system in memory that is mounted nowhere yet, with these options.
pub(super) fn make(options: &[(&str, &str)], attributes: MountAttrFlags) -> Result<OwnedFd, Errno> {
    let context = fsopen("tmpfs", FsOpenFlags::FSOPEN_CLOEXEC)?;
    fsconfig_set_string(&context, "source", "tmpfs")?;
    for (name, value) in options {
        fsconfig_set_string(&context, *name, *value)?;
    }
    fsconfig_create(&context)?;
    fsmount(&context, FsMountFlags::FSMOUNT_CLOEXEC, attributes)
}

/// Puts what is mounted nowhere yet on an open directory.
pub(super) fn attach(mount: impl AsFd, place: impl AsFd) -> Result<(), Errno> {
    let flags = MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH | MoveMountFlags::MOVE_MOUNT_T_EMPTY_PATH;
    move_mount(mount.as_fd(), c"", place.as_fd(), c"", flags)
}

/// Moves what is mounted at `from` on an open directory.
pub(super) fn shift(from: &str, place: impl AsFd) -> Result<(), Errno> {
    move_mount(
        CWD,
        from,
        place.as_fd(),
        c"",
        MoveMountFlags::MOVE_MOUNT_T_EMPTY_PATH,
    )
}

/// The directory `name` of `parent`, which is made if it is missing. A link is none.
pub(super) fn directory(parent: impl AsFd, name: &str) -> Result<OwnedFd, Errno> {
    let parent = parent.as_fd();
    let flags = PLACE | OFlags::NOFOLLOW;
    match openat(parent, name, flags, Mode::empty()) {
        Err(Errno::NOENT) => {
            mkdirat(parent, name, Mode::from_raw_mode(0o755))?;
            openat(parent, name, flags, Mode::empty())
        }
        other => other,
    }
}

/// The directory at an absolute path, whose missing ones are made. Links are followed: the root's
/// own are part of what it looks like.
pub(super) fn path(path: &str) -> Result<OwnedFd, Errno> {
    let mut place = openat(CWD, "/", PLACE, Mode::empty())?;
    for name in path.split('/').filter(|name| !name.is_empty()) {
        place = match openat(&place, name, PLACE, Mode::empty()) {
            Err(Errno::NOENT) => directory(&place, name)?,
            other => other?,
        };
    }
    Ok(place)
}

/// Whether it is the kernel's own, which everything in the guest needs to be seen.
pub(super) fn is_kernels(place: impl AsFd) -> Result<bool, Errno> {
    let kind = u64::try_from(fstatfs(&place)?.f_type).unwrap_or_default();
    if kind == SYSFS_MAGIC || kind == u64::try_from(PROC_SUPER_MAGIC).unwrap_or_default() {
        return Ok(true);
    }
    // What is below /dev is anyone's.
    Ok(same(&place, "/dev")? || same(&place, "/")?)
}

/// Whether an open directory is the one at `path`.
fn same(place: impl AsFd, path: &str) -> Result<bool, Errno> {
    let there = openat(CWD, path, PLACE, Mode::empty())?;
    let (here, there) = (fstat(place)?, fstat(there)?);
    Ok((here.st_dev, here.st_ino) == (there.st_dev, there.st_ino))
}

/// Whether it is a regular file that is open.
pub(super) fn is_file(file: impl AsFd) -> Result<bool, Errno> {
    Ok(FileType::from_raw_mode(fstat(file)?.st_mode) == FileType::RegularFile)
}
