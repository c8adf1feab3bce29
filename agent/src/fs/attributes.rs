//! What is known of a file, and changing that.
//!
//! A change is made to the file that was found once, by a descriptor, and not to whatever is at
//! the path by then: between two system calls a guest's user could put a link there, and
//! have the agent, which is root, open up another file for them.

use std::os::fd::{AsFd, AsRawFd};
use std::path::{Path, PathBuf};

use msb_files::{Result, fail};
use msb_protocol::{FsAttributes, FsFailure, FsFailureKind, FsKind, FsStat, FsTime};
use rustix::fs::{
    AtFlags, CWD, FileType, Gid, Mode, OFlags, StatxFlags, Timespec, Timestamps, UTIME_OMIT, Uid,
    chmod, chownat, fstat, ftruncate, open, openat, statx, utimensat,
};
use rustix::io::{Errno, retry_on_intr};

/// What is known of the file at `path`.
pub(super) fn stat(path: &Path, follow: bool) -> Result<FsStat> {
    let flags = match follow {
        true => AtFlags::empty(),
        false => AtFlags::SYMLINK_NOFOLLOW,
    };
    look(CWD, path, flags).map_err(|errno| fail(errno, path))
}

/// The same of a name in a directory.
pub(super) fn look(
    directory: impl AsFd,
    name: impl rustix::path::Arg,
    flags: AtFlags,
) -> std::result::Result<FsStat, Errno> {
    let wanted = StatxFlags::BASIC_STATS | StatxFlags::BTIME;
    let found = statx(directory, name, flags, wanted)?;
    let mode = u32::from(found.stx_mode);
    let time = |time: rustix::fs::StatxTimestamp| FsTime {
        seconds: time.tv_sec,
        nanos: time.tv_nsec,
    };
    let born = StatxFlags::from_bits_retain(found.stx_mask).contains(StatxFlags::BTIME);
    Ok(FsStat {
        kind: match FileType::from_raw_mode(mode) {
            FileType::RegularFile => FsKind::File,
            FileType::Directory => FsKind::Directory,
            FileType::Symlink => FsKind::Symlink,
            _ => FsKind::Other,
        },
        size: found.stx_size,
        mode: mode & 0o7777,
        uid: found.stx_uid,
        gid: found.stx_gid,
        accessed: time(found.stx_atime),
        modified: time(found.stx_mtime),
        created: born.then(|| time(found.stx_btime)),
    })
}

/// Changes what is given.
pub(super) fn set(path: &Path, follow: bool, attributes: &FsAttributes) -> Result<()> {
    let at = |errno| fail(errno, path);
    let nofollow = match follow {
        true => OFlags::empty(),
        false => OFlags::NOFOLLOW,
    };
    let flags = OFlags::PATH | OFlags::CLOEXEC | nofollow;
    let file = retry_on_intr(|| openat(CWD, path, flags, Mode::empty())).map_err(at)?;
    let stat = fstat(&file).map_err(at)?;
    let kind = FileType::from_raw_mode(stat.st_mode);
    // The one name by which a file that is only found can be changed.
    let by_descriptor = PathBuf::from(format!("/proc/self/fd/{}", file.as_raw_fd()));
    if kind == FileType::Symlink && (attributes.mode.is_some() || attributes.size.is_some()) {
        return Err(FsFailure::new(
            FsFailureKind::NotSupported,
            format!(
                "{}: a symbolic link has neither permissions nor a size of its own",
                path.display()
            ),
        ));
    }
    if let Some(size) = attributes.size {
        match kind {
            FileType::RegularFile => {}
            FileType::Directory => return Err(at(Errno::ISDIR)),
            _ => return Err(at(Errno::INVAL)),
        }
        let flags = OFlags::WRONLY | OFlags::CLOEXEC;
        let writable = retry_on_intr(|| open(&by_descriptor, flags, Mode::empty())).map_err(at)?;
        ftruncate(&writable, size).map_err(at)?;
    }
    if attributes.uid.is_some() || attributes.gid.is_some() {
        let uid = attributes.uid.map(|uid| owner(uid).map(Uid::from_raw));
        let gid = attributes.gid.map(|gid| owner(gid).map(Gid::from_raw));
        let (uid, gid) = (uid.transpose()?, gid.transpose()?);
        chownat(&file, c"", uid, gid, AtFlags::EMPTY_PATH).map_err(at)?;
    }
    // After the owner, a change of which takes the set-user-id bit away.
    if let Some(mode) = attributes.mode {
        chmod(&by_descriptor, Mode::from_raw_mode(mode & 0o7777)).map_err(at)?;
    }
    if attributes.accessed.is_some() || attributes.modified.is_some() {
        let times = Timestamps {
            last_access: moment(attributes.accessed)?,
            last_modification: moment(attributes.modified)?,
        };
        utimensat(&file, c"", &times, AtFlags::EMPTY_PATH).map_err(at)?;
    }
    Ok(())
}

/// The number that means "no change" to the kernel is nobody's.
fn owner(id: u32) -> Result<u32> {
    match id {
        u32::MAX => Err(FsFailure::new(
            FsFailureKind::InvalidArgument,
            format!("{id} is no user's or group's number"),
        )),
        id => Ok(id),
    }
}

fn moment(time: Option<FsTime>) -> Result<Timespec> {
    match time {
        None => Ok(Timespec {
            tv_sec: 0,
            tv_nsec: UTIME_OMIT,
        }),
        Some(time) if time.is_valid() => Ok(Timespec {
            tv_sec: time.seconds,
            tv_nsec: time.nanos.into(),
        }),
        Some(_) => Err(FsFailure::new(
            FsFailureKind::InvalidArgument,
            "a time has more nanoseconds than a second has",
        )),
    }
}
