//! Keeping a file bounded: when it is full it gets a number, and so do its elders.
//!
//! Files only ever move to higher numbers, one rename at a time, and a number that a crash left free
//! is filled before anything is dropped. So whoever stops in the middle loses nothing, and a
//! reader that looks at the numbers in rising order misses none that stays.

use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use rustix::fs::OFlags;

/// How many old files can be kept at most. Readers look for so many.
pub const MAX_KEPT: u32 = 9;

/// How much of a log is kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// A file is closed before it grows past this, unless one line alone is longer.
    pub file_bytes: u64,
    /// How many closed files are kept, up to [`MAX_KEPT`].
    pub kept: u32,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            file_bytes: 10 * 1024 * 1024,
            kept: 3,
        }
    }
}

/// A file and its elders.
#[derive(Clone, Debug)]
pub(super) struct Files {
    dir: PathBuf,
    name: String,
    kept: u32,
}

impl Files {
    pub(super) fn new(dir: &Path, name: &str, kept: u32) -> Self {
        Self {
            dir: dir.to_owned(),
            name: name.to_owned(),
            kept: kept.min(MAX_KEPT),
        }
    }

    /// Where the file of this number is; 0 is the live one.
    pub(super) fn path(&self, number: u32) -> PathBuf {
        match number {
            0 => self.dir.join(&self.name),
            _ => self.dir.join(format!("{}.{number}", self.name)),
        }
    }

    /// Makes the directory where it is missing, for its owner only.
    pub(super) fn create_dir(&self) -> io::Result<()> {
        fs::DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(&self.dir)
    }

    /// Opens the live file for appending.
    pub(super) fn open_live(&self) -> io::Result<File> {
        append_to().open(self.path(0))
    }

    /// Closes the live file's chapter: the next one begins with `header` and is complete before it
    /// has the name.
    pub(super) fn rotate(&self, header: &[u8]) -> io::Result<File> {
        let fresh = self.dir.join(format!("{}.new", self.name));
        remove(&fresh)?;
        let mut file = append_to().create_new(true).open(&fresh)?;
        io::Write::write_all(&mut file, header)?;
        self.shift()?;
        fs::rename(&fresh, self.path(0))?;
        self.prune();
        Ok(file)
    }

    fn shift(&self) -> io::Result<()> {
        if self.kept == 0 || !exists(&self.path(0))? {
            return Ok(());
        }
        let mut free = 1;
        while free < self.kept && exists(&self.path(free))? {
            free += 1;
        }
        for number in (0..free).rev() {
            fs::rename(self.path(number), self.path(number + 1))?;
        }
        Ok(())
    }

    /// Removes what an earlier, larger limit kept. What cannot be removed now is tried again with the
    /// next file: it is no reason not to write.
    pub(super) fn prune(&self) {
        for number in self.kept + 1..=MAX_KEPT {
            let _ = remove(&self.path(number));
        }
    }
}

fn append_to() -> OpenOptions {
    let mut options = OpenOptions::new();
    // Never through a link that somebody left there.
    let flags = (OFlags::NOFOLLOW | OFlags::NONBLOCK).bits();
    options
        .append(true)
        .create(true)
        .mode(0o600)
        .custom_flags(flags.cast_signed());
    options
}

fn exists(path: &Path) -> io::Result<bool> {
    match fs::symlink_metadata(path) {
        Ok(_) => Ok(true),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(error) => Err(error),
    }
}

fn remove(path: &Path) -> io::Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}
