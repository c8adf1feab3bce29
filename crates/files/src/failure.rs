//! From the kernel's error numbers to kinds that a program can act on.

use std::path::Path;

use msb_protocol::{FsFailure, FsFailureKind, MAX_TREE_DEPTH};
use rustix::io::Errno;

/// The failure of something done at `path`.
pub fn fail(errno: Errno, path: &Path) -> FsFailure {
    let kind = kind_of(errno);
    FsFailure {
        kind,
        message: format!("{}: {}", path.display(), sentence(errno, kind)),
        errno: Some(errno.raw_os_error()),
    }
}

/// The failure of work whose result nobody waits for any more.
pub fn cancelled() -> FsFailure {
    FsFailure::new(FsFailureKind::Cancelled, "whoever asked for it is gone")
}

/// The failure of a tree that is followed no further.
pub(crate) fn too_deep(path: &Path) -> FsFailure {
    FsFailure::new(
        FsFailureKind::TooDeep,
        format!(
            "{}: more than {MAX_TREE_DEPTH} directories within one another",
            path.display()
        ),
    )
}

/// The kind that an error number comes to.
pub fn kind_of(errno: Errno) -> FsFailureKind {
    use FsFailureKind as K;
    match errno {
        Errno::NOENT => K::NotFound,
        Errno::ACCESS | Errno::PERM => K::PermissionDenied,
        Errno::EXIST => K::AlreadyExists,
        Errno::NOTDIR => K::NotADirectory,
        Errno::ISDIR => K::IsADirectory,
        Errno::NOTEMPTY => K::NotEmpty,
        Errno::NOSPC | Errno::DQUOT => K::NoSpace,
        Errno::ROFS => K::ReadOnly,
        Errno::NAMETOOLONG => K::NameTooLong,
        Errno::LOOP => K::Loop,
        Errno::STALE => K::ChangedUnderneath,
        Errno::FBIG | Errno::OVERFLOW => K::TooLarge,
        Errno::BUSY | Errno::TXTBSY | Errno::AGAIN => K::Busy,
        Errno::XDEV => K::CrossDevice,
        Errno::OPNOTSUPP | Errno::NOSYS | Errno::NXIO | Errno::NODEV | Errno::NOTTY => {
            K::NotSupported
        }
        Errno::INVAL | Errno::SPIPE => K::InvalidArgument,
        Errno::NOMEM | Errno::MFILE | Errno::NFILE => K::ResourceExhausted,
        _ => K::Other,
    }
}

/// What a person reads of it.
fn sentence(errno: Errno, kind: FsFailureKind) -> String {
    use FsFailureKind as K;
    let known = match kind {
        K::NotFound => "there is no such file or directory",
        K::PermissionDenied => "that is not permitted",
        K::AlreadyExists => "something is there already",
        K::NotADirectory => "it, or a step of the way, is not a directory",
        K::IsADirectory => "it is a directory",
        K::NotEmpty => "the directory is not empty",
        K::NoSpace => "the file system is full",
        K::ReadOnly => "the file system is read-only",
        K::NameTooLong => "the name is too long",
        K::Loop => "symbolic links lead round in a circle, or one is where none may be",
        K::Busy => "it is in use",
        K::CrossDevice => "the two places are on different file systems; copy it instead",
        K::ResourceExhausted => "memory or descriptors are used up; try again later",
        _ => return errno.to_string(),
    };
    known.to_owned()
}
