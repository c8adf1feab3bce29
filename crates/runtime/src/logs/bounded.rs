//! A file of raw bytes that never grows without end: the guest kernel's console.

use std::fs::File;
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use super::rotate::Files;
use super::{Limits, LogError};

/// An append-only file with a limit: when full it becomes `<name>.1` and a new one begins.
#[derive(Debug)]
pub struct BoundedFile {
    files: Files,
    file_bytes: u64,
    file: File,
    length: u64,
}

impl BoundedFile {
    /// What `kernel.log` gets: 10 MiB, and one old file.
    pub const KERNEL: Limits = Limits {
        file_bytes: 10 * 1024 * 1024,
        kept: 1,
    };

    /// Opens `<dir>/<name>`, making both where they are missing.
    pub fn open(dir: &Path, name: &str, limits: Limits) -> Result<Self, LogError> {
        let files = Files::new(dir, name, limits.kept);
        let path = files.path(0);
        let open = || -> io::Result<Self> {
            files.create_dir()?;
            files.prune();
            let file = files.open_live()?;
            let length = file.metadata()?.len();
            Ok(Self {
                files: files.clone(),
                file_bytes: limits.file_bytes.max(1),
                file,
                length,
            })
        };
        open().map_err(LogError::io(&path))
    }

    /// Appends bytes, in as many files as it takes. On an error some may be written.
    pub fn append(&mut self, bytes: &[u8]) -> Result<(), LogError> {
        self.write(bytes).map_err(LogError::io(&self.path()))
    }

    /// The live file.
    pub fn path(&self) -> PathBuf {
        self.files.path(0)
    }

    fn write(&mut self, mut bytes: &[u8]) -> io::Result<()> {
        while !bytes.is_empty() {
            let room = self.file_bytes.saturating_sub(self.length);
            if room == 0 {
                self.file = self.files.rotate(&[])?;
                self.length = 0;
                continue;
            }
            let room = usize::try_from(room).unwrap_or(usize::MAX);
            let now = bytes.get(..room).unwrap_or(bytes);
            let written = match self.file.write(now) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                other => other?,
            };
            let more = u64::try_from(written).unwrap_or(u64::MAX);
            self.length = self.length.saturating_add(more);
            bytes = bytes.get(written..).unwrap_or_default();
        }
        Ok(())
    }
}
