//! Each operation, by the system calls that it is made of.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::DirBuilderExt;
use std::path::Path;

use bytes::Bytes;
use msb_files::{Result, TreeWriter, export, fail, remove_tree};
use msb_protocol::{FsAnswer, FsFailure, FsFailureKind, FsRequest, check_path};
use rustix::fs::{AtFlags, CWD, readlinkat, renameat, symlinkat, unlinkat};
use rustix::io::Errno;

use super::worker::Worker;
use super::{attributes, content, list};

impl Worker {
    /// Does what is asked. The answer is the last message.
    pub(super) fn perform(&mut self, request: FsRequest) -> Result<FsAnswer> {
        use FsRequest as R;
        match request {
            R::Read { path } => content::read(self, checked(&path)?),
            R::Write { path, mode } => content::write(self, checked(&path)?, mode),
            R::List { path } => list::list(self, checked(&path)?),
            R::Stat { path, follow } => {
                attributes::stat(checked(&path)?, follow).map(FsAnswer::Stat)
            }
            R::SetStat {
                path,
                follow,
                attributes,
            } => done(attributes::set(checked(&path)?, follow, &attributes)),
            R::MakeDirectory { path } => done(make_directory(checked(&path)?)),
            R::Remove { path } => {
                let path = checked(&path)?;
                let removed = unlinkat(CWD, path, AtFlags::empty());
                done(removed.map_err(|errno| fail(errno, path)))
            }
            R::RemoveTree { path } => done(remove_tree(checked(&path)?, &mut || self.step())),
            R::Rename { from, to } => {
                let (from, to) = (checked(&from)?, checked(&to)?);
                let renamed = renameat(CWD, from, CWD, to);
                done(renamed.map_err(|errno| fail(errno, &between(from, to))))
            }
            R::Copy { from, to } => self.copy(checked(&from)?, checked(&to)?),
            R::ReadLink { path } => {
                let path = checked(&path)?;
                let target = readlinkat(CWD, path, Vec::new()).map_err(|errno| match errno {
                    Errno::INVAL => FsFailure::new(
                        FsFailureKind::InvalidArgument,
                        format!("{}: it is not a symbolic link", path.display()),
                    ),
                    errno => fail(errno, path),
                })?;
                Ok(FsAnswer::Target(Bytes::from(target.into_bytes())))
            }
            R::Symlink { target, path } => {
                let (target, path) = (checked(&target)?, checked(&path)?);
                done(symlinkat(target, CWD, path).map_err(|errno| fail(errno, path)))
            }
            R::Export { path } => {
                let path = checked(&path)?;
                done(export(path, &mut |part| {
                    self.step()?;
                    self.answer(FsAnswer::Part(part))
                }))
            }
            R::Import { path } => self.import(checked(&path)?),
            _ => Err(FsFailure::new(
                FsFailureKind::NotSupported,
                "the guest's agent is too old for this operation",
            )),
        }
    }

    fn copy(&mut self, from: &Path, to: &Path) -> Result<FsAnswer> {
        refuse_copy_into_itself(from, to)?;
        let mut writer = TreeWriter::new(to)?;
        export(from, &mut |part| {
            self.step()?;
            writer.part(part)
        })?;
        done(writer.finish())
    }

    fn import(&mut self, path: &Path) -> Result<FsAnswer> {
        let mut writer = TreeWriter::new(path)?;
        self.answer(FsAnswer::Opened)?;
        while let Some(part) = self.next()? {
            self.step()?;
            writer.part(part)?;
        }
        done(writer.finish())
    }
}

fn done(result: Result<()>) -> Result<FsAnswer> {
    result.map(|()| FsAnswer::Done)
}

/// The path that these bytes are.
fn checked(bytes: &Bytes) -> Result<&Path> {
    check_path(bytes).map_err(|kind| {
        let shown = String::from_utf8_lossy(bytes.get(..64).unwrap_or(bytes));
        FsFailure::new(kind, format!("{shown:?} is no path that can be"))
    })?;
    Ok(Path::new(OsStr::from_bytes(bytes)))
}

/// Both paths, for a message: either may be what is wrong.
fn between(from: &Path, to: &Path) -> std::path::PathBuf {
    format!("{} to {}", from.display(), to.display()).into()
}

fn make_directory(path: &Path) -> Result<()> {
    let made = std::fs::DirBuilder::new()
        .recursive(true)
        .mode(0o777)
        .create(path);
    made.map_err(|error| fail(Errno::from_io_error(&error).unwrap_or(Errno::IO), path))
}

/// A copy that it is itself a part of would never be complete.
fn refuse_copy_into_itself(from: &Path, to: &Path) -> Result<()> {
    let parent = to.parent().map(|parent| match parent {
        empty if empty.as_os_str().is_empty() => Path::new("."),
        parent => parent,
    });
    // Where either cannot be found, the copy itself says so, and better.
    let (Ok(from), Some(Ok(into))) = (from.canonicalize(), parent.map(Path::canonicalize)) else {
        return Ok(());
    };
    if from.is_dir() && into.starts_with(&from) {
        return Err(FsFailure::new(
            FsFailureKind::InvalidArgument,
            format!("{}: it cannot be copied into itself", from.display()),
        ));
    }
    Ok(())
}
