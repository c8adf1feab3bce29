//! Directories, a block at a time.

use super::super::format::{DIRENT, Dirent};
use super::{Inode, ReadAt, ReadError, Reader, damaged};
use crate::erofs::FileType;
use crate::node::MAX_NAME;

/// A name in a directory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// The name: 1 to 255 bytes, none of them zero or a slash.
    pub name: Vec<u8>,
    /// Whose name it is.
    pub nid: u64,
    /// What that is, if the name is right.
    pub kind: FileType,
}

/// The names of a directory, in the order of their bytes; see [`Reader::entries`]. After an error there are
/// no more.
#[derive(Debug)]
pub struct Entries<'r, S> {
    reader: &'r Reader<S>,
    directory: Inode,
    /// The directory above, if `..` must be that.
    parent: Option<u64>,
    /// What comes next, with the last entry of a block first.
    ready: Vec<Entry>,
    /// Where in the directory the next block begins.
    next: u64,
    /// The name before, which all further ones must follow.
    last: Vec<u8>,
    dots: Dots,
}

/// Which of the two names were there that every directory has.
#[derive(Clone, Copy, Debug, Default)]
struct Dots {
    own: bool,
    parent: bool,
}

impl<S: ReadAt> Reader<S> {
    /// The names in a directory, without `.` and `..`.
    ///
    /// # Errors
    ///
    /// It is no directory.
    pub fn entries(&self, directory: &Inode) -> Result<Entries<'_, S>, ReadError> {
        Entries::new(self, directory, None)
    }

    /// The entry with this name, found by halves, as the kernel does it.
    ///
    /// # Errors
    ///
    /// It is no directory, or damaged.
    pub fn lookup(&self, directory: &Inode, name: &[u8]) -> Result<Option<Entry>, ReadError> {
        expect_directory(directory)?;
        if matches!(name, b"." | b"..") {
            return Ok(None);
        }
        let (mut from, mut to) = (0, directory.size.div_ceil(self.block()));
        while from < to {
            let middle = from + (to - from) / 2;
            let mut entries = self.dir_block(directory, middle * self.block())?;
            if entries
                .first()
                .is_some_and(|first| name < first.name.as_slice())
            {
                to = middle;
            } else if entries
                .last()
                .is_some_and(|last| name > last.name.as_slice())
            {
                from = middle + 1;
            } else {
                let found = entries.iter().position(|entry| entry.name == name);
                return Ok(found.map(|found| entries.swap_remove(found)));
            }
        }
        Ok(None)
    }

    /// All entries of the block at `at` of a directory, which has at least one.
    fn dir_block(&self, directory: &Inode, at: u64) -> Result<Vec<Entry>, ReadError> {
        const BROKEN: &str = "a directory's entries make no sense";
        let broken = || damaged(BROKEN, directory.nid);
        let left = directory.size.saturating_sub(at).min(self.block());
        let mut bytes = vec![0; usize::try_from(left).map_err(|_| broken())?];
        self.read(directory, at, &mut bytes)?;
        let first = Dirent::decode(&bytes, 0).ok_or_else(broken)?;
        let names = usize::from(first.name_at);
        if names < DIRENT || names % DIRENT != 0 || names >= bytes.len() {
            return Err(broken());
        }
        let mut entries = Vec::with_capacity(names / DIRENT);
        for at in (0..names).step_by(DIRENT) {
            let dirent = Dirent::decode(&bytes, at).ok_or_else(broken)?;
            let begin = usize::from(dirent.name_at);
            let name = match at + DIRENT < names {
                true => {
                    let next = Dirent::decode(&bytes, at + DIRENT).ok_or_else(broken)?;
                    bytes.get(begin..usize::from(next.name_at))
                }
                // The last one ends where the block does, or at a zero before.
                false => {
                    let rest = bytes.get(begin..);
                    rest.and_then(|rest| rest.split(|byte| *byte == 0).next())
                }
            };
            let name = name.ok_or_else(broken)?;
            let bad = |byte: &u8| matches!(byte, 0 | b'/');
            if begin < names || name.is_empty() || name.len() > MAX_NAME || name.iter().any(bad) {
                return Err(broken());
            }
            let kind = kind(dirent.kind).ok_or_else(broken)?;
            let (name, nid) = (name.to_vec(), dirent.nid);
            entries.push(Entry { name, nid, kind });
        }
        Ok(entries)
    }
}

impl<'r, S: ReadAt> Entries<'r, S> {
    pub(super) fn new(
        reader: &'r Reader<S>,
        directory: &Inode,
        parent: Option<u64>,
    ) -> Result<Self, ReadError> {
        expect_directory(directory)?;
        Ok(Self {
            reader,
            directory: *directory,
            parent,
            ready: Vec::new(),
            next: 0,
            last: Vec::new(),
            dots: Dots::default(),
        })
    }

    /// The directory.
    pub(super) fn nid(&self) -> u64 {
        self.directory.nid
    }

    fn step(&mut self) -> Result<Option<Entry>, ReadError> {
        let nid = self.directory.nid;
        loop {
            let Some(entry) = self.ready.pop() else {
                if self.next >= self.directory.size {
                    return match self.dots {
                        Dots {
                            own: true,
                            parent: true,
                        } => Ok(None),
                        _ => Err(damaged("a directory lacks . or ..", nid)),
                    };
                }
                self.ready = self.reader.dir_block(&self.directory, self.next)?;
                self.ready.reverse();
                self.next += self.reader.block();
                continue;
            };
            if entry.name <= self.last {
                return Err(damaged("a directory's names are not in order", nid));
            }
            self.last.clone_from(&entry.name);
            let right = match entry.name.as_slice() {
                b"." => {
                    self.dots.own = true;
                    entry.nid == nid
                }
                b".." => {
                    self.dots.parent = true;
                    self.parent.is_none_or(|parent| parent == entry.nid)
                }
                _ => return Ok(Some(entry)),
            };
            if !right || entry.kind != FileType::Directory {
                return Err(damaged("a directory's . or .. leads elsewhere", nid));
            }
        }
    }
}

impl<S: ReadAt> Iterator for Entries<'_, S> {
    type Item = Result<Entry, ReadError>;

    fn next(&mut self) -> Option<Self::Item> {
        let step = self.step();
        if step.is_err() {
            self.ready.clear();
            self.next = u64::MAX;
            self.dots = Dots {
                own: true,
                parent: true,
            };
        }
        step.transpose()
    }
}

fn expect_directory(inode: &Inode) -> Result<(), ReadError> {
    match inode.kind {
        FileType::Directory => Ok(()),
        _ => Err(ReadError::Kind {
            expected: "directory",
        }),
    }
}

fn kind(number: u8) -> Option<FileType> {
    use FileType::{BlockDevice, CharDevice, Directory, Fifo, File, Socket, Symlink};
    let all = [
        File,
        Directory,
        CharDevice,
        BlockDevice,
        Fifo,
        Socket,
        Symlink,
    ];
    all.into_iter().find(|kind| *kind as u8 == number)
}
