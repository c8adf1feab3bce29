//! A file that appears at its place whole, and of which a kill leaves nothing.
//!
//! It is written without a name where the file system can do that (`O_TMPFILE`): the kernel frees it with its
//! writer. A link cannot replace what is there, so then it has a passing name for the one instant before a rename.
//! On file systems that cannot do it, it has that name all the time. What has the name is locked for as long as
//! its writer lives, and whoever writes next to it deletes what is not.

use std::fs::{self, File, OpenOptions};
use std::io::{self, ErrorKind};
use std::os::fd::{AsFd, AsRawFd};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::Path;

use rustix::fs::{AtFlags, CWD, Mode, OFlags, linkat, open};
use rustix::io::Errno;
use tempfile::NamedTempFile;

/// What passing names begin with.
const PASSING: &str = ".msb-export-";

/// How often a file is made anew that a sweep took for abandoned.
const TRIES: usize = 16;

/// A file in the making.
pub(super) enum Outgoing {
    Nameless(File),
    Named(NamedTempFile),
}

impl Outgoing {
    /// Begins one in this directory.
    pub(super) fn begin(dir: &Path) -> io::Result<Self> {
        sweep(dir);
        let flags = OFlags::TMPFILE | OFlags::RDWR | OFlags::CLOEXEC;
        match open(dir, flags, Mode::RUSR | Mode::WUSR) {
            Ok(file) => {
                let file = File::from(file);
                file.try_lock()?;
                Ok(Self::Nameless(file))
            }
            Err(Errno::OPNOTSUPP | Errno::ISDIR | Errno::NOENT | Errno::INVAL) => Self::named(dir),
            Err(error) => Err(error.into()),
        }
    }

    fn named(dir: &Path) -> io::Result<Self> {
        for _ in 0..TRIES {
            let file = tempfile::Builder::new().prefix(PASSING).tempfile_in(dir)?;
            // A sweep may come between the two.
            if file.as_file().try_lock().is_ok() && file.as_file().metadata()?.nlink() > 0 {
                return Ok(Self::Named(file));
            }
        }
        Err(io::Error::other("other programs delete what is made here"))
    }

    /// To be written to.
    pub(super) fn file(&self) -> &File {
        match self {
            Self::Nameless(file) => file,
            Self::Named(file) => file.as_file(),
        }
    }

    /// Puts it in its place, which is in the directory that it was begun in, instead of any file there.
    pub(super) fn place(self, target: &Path) -> io::Result<()> {
        let file = match self {
            Self::Named(file) => return Ok(file.persist(target).map(drop)?),
            Self::Nameless(file) => file,
        };
        match link(&file, target) {
            Err(error) if error.kind() == ErrorKind::AlreadyExists => {}
            linked => return linked,
        }
        let dir = target.parent().unwrap_or(Path::new("/"));
        let passing = tempfile::Builder::new()
            .prefix(PASSING)
            .make_in(dir, |path| link(&file, path))?;
        Ok(passing.persist(target).map(drop)?)
    }
}

/// Gives a file without a name one that is free.
fn link(file: impl AsFd, path: &Path) -> io::Result<()> {
    let nameless = format!("/proc/self/fd/{}", file.as_fd().as_raw_fd());
    Ok(linkat(CWD, nameless, CWD, path, AtFlags::SYMLINK_FOLLOW)?)
}

/// Deletes what writers left in this directory that were killed.
fn sweep(dir: &Path) {
    for entry in fs::read_dir(dir).into_iter().flatten().flatten() {
        let name = entry.file_name();
        if !name.as_encoded_bytes().starts_with(PASSING.as_bytes()) {
            continue;
        }
        let flags = OFlags::NOFOLLOW | OFlags::NONBLOCK;
        let flags = i32::try_from(flags.bits()).unwrap_or_default();
        let opened = OpenOptions::new()
            .read(true)
            .custom_flags(flags)
            .open(entry.path());
        let Ok(file) = opened else { continue };
        let is_file = file.metadata().is_ok_and(|found| found.is_file());
        if is_file && file.try_lock().is_ok() {
            // If somebody else was quicker, it is gone as it should be.
            let _ = fs::remove_file(entry.path());
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    fn names(dir: &Path) -> Vec<String> {
        let names = fs::read_dir(dir).unwrap();
        let names = names.map(|entry| entry.unwrap().file_name().into_string().unwrap());
        let mut names: Vec<_> = names.collect();
        names.sort();
        names
    }

    #[test]
    fn it_appears_whole_in_the_place_of_what_was_there() {
        let dir = tempfile::tempdir().unwrap();
        let dir = dir.path();
        let target = dir.join("out");
        let begin: [fn(&Path) -> io::Result<Outgoing>; 2] = [Outgoing::begin, Outgoing::named];
        for (begin, text) in begin.into_iter().zip(["one", "two"]) {
            // A free place, one that is taken, and one that was given up.
            for _ in 0..2 {
                let out = begin(dir).unwrap();
                out.file().write_all(text.as_bytes()).unwrap();
                out.place(&target).unwrap();
                assert_eq!(fs::read_to_string(&target).unwrap(), text);
            }
            drop(begin(dir).unwrap());
            assert_eq!(names(dir), ["out"]);
            fs::remove_file(&target).unwrap();
        }
    }

    #[test]
    fn what_nobody_writes_any_more_is_deleted_and_nothing_else() {
        let dir = tempfile::tempdir().unwrap();
        let dir = dir.path();
        let live = Outgoing::named(dir).unwrap();
        let live_name = names(dir);
        fs::write(dir.join(".msb-export-dead"), "").unwrap();
        fs::create_dir(dir.join(".msb-export-dir")).unwrap();
        std::os::unix::fs::symlink("other", dir.join(".msb-export-link")).unwrap();
        fs::write(dir.join("other"), "").unwrap();
        drop(Outgoing::begin(dir).unwrap());
        let left = names(dir);
        assert!(!left.contains(&".msb-export-dead".to_owned()), "{left:?}");
        assert!(left.contains(&live_name[0]), "{left:?}");
        assert_eq!(left.len(), 4, "{left:?}");
        live.place(&dir.join("out")).unwrap();
    }
}
