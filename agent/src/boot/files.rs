//! Small files of the root that the agent writes: whole or not at all, and over nothing but their own
//! names.

use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::AsFd;

use rustix::fs::{AtFlags, Mode, OFlags, fchmod, openat, renameat, unlinkat};
use rustix::io::Errno;

use super::memory;

/// What every file is called while it is written.
const NEW: &str = ".microsandbox.new";

/// Has the file `name` of `directory` be `text`, readable by everyone. Whatever has that name is
/// replaced, a link itself and not what it leads to; a directory is an error.
pub(super) fn replace(directory: impl AsFd, name: &str, text: &str) -> io::Result<()> {
    let directory = directory.as_fd();
    if is(directory, name, text) {
        return Ok(());
    }
    let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::CLOEXEC;
    let plain = Mode::from_raw_mode(0o644);
    // Left behind by a boot that was cut short.
    let _ = unlinkat(directory, NEW, AtFlags::empty());
    let file = openat(directory, NEW, flags, plain)?;
    let done = fchmod(&file, plain)
        .map_err(io::Error::from)
        .and_then(|()| File::from(file).write_all(text.as_bytes()))
        .and_then(|()| Ok(renameat(directory, NEW, directory, name)?));
    if done.is_err() {
        let _ = unlinkat(directory, NEW, AtFlags::empty());
    }
    done
}

/// Whether the file is that already.
fn is(directory: impl AsFd, name: &str, text: &str) -> bool {
    let most = u64::try_from(text.len()).unwrap_or(u64::MAX);
    let there = open(directory, name)
        .map_err(io::Error::from)
        .and_then(|file| {
            let mut bytes = Vec::new();
            file.take(most.saturating_add(1)).read_to_end(&mut bytes)?;
            Ok(bytes)
        });
    there.is_ok_and(|there| there == text.as_bytes())
}

/// Opens a regular file to be read. Nothing else is opened, and nothing is waited for.
fn open(directory: impl AsFd, name: &str) -> Result<File, Errno> {
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let file = openat(directory, name, flags, Mode::empty())?;
    match memory::is_file(&file)? {
        true => Ok(file.into()),
        false => Err(Errno::INVAL),
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::{MetadataExt, symlink};

    use super::*;

    #[test]
    fn a_file_takes_the_place_of_whatever_has_its_name() {
        let directory = tempfile::tempdir().unwrap();
        let path = |name: &str| directory.path().join(name);
        let at = File::open(directory.path()).unwrap();
        replace(&at, "file", "one\n").unwrap();
        assert_eq!(fs::read(path("file")).unwrap(), b"one\n");
        let inode = fs::metadata(path("file")).unwrap().ino();
        replace(&at, "file", "one\n").unwrap();
        let same = fs::metadata(path("file")).unwrap().ino();
        assert_eq!(same, inode, "it was so already");
        // Whoever holds the old one has the old one.
        fs::write(path(NEW), "half").unwrap();
        replace(&at, "file", "two\n").unwrap();
        assert_eq!(fs::read(path("file")).unwrap(), b"two\n");

        symlink("file", path("link")).unwrap();
        replace(&at, "link", "three\n").unwrap();
        assert_eq!(fs::read(path("file")).unwrap(), b"two\n");
        assert!(fs::symlink_metadata(path("link")).unwrap().is_file());

        fs::create_dir(path("directory")).unwrap();
        assert!(replace(&at, "directory", "four\n").is_err());
        assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 3);
    }
}
