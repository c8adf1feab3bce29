//! The log's files, opened in their order.
//!
//! The writer may be renaming them meanwhile. Numbers are looked at in rising order, in which a file
//! can be met twice but not missed; the counts in the headers show a gap that many rotations in a
//! row can still make, and then it is looked again.

use std::fs::{File, OpenOptions};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::io;
use std::os::unix::fs::{FileExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use rustix::fs::OFlags;

use super::cursor::FileId;
use super::rotate::Files;
use super::{EXEC_LOG, LogCursor, LogError, MAX_KEPT, format};

const LOOKS: u32 = 8;

/// A file of the log, open for reading.
#[derive(Debug)]
pub(super) struct LogFile {
    pub(super) path: PathBuf,
    /// The number in its name when it was opened; 0 is the live file.
    pub(super) number: u32,
    pub(super) file: File,
    pub(super) id: FileId,
    pub(super) inode: (u64, u64),
    /// How long it was: the live file when it was opened, a finished one for ever.
    pub(super) length: u64,
}

impl LogFile {
    /// Opens one; none if there is none.
    fn open(path: PathBuf, number: u32) -> Result<Option<Self>, LogError> {
        // Whatever lies there under this name must not block the reader.
        let flags = (OFlags::NOFOLLOW | OFlags::NONBLOCK).bits().cast_signed();
        let opened = OpenOptions::new()
            .read(true)
            .custom_flags(flags)
            .open(&path)
            .and_then(|file| {
                let metadata = file.metadata()?;
                let inode = (metadata.dev(), metadata.ino());
                let id = identify(&file, inode)?;
                Ok((metadata.is_file(), file, id, inode, metadata.len()))
            });
        match opened {
            Ok((true, file, id, inode, length)) => Ok(Some(Self {
                path,
                number,
                file,
                id,
                inode,
                length,
            })),
            Ok(_) => Ok(None),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(source) => Err(LogError::Io { path, source }),
        }
    }

    /// Whether the last line lacks its newline.
    pub(super) fn is_torn(&self) -> io::Result<bool> {
        Ok(!self.is_boundary(self.length)?)
    }

    /// Whether a line begins at this offset, or would.
    pub(super) fn is_boundary(&self, offset: u64) -> io::Result<bool> {
        let Some(before) = offset.checked_sub(1) else {
            return Ok(true);
        };
        if offset > self.file.metadata()?.len() {
            return Ok(false);
        }
        let mut last = [0];
        let read = self.file.read_at(&mut last, before)?;
        Ok(read == 1 && last == *b"\n")
    }

    /// A place in this file.
    pub(super) fn at(&self, offset: u64) -> LogCursor {
        LogCursor {
            file: self.id,
            offset,
        }
    }
}

/// All files of the log in `dir`, oldest first. None is no error: the log may not have begun.
pub(super) fn open(dir: &Path) -> Result<Vec<LogFile>, LogError> {
    let mut files = look(dir)?;
    for _ in 1..LOOKS {
        if !has_gap(&files) {
            break;
        }
        files = look(dir)?;
    }
    Ok(files)
}

/// Whether the live file is the one with this inode. False also in the middle of a rotation.
pub(super) fn is_live(dir: &Path, inode: (u64, u64)) -> bool {
    std::fs::symlink_metadata(Files::new(dir, EXEC_LOG, MAX_KEPT).path(0))
        .is_ok_and(|metadata| (metadata.dev(), metadata.ino()) == inode)
}

fn look(dir: &Path) -> Result<Vec<LogFile>, LogError> {
    let names = Files::new(dir, EXEC_LOG, MAX_KEPT);
    let mut files: Vec<LogFile> = Vec::new();
    for number in 0..=MAX_KEPT {
        if let Some(file) = LogFile::open(names.path(number), number)?
            && !files.iter().any(|known| known.inode == file.inode)
        {
            files.push(file);
        }
    }
    files.reverse();
    // Rotations while looking can bring newer files behind older ones.
    let one_log = |pair: &[LogFile]| matches!(pair, [a, b] if a.id.log == b.id.log);
    if files.windows(2).all(one_log) {
        files.sort_by_key(|file| file.id.seq);
    }
    // Whatever has a successor is finished, and may have grown since it was opened.
    if let Some((_, finished)) = files.split_last_mut() {
        for file in finished {
            let metadata = file.file.metadata().map_err(LogError::io(&file.path))?;
            file.length = metadata.len();
        }
    }
    Ok(files)
}

fn has_gap(files: &[LogFile]) -> bool {
    files.windows(2).any(|pair| match pair {
        [older, newer] => {
            older.id.log == newer.id.log && older.id.seq.checked_add(1) != Some(newer.id.seq)
        }
        _ => false,
    })
}

fn identify(file: &File, inode: (u64, u64)) -> io::Result<FileId> {
    let mut start = [0; format::MAX_HEADER];
    let read = match file.read_at(&mut start, 0) {
        // Not a file; the caller looks.
        Err(_) if !file.metadata()?.is_file() => 0,
        read => read?,
    };
    let header = format::parse_header(start.get(..read).unwrap_or_default());
    Ok(header.unwrap_or_else(|| {
        let mut hasher = DefaultHasher::new();
        inode.hash(&mut hasher);
        FileId {
            log: hasher.finish(),
            seq: 0,
        }
    }))
}
