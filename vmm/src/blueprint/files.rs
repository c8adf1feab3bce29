//! Turning what a description names into open files.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::fs::{FileTypeExt, OpenOptionsExt};
use std::path::Path;

use msb_vmapi::Source;
use rustix::fs::{OFlags, fcntl_getfl};
use rustix::pipe::{PipeFlags, pipe_with};

use super::{BlueprintError, Part, disk};

/// An open regular file.
pub(super) struct Opened {
    pub(super) file: File,
    /// For messages.
    pub(super) name: String,
    pub(super) len: u64,
}

/// The descriptors that came with a description, each to be used once, except that several parts of disks
/// may be in one.
pub(super) struct Files {
    descriptors: Vec<Option<OwnedFd>>,
    /// What parts of disks are in so far, by what it was called.
    parts: Vec<(Source, disk::Part)>,
}

impl Files {
    pub(super) fn new(descriptors: Vec<OwnedFd>) -> Self {
        Self {
            descriptors: descriptors.into_iter().map(Some).collect(),
            parts: Vec::new(),
        }
    }

    /// Takes the descriptor of that index.
    pub(super) fn descriptor(&mut self, index: u32) -> Result<OwnedFd, BlueprintError> {
        let count = self.descriptors.len();
        usize::try_from(index)
            .ok()
            .and_then(|index| self.descriptors.get_mut(index))
            .ok_or(BlueprintError::NoDescriptor { index, count })?
            .take()
            .ok_or(BlueprintError::DescriptorTwice { index })
    }

    /// A regular file to read.
    pub(super) fn read(&mut self, source: Source, part: Part) -> Result<Opened, BlueprintError> {
        let (file, name) = self.open(source, part, OpenOptions::new().read(true))?;
        let metadata = match file.metadata() {
            Ok(metadata) => metadata,
            Err(source) => return Err(BlueprintError::Open { part, name, source }),
        };
        if !metadata.is_file() {
            return Err(BlueprintError::NotAFile { part, name });
        }
        Ok(Opened {
            file,
            name,
            len: metadata.len(),
        })
    }

    /// A disk: a regular file or a block device, open for what it is to be used for.
    pub(super) fn disk(
        &mut self,
        source: Source,
        read_only: bool,
    ) -> Result<(File, String), BlueprintError> {
        let part = Part::Disk;
        let mut options = OpenOptions::new();
        options.read(true).write(!read_only);
        let (file, name) = self.open(source, part, &options)?;
        let kind = match file.metadata() {
            Ok(metadata) => metadata.file_type(),
            Err(source) => return Err(BlueprintError::Open { part, name, source }),
        };
        if !kind.is_file() && !kind.is_block_device() {
            return Err(BlueprintError::NotAFile { part, name });
        }
        let flags = match fcntl_getfl(&file) {
            Ok(flags) => flags,
            Err(errno) => {
                let source = errno.into();
                return Err(BlueprintError::Open { part, name, source });
            }
        };
        if !read_only && !flags.contains(OFlags::RDWR) {
            return Err(BlueprintError::DiskNotWritable { name });
        }
        Ok((file, name))
    }

    /// A file that parts of disks are in; the same one each time that it is named.
    pub(super) fn part(&mut self, source: Source) -> Result<disk::Part, BlueprintError> {
        if let Some((_, part)) = self.parts.iter().find(|(named, _)| *named == source) {
            return Ok(part.clone());
        }
        let part = disk::Part::open(self, source.clone())?;
        self.parts.push((source, part.clone()));
        Ok(part)
    }

    /// Something to append bytes to.
    pub(super) fn append(&mut self, source: Source, part: Part) -> Result<OwnedFd, BlueprintError> {
        let mut options = OpenOptions::new();
        options.append(true).create(true).mode(0o600);
        Ok(self.open(source, part, &options)?.0.into())
    }

    fn open(
        &mut self,
        source: Source,
        part: Part,
        options: &OpenOptions,
    ) -> Result<(File, String), BlueprintError> {
        match source {
            Source::Fd { fd } => Ok((self.descriptor(fd)?.into(), format!("descriptor {fd}"))),
            Source::Path(path) => {
                let name = path.display().to_string();
                match open_path(&path, options) {
                    Ok(file) => Ok((file, name)),
                    // What the kernel answers to a directory that is to be written.
                    Err(error) if error.kind() == io::ErrorKind::IsADirectory => {
                        Err(BlueprintError::NotAFile { part, name })
                    }
                    Err(source) => Err(BlueprintError::Open { part, name, source }),
                }
            }
        }
    }
}

/// Opens without waiting: a pipe that nobody has at its other end would wait for ever.
fn open_path(path: &Path, options: &OpenOptions) -> io::Result<File> {
    let flags = (OFlags::NONBLOCK | OFlags::NOCTTY).bits();
    options.clone().custom_flags(flags.cast_signed()).open(path)
}

/// Where the output of a console goes that nobody wants: a pipe that nobody reads. The device sees
/// that its reader has gone, and drops what comes.
pub(super) fn null_sink() -> Result<OwnedFd, BlueprintError> {
    match pipe_with(PipeFlags::CLOEXEC | PipeFlags::NONBLOCK) {
        Ok((_, sink)) => Ok(sink),
        Err(errno) => Err(BlueprintError::Open {
            part: Part::Console,
            name: "a pipe".to_owned(),
            source: errno.into(),
        }),
    }
}
