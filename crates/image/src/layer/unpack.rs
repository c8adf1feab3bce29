//! From a layer's archive to its changes and its data blob.
//!
//! The archive is read once, as a stream. One thread decompresses, the other hashes, takes the archive apart,
//! and writes; between them are a few buffers.

use std::io::{Read, Write};
use std::ops::ControlFlow;
use std::sync::atomic::AtomicU64;
use std::sync::mpsc::sync_channel;
use std::thread;

use tar::EntryType;

use super::archive::{Archive, Entry};
use super::blob::BlobWriter;
use super::stream::Stream;
use super::{
    Action, Change, EntryProblem, Layer, LayerError, MAX_CHANGE, PathProblem, path, source,
};
use crate::digest::Digest;
use crate::limits::Limits;
use crate::node::{Attributes, Content, Device, Kind, MAX_TARGET, Node, Xattr};
use crate::shown::shown;

/// Buffers between the two threads.
const CHUNKS: usize = 4;
/// Bytes of the archive that each entry may have beside its files' bytes, on average.
const OVERHEAD: u64 = 4096;

const WHITEOUT: &[u8] = b".wh.";
const OPAQUE: &[u8] = b".wh..wh..opq";
/// What aufs kept for itself, and had put in layers.
const AUFS: &[u8] = b".wh..wh.";

/// How far unpacking is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Progress {
    /// Bytes of the layer, as it is stored, that were read.
    pub read: u64,
    /// Bytes of the archive, uncompressed, that were unpacked.
    pub unpacked: u64,
}

/// What came out of a layer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unpacked {
    /// Its changes.
    pub layer: Layer,
    /// The digest of its uncompressed bytes: the name by which an image's configuration knows it.
    pub diff_id: Digest,
    /// How many bytes were read, and were in them.
    pub bytes: Progress,
}

/// Unpacks a layer: a tar archive, plain or compressed with gzip or zstd, which is seen from its first bytes. Files'
/// contents are appended to `data`, which must be empty and is not synced. `reader` is read to its very end (unless there is
/// an error), so a digest of what it gives is one of the whole blob.
///
/// `progress` is told now and then, on the calling thread, and ends it all by [`ControlFlow::Break`]. The reader has a
/// thread of its own, so an error or a break is returned only when the reader has come back from its latest read.
pub fn unpack(
    reader: impl Read + Send,
    data: impl Write,
    limits: &Limits,
    progress: &mut dyn FnMut(Progress) -> ControlFlow<()>,
) -> Result<Unpacked, LayerError> {
    let read = AtomicU64::new(0);
    thread::scope(|scope| {
        let (full, chunks) = sync_channel(CHUNKS);
        let (empty, back) = sync_channel(CHUNKS);
        let count = &read;
        thread::Builder::new()
            .name("unpack".into())
            .spawn_scoped(scope, move || source::pump(reader, count, &full, &back))
            .map_err(LayerError::Thread)?;
        let overhead = limits.layer_entries.saturating_mul(OVERHEAD);
        let most = limits.layer_bytes.saturating_add(overhead);
        let stream = Stream::new(chunks, empty, most, &read, progress);
        // The stream goes before the scope ends, and with it what the other thread may be waiting for.
        Unpack::new(stream, data, limits).run()
    })
}

struct Unpack<'a, W> {
    archive: Archive<'a>,
    blob: BlobWriter<W>,
    limits: &'a Limits,
    changes: Vec<Change>,
    /// Bytes of all files so far.
    file_bytes: u64,
    /// Memory that the changes take so far.
    cost: u64,
}

impl<'a, W: Write> Unpack<'a, W> {
    fn new(stream: Stream<'a>, data: W, limits: &'a Limits) -> Self {
        Self {
            archive: Archive::new(stream),
            blob: BlobWriter::new(data),
            limits,
            changes: Vec::new(),
            file_bytes: 0,
            cost: 0,
        }
    }

    fn run(mut self) -> Result<Unpacked, LayerError> {
        while let Some(entry) = self.archive.next(self.limits.layer_entries)? {
            let shown_path = shown(&entry.path);
            let at = |problem| LayerError::Entry {
                path: shown_path.clone(),
                problem,
            };
            let path =
                path::clean(&entry.path, self.limits).map_err(|problem| at(problem.into()))?;
            let change = match marker(path).map_err(|problem| at(problem.into()))? {
                Marker::Ignored => continue,
                Marker::Hides(change) => change,
                Marker::Not(path) => {
                    let action = self.action(&path, entry, &at)?;
                    Change { path, action }
                }
            };
            self.add(change)?;
        }
        let (diff_id, bytes) = self.archive.into_stream().finish()?;
        let data_bytes = self.blob.finish().map_err(LayerError::Write)?;
        Ok(Unpacked {
            layer: Layer {
                changes: self.changes,
                data_bytes,
            },
            diff_id,
            bytes,
        })
    }

    fn add(&mut self, change: Change) -> Result<(), LayerError> {
        let cost = change.cost();
        if cost > MAX_CHANGE as u64 {
            return Err(LayerError::TooLarge {
                what: "bytes of attributes and places of holes in one file",
                limit: MAX_CHANGE as u64,
            });
        }
        self.cost += cost;
        if self.cost > self.limits.index_bytes {
            return Err(LayerError::TooLarge {
                what: "bytes of names and attributes",
                limit: self.limits.index_bytes,
            });
        }
        self.changes.push(change);
        Ok(())
    }

    fn action(
        &mut self,
        path: &[u8],
        entry: Entry,
        at: &dyn Fn(EntryProblem) -> LayerError,
    ) -> Result<Action, LayerError> {
        if path.is_empty() && entry.kind != EntryType::Directory {
            return Err(at(PathProblem::Root.into()));
        }
        let kind = match entry.kind {
            EntryType::Link => {
                let target = path::clean(&entry.link, self.limits)
                    .map_err(|problem| at(EntryProblem::LinkTarget(problem)))?;
                return Ok(Action::Link { target });
            }
            EntryType::Regular | EntryType::GNUSparse => Kind::File(self.file(&entry)?),
            EntryType::Directory => Kind::Directory,
            EntryType::Symlink => {
                let bad = entry.link.is_empty()
                    || entry.link.len() > MAX_TARGET
                    || entry.link.contains(&0);
                if bad {
                    return Err(at(EntryProblem::Symlink));
                }
                Kind::Symlink(entry.link)
            }
            EntryType::Char => {
                Kind::CharDevice(device(entry.device).ok_or_else(|| at(EntryProblem::Device))?)
            }
            EntryType::Block => {
                Kind::BlockDevice(device(entry.device).ok_or_else(|| at(EntryProblem::Device))?)
            }
            EntryType::Fifo => Kind::Fifo,
            other => return Err(at(EntryProblem::Kind(char::from(other.as_byte())))),
        };
        let owner = |id| owner(id).ok_or_else(|| at(EntryProblem::Owner));
        let attributes = Attributes {
            // What archives say of links is of no use: the kernel has only this.
            mode: match kind {
                Kind::Symlink(_) => 0o777,
                _ => entry.mode,
            },
            uid: owner(entry.uid)?,
            gid: owner(entry.gid)?,
            mtime: entry.mtime.0,
            mtime_nsec: entry.mtime.1,
            xattrs: self
                .xattrs(entry.xattrs)
                .ok_or_else(|| at(EntryProblem::Xattrs))?,
        };
        Ok(Action::Put(Node { attributes, kind }))
    }

    fn file(&mut self, entry: &Entry) -> Result<Content, LayerError> {
        self.file_bytes = self.file_bytes.saturating_add(entry.size);
        if self.file_bytes > self.limits.layer_bytes {
            return Err(LayerError::TooLarge {
                what: "bytes in files",
                limit: self.limits.layer_bytes,
            });
        }
        let mut file = self.blob.file();
        let mut position = 0;
        let whole = [super::archive::Extent {
            at: 0,
            len: entry.size,
        }];
        for extent in entry.extents.as_deref().unwrap_or(&whole) {
            file.hole(extent.at - position).map_err(LayerError::Write)?;
            let mut left = extent.len;
            while left > 0 {
                let bytes = self.archive.data(left)?;
                left -= bytes.len() as u64;
                file.data(bytes).map_err(LayerError::Write)?;
            }
            position = extent.at + extent.len;
        }
        file.hole(entry.size - position)
            .map_err(LayerError::Write)?;
        file.finish().map_err(LayerError::Write)
    }

    fn xattrs(&self, all: Vec<(Vec<u8>, Vec<u8>)>) -> Option<Vec<Xattr>> {
        let kept = all.into_iter().filter(|(name, _)| !overlay(name));
        let xattrs: Vec<_> = kept.map(|(name, value)| Xattr { name, value }).collect();
        super::check::xattrs(&xattrs, self.limits).then_some(xattrs)
    }
}

/// Attributes by which an overlay file system marks its own files. In a lower layer it believes them: one could make
/// a directory show another's contents, or a file the bytes of one that its path has nothing to do with. Layers say
/// such things by whiteouts; what they have of these comes from machines that they were built on.
fn overlay(name: &[u8]) -> bool {
    name.starts_with(b"trusted.overlay.") || name.starts_with(b"user.overlay.")
}

/// What a name says by itself.
enum Marker {
    /// Nothing: it is an entry like any other.
    Not(Vec<u8>),
    /// That something is removed.
    Hides(Change),
    /// That the entry means nothing.
    Ignored,
}

fn marker(path: Vec<u8>) -> Result<Marker, PathProblem> {
    if path.starts_with(AUFS) && path != OPAQUE {
        return Ok(Marker::Ignored);
    }
    let (directory, name) = path::split(&path).unwrap_or_default();
    if name == OPAQUE {
        return Ok(Marker::Hides(Change {
            path: directory.to_vec(),
            action: Action::Opaque,
        }));
    }
    let Some(hidden) = name.strip_prefix(WHITEOUT) else {
        return Ok(Marker::Not(path));
    };
    if matches!(hidden, b"" | b"." | b"..") {
        return Err(PathProblem::Nameless);
    }
    let path = match directory {
        b"" => hidden.to_vec(),
        _ => [directory, hidden].join(&b'/'),
    };
    Ok(Marker::Hides(Change {
        path,
        action: Action::Whiteout,
    }))
}

fn device((major, minor): (i64, i64)) -> Option<Device> {
    let device = Device {
        major: u32::try_from(major).ok()?,
        minor: u32::try_from(minor).ok()?,
    };
    device.is_valid().then_some(device)
}

/// An owner. The highest number means "nobody in particular" to the kernel, and no file has it.
fn owner(id: i64) -> Option<u32> {
    u32::try_from(id).ok().filter(|id| *id != u32::MAX)
}
