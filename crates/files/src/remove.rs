//! Removing a tree, whatever is done to it meanwhile.
//!
//! As in the walk of the reader, every level is an open directory and every step is one name
//! that is not followed. Nothing on another file system is touched: what is mounted
//! somewhere below belongs to somebody else.

use std::ffi::{CStr, CString};
use std::os::fd::{AsFd, BorrowedFd};
use std::path::{Path, PathBuf};

use msb_protocol::{FsFailure, FsFailureKind, MAX_TREE_DEPTH};
use rustix::fs::{AtFlags, Dir, FileType, Mode, OFlags, Stat, chmodat, fstat, statat, unlinkat};
use rustix::io::Errno;

use crate::Result;
use crate::failure::{fail, too_deep};
use crate::step::{Place, open_step, shown};

/// Whether directories that may not be written to are made writable first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Force {
    /// They are an error.
    No,
    /// They are made writable: nobody but the caller can have put anything there.
    Yes,
}

/// Removes the directory at `path` with all in it, or the link there. `tick` is called
/// before each removal, and can end it.
pub fn remove_tree(path: &Path, tick: &mut dyn FnMut() -> Result<()>) -> Result<()> {
    let place = Place::find(path)?;
    let stat = statat(&place.parent, &*place.name, AtFlags::SYMLINK_NOFOLLOW)
        .map_err(|errno| fail(errno, path))?;
    match FileType::from_raw_mode(stat.st_mode) {
        FileType::Directory => {}
        FileType::Symlink => {
            return unlinkat(&place.parent, &*place.name, AtFlags::empty())
                .map_err(|errno| fail(errno, path));
        }
        _ => return Err(fail(Errno::NOTDIR, path)),
    }
    let parent = fstat(&place.parent).map_err(|errno| fail(errno, path))?;
    if parent.st_dev != stat.st_dev {
        return Err(mounted(path));
    }
    remove_below(place.parent.as_fd(), &place.name, path, Force::No, tick)
}

/// Removes the directory `name` of `parent` with all in it.
pub(crate) fn remove_below(
    parent: BorrowedFd<'_>,
    name: &CStr,
    path: &Path,
    force: Force,
    tick: &mut dyn FnMut() -> Result<()>,
) -> Result<()> {
    let (level, stat) = open_level(parent, name, force).map_err(|errno| fail(errno, path))?;
    let mut removal = Removal {
        levels: vec![(level, name.to_owned())],
        device: stat.st_dev,
        path: path.to_owned(),
        force,
    };
    loop {
        tick()?;
        let Some((level, _)) = removal.levels.last_mut() else {
            return Ok(());
        };
        match level.read() {
            Some(Err(errno)) => return Err(fail(errno, &removal.path)),
            Some(Ok(entry)) => {
                let name = entry.file_name();
                if name != c"." && name != c".." {
                    let name = name.to_owned();
                    removal.below(name)?;
                }
            }
            None => removal.leave(parent)?,
        }
    }
}

struct Removal {
    levels: Vec<(Dir, CString)>,
    device: u64,
    /// Where it is, for messages.
    path: PathBuf,
    force: Force,
}

impl Removal {
    fn below(&mut self, name: CString) -> Result<()> {
        let at = |errno, path: &Path| fail(errno, &path.join(shown(&name)));
        let Some((level, _)) = self.levels.last() else {
            return Ok(());
        };
        let directory = level.fd().map_err(|errno| at(errno, &self.path))?;
        match unlinkat(directory, &*name, AtFlags::empty()) {
            Ok(()) | Err(Errno::NOENT) => return Ok(()),
            // Linux says the first for a directory, POSIX allows the second.
            Err(Errno::ISDIR | Errno::PERM) => {}
            Err(errno) => return Err(at(errno, &self.path)),
        }
        if self.levels.len() >= MAX_TREE_DEPTH {
            return Err(too_deep(&self.path));
        }
        match open_level(directory, &name, self.force) {
            Ok((_, stat)) if stat.st_dev != self.device => {
                Err(mounted(&self.path.join(shown(&name))))
            }
            Ok((level, _)) => {
                self.path.push(shown(&name));
                self.levels.push((level, name));
                Ok(())
            }
            Err(Errno::NOENT) => Ok(()),
            // A link or a file by now; the next attempt would remove that. And EPERM was meant.
            Err(Errno::NOTDIR | Errno::LOOP) => {
                unlinkat(directory, &*name, AtFlags::empty()).map_err(|errno| at(errno, &self.path))
            }
            Err(errno) => Err(at(errno, &self.path)),
        }
    }

    /// The directory that is open is empty now.
    fn leave(&mut self, root: BorrowedFd<'_>) -> Result<()> {
        let Some((_, name)) = self.levels.pop() else {
            return Ok(());
        };
        let removed = match self.levels.last() {
            None => unlinkat(root, &*name, AtFlags::REMOVEDIR),
            Some((above, _)) => above
                .fd()
                .and_then(|above| unlinkat(above, &*name, AtFlags::REMOVEDIR)),
        };
        match removed {
            Ok(()) | Err(Errno::NOENT) => {
                self.path.pop();
                Ok(())
            }
            Err(errno) => Err(fail(errno, &self.path)),
        }
    }
}

fn open_level(
    parent: BorrowedFd<'_>,
    name: &CStr,
    force: Force,
) -> rustix::io::Result<(Dir, Stat)> {
    if force == Force::Yes {
        let seen = statat(parent, name, AtFlags::SYMLINK_NOFOLLOW)?;
        if FileType::from_raw_mode(seen.st_mode) == FileType::Directory {
            // Where that fails, opening it says why.
            let _ = chmodat(parent, name, Mode::RWXU, AtFlags::empty());
        }
    }
    let opened = open_step(
        parent,
        name,
        OFlags::RDONLY | OFlags::DIRECTORY,
        Mode::empty(),
    )?;
    let stat = fstat(&opened)?;
    Ok((Dir::new(opened)?, stat))
}

fn mounted(path: &Path) -> FsFailure {
    FsFailure::new(
        FsFailureKind::Busy,
        format!("{}: a file system is mounted there", path.display()),
    )
}
