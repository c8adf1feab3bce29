//! Writable layers: a disk for what a sandbox changes, made from a small template.
//!
//! The disk is a file with holes. A copy of the template, or of a snapshot's writable layer, is extended to the
//! size that was asked for, which takes no room; the agent then has the file system grow to it. Data is
//! shared with the original where the file system of the host can do that, and else copied without its holes.

use std::fs::{File, OpenOptions};
use std::io;
use std::path::Path;

use msb_image::snapshot::always;
use msb_image::snapshot::copy::copy;

use crate::durable;

/// The name of a sandbox's writable layer in its directory.
pub const FILE: &str = "upper.ext4";

/// A writable layer that could not be made.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum UpperError {
    /// What it was to be made from cannot be read.
    #[error("cannot read {}", path.display())]
    Source {
        /// The template or the snapshot's layer.
        path: std::path::PathBuf,
        /// Why not.
        #[source]
        source: io::Error,
    },
    /// It is larger than what was asked for.
    #[error(
        "the writable layer is to have {bytes} bytes, and what it is made from has {least}; give at \
         least that"
    )]
    TooSmall {
        /// Bytes asked for.
        bytes: u64,
        /// Bytes of what it is made from.
        least: u64,
    },
    /// It cannot be written.
    #[error("cannot write {}", path.display())]
    Write {
        /// The file.
        path: std::path::PathBuf,
        /// Why not.
        #[source]
        source: io::Error,
    },
}

/// Makes the writable layer `target` of `bytes` bytes from `source`, whole or not at all: it is under its name
/// once it is on the disk.
pub fn make(source: &Path, target: &Path, bytes: u64) -> Result<(), UpperError> {
    let unreadable = |error| UpperError::Source {
        path: source.to_path_buf(),
        source: error,
    };
    let unwritable = |error| UpperError::Write {
        path: target.to_path_buf(),
        source: error,
    };
    let from = File::open(source).map_err(unreadable)?;
    let least = from.metadata().map_err(unreadable)?.len();
    if bytes < least {
        return Err(UpperError::TooSmall { bytes, least });
    }
    let directory = target.parent().unwrap_or(Path::new("."));
    // Readable by its owner alone.
    let new = tempfile::NamedTempFile::new_in(directory).map_err(unwritable)?;
    copy(&from, new.as_file(), &mut always)
        .and_then(|_| new.as_file().set_len(bytes))
        .and_then(|()| durable::persist(new, target))
        .map_err(unwritable)
}

/// Opens a sandbox's writable layer for its machine.
pub fn open(path: &Path) -> io::Result<File> {
    OpenOptions::new().read(true).write(true).open(path)
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::{FileExt, MetadataExt, PermissionsExt};

    use super::*;

    fn template(dir: &Path) -> std::path::PathBuf {
        let path = dir.join("template");
        let file = File::create(&path).unwrap();
        file.write_all_at(b"first", 1024).unwrap();
        // Zeros that do take room.
        file.write_all_at(&[0; 256 << 10], 1 << 20).unwrap();
        file.write_all_at(b"last", (4 << 20) - 4).unwrap();
        path
    }

    #[test]
    fn a_copy_has_the_same_bytes_and_takes_little_room() {
        let dir = tempfile::tempdir().unwrap();
        let (template, upper) = (template(dir.path()), dir.path().join(FILE));
        make(&template, &upper, 64 << 30).unwrap();
        let found = fs::metadata(&upper).unwrap();
        assert_eq!(found.len(), 64 << 30);
        assert_eq!(found.permissions().mode() & 0o777, 0o600);
        assert!(found.blocks() * 512 <= 512 << 10, "{}", found.blocks());
        let mut same = vec![0; 4 << 20];
        File::open(&upper)
            .unwrap()
            .read_exact_at(&mut same, 0)
            .unwrap();
        assert!(same == fs::read(&template).unwrap());
        // Beside what it was made from there is nothing else.
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 2);
        make(&template, &upper, 4 << 20).unwrap();
        assert_eq!(fs::metadata(&upper).unwrap().len(), 4 << 20);
    }

    #[test]
    fn what_cannot_be_made_leaves_nothing() {
        let dir = tempfile::tempdir().unwrap();
        let (template, upper) = (template(dir.path()), dir.path().join(FILE));
        let small = make(&template, &upper, 1 << 20).unwrap_err();
        assert!(matches!(small, UpperError::TooSmall { least, .. } if least == 4 << 20));
        let missing = make(&dir.path().join("none"), &upper, 1 << 30).unwrap_err();
        assert!(missing.to_string().contains("none"), "{missing}");
        // No file system has room for that name.
        let huge = make(&template, &upper, u64::MAX).unwrap_err();
        assert!(matches!(huge, UpperError::Write { .. }), "{huge}");
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1);
    }
}
