//! What is known of files, as a program sees it.

use chrono::{DateTime, Utc};
use msb_protocol::{FsAttributes, FsKind, FsListed, FsStat, FsTime};

/// Something in a directory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FsEntry {
    /// Its path: that of the directory as it was given, and its name.
    pub path: String,
    /// What it is.
    pub kind: FsEntryKind,
    /// Its size in bytes.
    pub size: u64,
    /// Its permission bits, with set-user-id and the like.
    pub mode: u32,
    /// When it was last written, where that is a date.
    pub modified: Option<DateTime<Utc>>,
}

impl FsEntry {
    pub(super) fn new(directory: &str, listed: &FsListed) -> Self {
        let name = String::from_utf8_lossy(&listed.name);
        let metadata = FsMetadata::new(&listed.stat);
        Self {
            path: match directory.trim_end_matches('/') {
                "" if directory.is_empty() => name.into_owned(),
                directory => format!("{directory}/{name}"),
            },
            kind: metadata.kind,
            size: metadata.size,
            mode: metadata.mode,
            modified: metadata.modified,
        }
    }
}

/// What a file is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum FsEntryKind {
    /// A regular file.
    File,
    /// A directory.
    Directory,
    /// A symbolic link.
    Symlink,
    /// A device, a pipe, a socket.
    Other,
}

/// What is known of a file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FsMetadata {
    /// What it is.
    pub kind: FsEntryKind,
    /// Its size in bytes, as its file system says: 0 for most files of /proc.
    pub size: u64,
    /// Its permission bits, with set-user-id and the like.
    pub mode: u32,
    /// Nobody has the permission to write it. Root may all the same.
    pub readonly: bool,
    /// When it was last written, where that is a date.
    pub modified: Option<DateTime<Utc>>,
    /// When it was made, where its file system knows.
    pub created: Option<DateTime<Utc>>,
}

impl FsMetadata {
    pub(super) fn new(stat: &FsStat) -> Self {
        let mode = stat.mode & 0o7777;
        Self {
            kind: match stat.kind {
                FsKind::File => FsEntryKind::File,
                FsKind::Directory => FsEntryKind::Directory,
                FsKind::Symlink => FsEntryKind::Symlink,
                _ => FsEntryKind::Other,
            },
            size: stat.size,
            mode,
            readonly: mode & 0o222 == 0,
            modified: date(stat.modified),
            created: stat.created.and_then(date),
        }
    }
}

/// What is to change of a file. What is not given stays.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct FsSetAttrs {
    /// Permission bits, with set-user-id and the like.
    pub mode: Option<u32>,
    /// The owner.
    pub uid: Option<u32>,
    /// The owner's group.
    pub gid: Option<u32>,
    /// The size in bytes: the file is cut, or grows by a hole.
    pub size: Option<u64>,
    /// When it was last read, in seconds since the beginning of 1970.
    pub atime: Option<i64>,
    /// When it was last written, in seconds since the beginning of 1970.
    pub mtime: Option<i64>,
}

impl FsSetAttrs {
    pub(super) fn on_the_wire(&self) -> FsAttributes {
        let time = |seconds| FsTime { seconds, nanos: 0 };
        FsAttributes {
            mode: self.mode,
            uid: self.uid,
            gid: self.gid,
            size: self.size,
            accessed: self.atime.map(time),
            modified: self.mtime.map(time),
        }
    }
}

/// A guest may name times that no calendar has.
fn date(time: FsTime) -> Option<DateTime<Utc>> {
    DateTime::from_timestamp(time.seconds, time.nanos).filter(|_| time.is_valid())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn listed(name: &'static [u8]) -> FsListed {
        let time = FsTime {
            seconds: i64::MAX,
            nanos: u32::MAX,
        };
        FsListed {
            name: name.into(),
            stat: FsStat {
                kind: FsKind::File,
                size: u64::MAX,
                mode: u32::MAX,
                uid: 0,
                gid: 0,
                accessed: time,
                modified: time,
                created: Some(time),
            },
        }
    }

    #[test]
    fn paths_are_joined_as_a_person_would() {
        let path = |directory| FsEntry::new(directory, &listed(b"x")).path;
        assert_eq!(path("/"), "/x");
        assert_eq!(path("/a"), "/a/x");
        assert_eq!(path("/a//"), "/a/x");
        assert_eq!(path("a"), "a/x");
        assert_eq!(FsEntry::new("/a", &listed(b"\xff")).path, "/a/\u{fffd}");
    }

    #[test]
    fn a_time_that_is_no_date_is_none() {
        let entry = FsEntry::new("/", &listed(b"x"));
        assert_eq!(entry.modified, None);
        assert_eq!(entry.mode, 0o7777);
    }
}
