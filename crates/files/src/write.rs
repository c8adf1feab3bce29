//! A tree made of parts.
//!
//! The parts may come from somebody hostile. So every name is checked to be one step down, every
//! file and directory is newly made (a name that came already is an error, never opened; a
//! directory whose files are renamed while it is read may have one twice),
//! and each directory is kept open while it is filled, so that nothing is ever looked up
//! again by a path. Of permissions, those of users, groups and others are taken, and not
//! set-user-id and the like: a copy must not hand out more than its caller has.
//!
//! Everything happens under a hidden name beside the place where the tree is to be. The rename
//! at the end puts all of it there at once; dropping a writer before that removes all of it.

use std::ffi::{CStr, CString};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};

use msb_protocol::{
    FsFailure, FsFailureKind, FsNode, FsPart, FsTreeEntry, MAX_CHUNK, MAX_TREE_DEPTH, check_path,
};
use rustix::fs::{
    AtFlags, Dir, FileType, Mode, OFlags, fchmod, ftruncate, futimens, mkdirat, renameat, statat,
    symlinkat, unlinkat, utimensat,
};
use rustix::io::{Errno, pwrite, retry_on_intr};

use crate::Result;
use crate::failure::{fail, too_deep};
use crate::remove::{Force, remove_below};
use crate::step::{Place, open_step, shown, step_name, timestamps};

/// How often another hidden name is tried.
const NAME_TRIES: u32 = 16;

/// Makes one tree.
#[derive(Debug)]
pub struct TreeWriter {
    place: Place,
    /// The name that it has until it is complete.
    hidden: CString,
    levels: Vec<Level>,
    file: Option<OpenFile>,
    state: State,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// Nothing was made.
    Empty,
    /// The hidden name is taken by a tree of this kind, which is not complete.
    Begun(Kind),
    /// It is complete but for the rename.
    Complete(Kind),
    /// It is at its place.
    Placed,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    File,
    Directory,
}

/// A directory that is being filled.
#[derive(Debug)]
struct Level {
    directory: OwnedFd,
    entry: FsTreeEntry,
}

/// A file that is being filled.
#[derive(Debug)]
struct OpenFile {
    file: OwnedFd,
    entry: FsTreeEntry,
    /// Where the next bytes go.
    offset: u64,
    /// It ends with a hole.
    hollow: bool,
}

impl TreeWriter {
    /// A writer of what is to be at `target`: in a directory that is there. Nothing is made yet.
    pub fn new(target: &Path) -> Result<Self> {
        Ok(Self {
            place: Place::find(target)?,
            hidden: CString::default(),
            levels: Vec::new(),
            file: None,
            state: State::Empty,
        })
    }

    /// Takes the next part.
    pub fn part(&mut self, part: FsPart) -> Result<()> {
        match part {
            FsPart::Entry(entry) => {
                self.end_file()?;
                match self.state {
                    State::Empty => self.root(entry),
                    State::Begun(Kind::Directory) => self.below(entry),
                    _ => Err(bad_tree("something begins after the end")),
                }
            }
            FsPart::Data(data) if data.is_empty() || data.len() > MAX_CHUNK => {
                Err(bad_tree("a piece of data is empty, or too large"))
            }
            FsPart::Data(data) => self.data(&data),
            FsPart::Hole(0) => Err(bad_tree("a hole is empty")),
            FsPart::Hole(length) => self.hole(length),
            FsPart::Leave => {
                self.end_file()?;
                self.leave()
            }
            _ => Err(bad_tree("a part is of an unknown kind")),
        }
    }

    /// Puts the complete tree at its place.
    pub fn finish(mut self) -> Result<()> {
        self.end_file()?;
        if self.state == State::Begun(Kind::File) {
            self.state = State::Complete(Kind::File);
        }
        if !matches!(self.state, State::Complete(_)) {
            return Err(bad_tree("it ends before the tree does"));
        }
        renameat(
            &self.place.parent,
            &*self.hidden,
            &self.place.parent,
            &*self.place.name,
        )
        .map_err(|errno| match errno {
            // The kernel has two numbers for that.
            Errno::EXIST => self.here(Errno::NOTEMPTY),
            errno => self.here(errno),
        })?;
        self.state = State::Placed;
        Ok(())
    }

    fn root(&mut self, entry: FsTreeEntry) -> Result<()> {
        if !entry.name.is_empty() {
            return Err(bad_tree("its root has a name"));
        }
        match entry.node {
            FsNode::File => {
                self.vacant(Kind::File)?;
                let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL;
                let file = self.hide(Kind::File, |parent, name| {
                    open_step(parent, name, flags, Mode::RUSR | Mode::WUSR)
                })?;
                self.file = Some(OpenFile::new(file, entry));
                Ok(())
            }
            FsNode::Directory => {
                self.vacant(Kind::Directory)?;
                self.hide(Kind::Directory, |parent, name| {
                    mkdirat(parent, name, Mode::RWXU)
                })?;
                let directory = open_directory(self.place.parent.as_fd(), &self.hidden)
                    .map_err(|errno| self.here(errno))?;
                self.levels.push(Level { directory, entry });
                Ok(())
            }
            _ => Err(bad_tree("its root is neither a file nor a directory")),
        }
    }

    /// Fails early where the rename at the end would.
    fn vacant(&self, kind: Kind) -> Result<()> {
        let Place { parent, name, .. } = &self.place;
        let there = match statat(parent, &**name, AtFlags::SYMLINK_NOFOLLOW) {
            Ok(stat) => FileType::from_raw_mode(stat.st_mode),
            Err(Errno::NOENT) => return Ok(()),
            Err(errno) => return Err(self.here(errno)),
        };
        match (kind, there) {
            (Kind::File, FileType::Directory) => Err(self.here(Errno::ISDIR)),
            (Kind::File, _) => Ok(()),
            (Kind::Directory, FileType::Directory) => {
                let below = open_directory(parent.as_fd(), name)
                    .and_then(Dir::new)
                    .map_err(|errno| self.here(errno))?;
                let mut names = below.filter_map(|entry| entry.ok());
                let full = names.any(|entry| !matches!(entry.file_name().to_bytes(), b"." | b".."));
                match full {
                    true => Err(self.here(Errno::NOTEMPTY)),
                    false => Ok(()),
                }
            }
            (Kind::Directory, _) => Err(self.here(Errno::NOTDIR)),
        }
    }

    /// Makes something under a hidden name that nothing has.
    fn hide<T>(
        &mut self,
        kind: Kind,
        make: impl Fn(BorrowedFd<'_>, &CStr) -> rustix::io::Result<T>,
    ) -> Result<T> {
        for _ in 0..NAME_TRIES {
            let hidden = hidden_name().map_err(|errno| self.here(errno))?;
            match make(self.place.parent.as_fd(), &hidden) {
                Ok(made) => {
                    self.hidden = hidden;
                    self.state = State::Begun(kind);
                    return Ok(made);
                }
                Err(Errno::EXIST) => {}
                Err(errno) => return Err(self.here(errno)),
            }
        }
        Err(self.here(Errno::EXIST))
    }

    fn below(&mut self, entry: FsTreeEntry) -> Result<()> {
        let Some(level) = self.levels.last() else {
            return Err(bad_tree("something begins after the end"));
        };
        let name = step_name(&entry.name)?;
        let directory = level.directory.as_fd();
        let at = |errno| {
            let path = self.place.path.join(shown(&name));
            match errno {
                Errno::EXIST => FsFailure::new(
                    FsFailureKind::ChangedUnderneath,
                    format!("{}: its name came twice", path.display()),
                ),
                errno => fail(errno, &path),
            }
        };
        match &entry.node {
            FsNode::Directory => {
                if self.levels.len() >= MAX_TREE_DEPTH {
                    return Err(too_deep(&self.place.path));
                }
                mkdirat(directory, &*name, Mode::RWXU).map_err(at)?;
                let directory = open_directory(directory, &name).map_err(at)?;
                self.levels.push(Level { directory, entry });
            }
            FsNode::File => {
                let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL;
                let file = open_step(directory, &name, flags, Mode::RUSR | Mode::WUSR);
                self.file = Some(OpenFile::new(file.map_err(at)?, entry));
            }
            FsNode::Symlink(target) => {
                let bad = |kind| FsFailure::new(kind, "a symbolic link leads nowhere");
                check_path(target).map_err(bad)?;
                let times = timestamps(entry.accessed, entry.modified)?;
                symlinkat(&target[..], directory, &*name).map_err(at)?;
                let flags = AtFlags::SYMLINK_NOFOLLOW;
                utimensat(directory, &*name, &times, flags).map_err(at)?;
            }
            _ => return Err(bad_tree("an entry is of an unknown kind")),
        }
        Ok(())
    }

    fn data(&mut self, mut data: &[u8]) -> Result<()> {
        let path = &self.place.path;
        let Some(open) = &mut self.file else {
            return Err(bad_tree("data comes without a file"));
        };
        open.end_of(u64::try_from(data.len()).unwrap_or(u64::MAX), path)?;
        while !data.is_empty() {
            let count = retry_on_intr(|| pwrite(&open.file, data, open.offset))
                .map_err(|errno| fail(errno, path))?;
            if count == 0 {
                return Err(fail(Errno::IO, path));
            }
            open.offset += u64::try_from(count).unwrap_or(u64::MAX);
            data = data.get(count..).unwrap_or_default();
        }
        open.hollow = false;
        Ok(())
    }

    fn hole(&mut self, length: u64) -> Result<()> {
        let Some(open) = &mut self.file else {
            return Err(bad_tree("a hole comes without a file"));
        };
        open.offset = open.end_of(length, &self.place.path)?;
        open.hollow = true;
        Ok(())
    }

    fn end_file(&mut self) -> Result<()> {
        let Some(open) = self.file.take() else {
            return Ok(());
        };
        let at = |errno| fail(errno, &self.place.path);
        let times = timestamps(open.entry.accessed, open.entry.modified)?;
        if open.hollow {
            ftruncate(&open.file, open.offset).map_err(at)?;
        }
        fchmod(&open.file, permissions(&open.entry)).map_err(at)?;
        futimens(&open.file, &times).map_err(at)
    }

    /// The directory is complete: only now may it become read-only, and keep its times.
    fn leave(&mut self) -> Result<()> {
        let Some(level) = self.levels.pop() else {
            return Err(bad_tree("a directory ends that never began"));
        };
        let at = |errno| fail(errno, &self.place.path);
        let times = timestamps(level.entry.accessed, level.entry.modified)?;
        fchmod(&level.directory, permissions(&level.entry)).map_err(at)?;
        futimens(&level.directory, &times).map_err(at)?;
        if self.levels.is_empty() {
            self.state = State::Complete(Kind::Directory);
        }
        Ok(())
    }

    fn here(&self, errno: Errno) -> FsFailure {
        fail(errno, &self.place.path)
    }
}

impl Drop for TreeWriter {
    fn drop(&mut self) {
        let (State::Begun(kind) | State::Complete(kind)) = self.state else {
            return;
        };
        self.levels.clear();
        let parent = self.place.parent.as_fd();
        // What cannot be removed stays under its hidden name; there is nobody to tell.
        let _ = match kind {
            Kind::File => unlinkat(parent, &*self.hidden, AtFlags::empty())
                .map_err(|errno| fail(errno, &self.place.path)),
            Kind::Directory => {
                let path = PathBuf::from(shown(&self.hidden));
                remove_below(parent, &self.hidden, &path, Force::Yes, &mut || Ok(()))
            }
        };
    }
}

impl OpenFile {
    fn new(file: OwnedFd, entry: FsTreeEntry) -> Self {
        Self {
            file,
            entry,
            offset: 0,
            hollow: false,
        }
    }

    /// Where the file ends when so much is added to it.
    fn end_of(&self, length: u64, path: &Path) -> Result<u64> {
        self.offset
            .checked_add(length)
            .filter(|end| i64::try_from(*end).is_ok())
            .ok_or_else(|| fail(Errno::FBIG, path))
    }
}

fn open_directory(parent: BorrowedFd<'_>, name: &CStr) -> rustix::io::Result<OwnedFd> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY;
    open_step(parent, name, flags, Mode::empty())
}

fn permissions(entry: &FsTreeEntry) -> Mode {
    Mode::from_raw_mode(entry.mode & 0o777)
}

fn bad_tree(what: &str) -> FsFailure {
    FsFailure::new(
        FsFailureKind::BadTree,
        format!("what was sent is not a tree of files: {what}"),
    )
}

/// A name that nobody else chooses.
fn hidden_name() -> rustix::io::Result<CString> {
    let mut bytes = [0u8; 8];
    let flags = rustix::rand::GetRandomFlags::empty();
    let count = retry_on_intr(|| rustix::rand::getrandom(&mut bytes[..], flags))?;
    if count != bytes.len() {
        return Err(Errno::IO);
    }
    let name = format!(".msb-copy-{:016x}", u64::from_le_bytes(bytes));
    CString::new(name).map_err(|_| Errno::INVAL)
}
