//! Where an archive is written to: a tar, or a directory.

use std::fs::{DirBuilder, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use super::ArchiveError;

/// Takes files.
pub(super) trait Sink {
    /// A file of so many bytes, which `content` gives.
    fn file(&mut self, name: &str, size: u64, content: &mut dyn Read) -> Result<(), ArchiveError>;
}

/// A tar. Nothing in it depends on who writes it when.
pub(super) struct Tar<W: Write> {
    builder: tar::Builder<W>,
    said: PathBuf,
}

impl<W: Write> Tar<W> {
    pub(super) fn new(out: W, said: &Path) -> Self {
        Self {
            builder: tar::Builder::new(out),
            said: said.to_path_buf(),
        }
    }

    pub(super) fn finish(self) -> Result<W, ArchiveError> {
        let said = self.said;
        let finished = self.builder.into_inner();
        finished.map_err(|source| ArchiveError::io(&said, source))
    }
}

impl<W: Write> Sink for Tar<W> {
    fn file(&mut self, name: &str, size: u64, content: &mut dyn Read) -> Result<(), ArchiveError> {
        let mut header = tar::Header::new_ustar();
        header.set_size(size);
        header.set_mode(0o644);
        header.set_mtime(0);
        header.set_uid(0);
        header.set_gid(0);
        let mut exact = Exact {
            content,
            left: size,
        };
        self.builder
            .append_data(&mut header, name, &mut exact)
            .map_err(|source| ArchiveError::io(&self.said, source))
    }
}

/// A directory, which is empty.
pub(super) struct Directory {
    path: PathBuf,
}

impl Directory {
    pub(super) fn new(path: &Path) -> Self {
        Self {
            path: path.to_path_buf(),
        }
    }
}

impl Sink for Directory {
    fn file(&mut self, name: &str, size: u64, content: &mut dyn Read) -> Result<(), ArchiveError> {
        let path = self.path.join(name);
        let mut write = || {
            let parent = path.parent().unwrap_or(&self.path);
            DirBuilder::new()
                .recursive(true)
                .mode(0o755)
                .create(parent)?;
            let mut file = OpenOptions::new()
                .write(true)
                .create_new(true)
                .mode(0o644)
                .open(&path)?;
            let mut exact = Exact {
                content,
                left: size,
            };
            io::copy(&mut exact, &mut file)?;
            file.sync_all()
        };
        write().map_err(|source| ArchiveError::io(&path, source))
    }
}

/// Exactly as many bytes as were said, or an error.
struct Exact<'a> {
    content: &'a mut dyn Read,
    left: u64,
}

impl Read for Exact<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let most = usize::try_from(self.left).unwrap_or(usize::MAX);
        let length = buffer.len().min(most);
        if length == 0 {
            return Ok(0);
        }
        let count = self
            .content
            .read(buffer.get_mut(..length).unwrap_or_default())?;
        if count == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        self.left -= count as u64;
        Ok(count)
    }
}
