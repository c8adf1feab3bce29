//! Files that survive: whole or not at all, whenever this program or the machine stops.

use std::fs::File;
use std::io;
use std::path::Path;

use tempfile::NamedTempFile;

/// Gives a new file, which was made in the same directory, its own name, once what is in it is on the disk.
/// What has the name already is replaced.
pub fn persist(file: NamedTempFile, target: &Path) -> io::Result<()> {
    file.as_file().sync_all()?;
    file.persist(target)?;
    sync_dir(target.parent().unwrap_or(Path::new(".")))
}

/// Makes what was named in a directory, and removed from it, last.
pub fn sync_dir(path: &Path) -> io::Result<()> {
    File::open(path)?.sync_all()
}
