//! Patches: changes of an image's tree before it is booted, as one more layer.
//!
//! The patches are made in their order on a copy of the tree, so each sees what those before it did. What differs
//! from the tree in the end becomes the layer (`diff`): of a file that one patch writes and a later one removes,
//! nothing is left in it. Paths lead through symbolic links as they would for a program in the guest, and never out of
//! the tree; on the host, only what a patch names is read, and no link in a directory that is copied is followed.
//!
//! What is written *replaces* what has its name: a symbolic link at the very end of a path is replaced and not
//! written through. Directories are the exception, where a link to one is as good as one: files that are put
//! into `/lib` go where `/lib` leads. Everything that is made belongs to root.

mod diff;
mod error;
mod host;
#[cfg(test)]
mod property;
#[cfg(test)]
mod tests;

use std::fs::File;
use std::io;
use std::os::fd::AsFd;
use std::time::{SystemTime, UNIX_EPOCH};

use msb_types::Patch;
use rustix::io::{pread, retry_on_intr};

pub use self::error::PatchError;
use crate::layer::{Action, BlobWriter, Change, FileWriter, Layer};
use crate::limits::Limits;
use crate::node::{Attributes, Content, Kind, MAX_TARGET, Node};
use crate::shown::shown;
use crate::tree::{FileContent, InodeId, Last, Tree};

/// The mode of files and of directories when none is given.
const FILE_MODE: u16 = 0o644;
const DIRECTORY_MODE: u16 = 0o755;
/// How much is copied at once.
const COPY: usize = 256 << 10;

type Result<T> = std::result::Result<T, PatchError>;

/// Makes a layer of patches, to be put over `tree`. Files' contents are written to `data`, an empty file that is
/// open for reading as well; it is not synced. `blobs` are the data blobs of the tree's layers, the lowest first: text that is
/// added to a file needs what was in it.
pub fn layer(
    tree: &Tree,
    blobs: &[impl AsFd],
    patches: &[Patch],
    data: &File,
    limits: &Limits,
) -> Result<Layer> {
    patched(tree, blobs, patches, data, limits).map(|(layer, _)| layer)
}

/// The layer, and the tree that it makes.
fn patched(
    tree: &Tree,
    blobs: &[impl AsFd],
    patches: &[Patch],
    data: &File,
    limits: &Limits,
) -> Result<(Layer, Tree)> {
    let mut patcher = Patcher {
        tree: tree.clone(),
        index: blobs.len(),
        blobs,
        data,
        blob: BlobWriter::new(data),
        limits,
        now: now(),
        file_bytes: 0,
    };
    for patch in patches {
        patcher.patch(patch)?;
    }
    let layer = Layer {
        changes: diff::changes(tree, &patcher.tree, patcher.index),
        data_bytes: patcher.blob.finish().map_err(PatchError::Write)?,
    };
    match layer.check(limits) {
        Ok(()) => Ok((layer, patcher.tree)),
        Err((path, flaw)) => Err(PatchError::Impossible { path, flaw }),
    }
}

/// Patches being made.
struct Patcher<'a, B> {
    tree: Tree,
    /// What the layer's number will be.
    index: usize,
    blobs: &'a [B],
    data: &'a File,
    blob: BlobWriter<&'a File>,
    limits: &'a Limits,
    /// The time that everything is made at: seconds and nanoseconds.
    now: (i64, u32),
    /// Bytes of all files so far.
    file_bytes: u64,
}

/// Where something is to be, links followed.
struct Spot {
    path: Vec<u8>,
    /// What is there.
    id: Option<InodeId>,
    /// Directories above it that are not there, the highest first.
    missing: Vec<Vec<u8>>,
}

impl<B: AsFd> Patcher<'_, B> {
    fn patch(&mut self, patch: &Patch) -> Result<()> {
        match patch {
            Patch::Text {
                path,
                content,
                mode,
                replace,
            } => self.bytes(path, content.as_bytes(), *mode, *replace),
            Patch::File {
                path,
                content,
                mode,
                replace,
            } => self.bytes(path, content, *mode, *replace),
            Patch::CopyFile {
                src,
                dst,
                mode,
                replace,
            } => self.copy_file(src, dst, *mode, *replace),
            Patch::CopyDir { src, dst, replace } => self.copy_directory(src, dst, *replace),
            Patch::Symlink {
                target,
                link,
                replace,
            } => {
                let spot = self.free(link, *replace)?;
                let target = target.as_bytes().to_vec();
                if !(1..=MAX_TARGET).contains(&target.len()) || target.contains(&0) {
                    return Err(PatchError::BadTarget(link.clone()));
                }
                let attributes = self.made(0o777);
                self.put(&spot, attributes, Kind::Symlink(target))
            }
            Patch::Mkdir { path, mode } => self.make_directory(path, *mode),
            Patch::Remove { path } => self.remove(path),
            Patch::Append { path, content } => self.append(path, content.as_bytes()),
            _ => Err(PatchError::Unknown),
        }
    }

    fn bytes(&mut self, path: &str, bytes: &[u8], mode: Option<u32>, replace: bool) -> Result<()> {
        let spot = self.free(path, replace)?;
        let attributes = self.made(mode_of(mode, FILE_MODE)?);
        let content = self.write(|file| file.add(bytes))?;
        self.put(&spot, attributes, Kind::File(content))
    }

    fn make_directory(&mut self, path: &str, mode: Option<u32>) -> Result<()> {
        let spot = self.spot(path, Last::Follow)?;
        let Some(id) = spot.id else {
            if self.spot(path, Last::Keep)?.id.is_some() {
                // A link to nothing.
                return Err(PatchError::NotADirectory(path.into()));
            }
            let attributes = self.made(mode_of(mode, DIRECTORY_MODE)?);
            return self.put(&spot, attributes, Kind::Directory);
        };
        let inode = self.tree.inode(id);
        if !inode.is_directory() {
            return Err(PatchError::NotADirectory(path.into()));
        }
        if mode.is_some() {
            let mut attributes = inode.node.attributes.clone();
            attributes.mode = mode_of(mode, DIRECTORY_MODE)?;
            self.tree.set_attributes(id, attributes);
        }
        Ok(())
    }

    fn remove(&mut self, path: &str) -> Result<()> {
        let place = match self.tree.place(check(path)?, Last::Keep) {
            Ok(place) => place,
            // In a file there is nothing.
            Err(crate::tree::ResolveError::NotADirectory) => return Ok(()),
            Err(source) => return Err(unreachable(path, source)),
        };
        if !place.missing.is_empty() {
            return Ok(());
        }
        let (directory, name) = match (place.last, &*place.directories) {
            (Some((name, _)), _) => (place.directory(&self.tree), name.to_vec()),
            (None, [.., (_, above), (name, _)]) => (*above, name.to_vec()),
            (None, [(name, _)]) => (self.tree.root(), name.to_vec()),
            (None, []) => return Err(PatchError::Root),
        };
        self.tree.remove(directory, &name);
        Ok(())
    }

    fn append(&mut self, path: &str, bytes: &[u8]) -> Result<()> {
        let spot = self.spot(path, Last::Follow)?;
        let id = spot.id.ok_or_else(|| PatchError::NotFound(path.into()))?;
        let node = self.tree.inode(id).node.clone();
        let Kind::File(old) = node.kind else {
            return Err(PatchError::NotAFile(path.into()));
        };
        self.blob.flush().map_err(PatchError::Write)?;
        let (blobs, data, index) = (self.blobs, self.data, self.index);
        let content = self.write(|file| {
            let blob = match blobs.get(old.layer) {
                Some(blob) => blob.as_fd(),
                None if old.layer == index => data.as_fd(),
                None => return Err(PatchError::Blob(io::ErrorKind::NotFound.into())),
            };
            file.copy(&old, blob)?;
            file.add(bytes)
        })?;
        let mut attributes = node.attributes;
        (attributes.mtime, attributes.mtime_nsec) = self.now;
        // A file has one content, whichever of its names it is written by.
        let others = match self.tree.links(id) {
            1 => Vec::new(),
            _ => self.names(id),
        };
        self.put(&spot, attributes, Kind::File(content))?;
        for name in others.into_iter().filter(|name| *name != spot.path) {
            let target = spot.path.clone();
            self.apply(name, Action::Link { target })?;
        }
        Ok(())
    }

    /// All names of an inode.
    fn names(&self, id: InodeId) -> Vec<Vec<u8>> {
        let names = self.tree.walk().filter(|(_, other)| *other == id);
        names.map(|(path, _)| path).collect()
    }

    /// Where a path leads.
    fn spot(&self, path: &str, last: Last) -> Result<Spot> {
        self.spot_of(check(path)?, path, last)
    }

    fn spot_of(&self, bytes: &[u8], path: &str, last: Last) -> Result<Spot> {
        let place = self.tree.place(bytes, last);
        let place = place.map_err(|source| unreachable(path, source))?;
        let there = place.directories.len();
        let names = place.names();
        let above = (1..=place.missing.len().saturating_sub(1))
            .filter_map(|more| names.get(..there + more))
            .map(|names| names.join(&b'/'));
        Ok(Spot {
            path: names.join(&b'/'),
            id: place.id(&self.tree),
            missing: above.collect(),
        })
    }

    /// Where something that is no directory is to be made, or to replace what is no directory.
    fn free(&self, path: &str, replace: bool) -> Result<Spot> {
        let spot = self.spot(path, Last::Keep)?;
        let as_directory = path.ends_with('/') || path.ends_with("/.");
        match spot.id {
            Some(id) if self.tree.inode(id).is_directory() => {
                Err(PatchError::IsADirectory(path.into()))
            }
            Some(_) if !replace => Err(PatchError::Exists(path.into())),
            _ if as_directory => Err(PatchError::IsADirectory(path.into())),
            _ => Ok(spot),
        }
    }

    /// Puts something at its place, with the directories that are missing above it.
    fn put(&mut self, spot: &Spot, attributes: Attributes, kind: Kind<Content>) -> Result<()> {
        for path in &spot.missing {
            let node = Node {
                attributes: self.made(DIRECTORY_MODE),
                kind: Kind::Directory,
            };
            self.apply(path.clone(), Action::Put(node))?;
        }
        let node = Node { attributes, kind };
        self.apply(spot.path.clone(), Action::Put(node))
    }

    fn apply(&mut self, path: Vec<u8>, action: Action) -> Result<()> {
        let layer = Layer {
            changes: vec![Change { path, action }],
            data_bytes: 0,
        };
        Ok(self.tree.apply(&layer, self.index, self.limits)?)
    }

    /// Attributes of what is made.
    fn made(&self, mode: u16) -> Attributes {
        Attributes {
            mode,
            mtime: self.now.0,
            mtime_nsec: self.now.1,
            ..Attributes::default()
        }
    }

    /// Writes a file's content.
    fn write(&mut self, fill: impl FnOnce(&mut Writing<'_, '_>) -> Result<()>) -> Result<Content> {
        let mut writing = Writing {
            file: self.blob.file(),
            left: self.limits.layer_bytes.saturating_sub(self.file_bytes),
            limit: self.limits.layer_bytes,
        };
        fill(&mut writing)?;
        let content = writing.file.finish().map_err(PatchError::Write)?;
        self.file_bytes += content.size;
        Ok(content)
    }
}

/// A file that is being written, within the limit.
struct Writing<'a, 'b> {
    file: FileWriter<'a, &'b File>,
    left: u64,
    limit: u64,
}

impl Writing<'_, '_> {
    fn count(&mut self, bytes: u64) -> Result<()> {
        let left = self.left.checked_sub(bytes);
        self.left = left.ok_or(PatchError::TooLarge(self.limit))?;
        Ok(())
    }

    fn add(&mut self, bytes: &[u8]) -> Result<()> {
        self.count(bytes.len() as u64)?;
        self.file.data(bytes).map_err(PatchError::Write)
    }

    fn hole(&mut self, bytes: u64) -> Result<()> {
        self.count(bytes)?;
        self.file.hole(bytes).map_err(PatchError::Write)
    }

    /// Adds what is in a file of the tree.
    fn copy(&mut self, old: &FileContent, blob: impl AsFd) -> Result<()> {
        let mut buffer = vec![0; COPY];
        let mut position = 0;
        for piece in &old.content.pieces {
            self.hole(piece.at.saturating_sub(position))?;
            let mut done = 0;
            while done < piece.len {
                let most = usize::try_from(piece.len - done).unwrap_or(COPY).min(COPY);
                let part = buffer.get_mut(..most).unwrap_or_default();
                let read = retry_on_intr(|| pread(&blob, &mut *part, piece.blob + done))
                    .map_err(|errno| PatchError::Blob(errno.into()))?;
                let Some(bytes) = part.get(..read).filter(|bytes| !bytes.is_empty()) else {
                    return Err(PatchError::Blob(io::ErrorKind::UnexpectedEof.into()));
                };
                self.add(bytes)?;
                done += bytes.len() as u64;
            }
            position = piece.at + piece.len;
        }
        self.hole(old.content.size.saturating_sub(position))
    }
}

fn unreachable(path: &str, source: crate::tree::ResolveError) -> PatchError {
    PatchError::Unreachable {
        path: shown(path.as_bytes()),
        source,
    }
}

/// A path in the guest, as bytes.
fn check(path: &str) -> Result<&[u8]> {
    match path.starts_with('/') && !path.contains('\0') {
        true => Ok(path.as_bytes()),
        false => Err(PatchError::BadPath(path.into())),
    }
}

fn mode_of(given: Option<u32>, otherwise: u16) -> Result<u16> {
    let Some(mode) = given else {
        return Ok(otherwise);
    };
    let bits = u16::try_from(mode).ok().filter(|bits| *bits <= 0o7777);
    bits.ok_or(PatchError::BadMode(mode))
}

fn now() -> (i64, u32) {
    // A clock that is set before 1970 is not worth an error.
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    let since = since.unwrap_or_default();
    let seconds = i64::try_from(since.as_secs()).unwrap_or(0);
    (seconds, since.subsec_nanos())
}
