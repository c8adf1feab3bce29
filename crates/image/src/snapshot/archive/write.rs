//! Writing an archive.

use std::fs::File;
use std::io::{self, BufWriter, Read, Write};
use std::ops::Range;
use std::os::unix::fs::FileExt;

use serde::Serialize;
use sha2::{Digest as _, Sha256};
use tar::{EntryType, Header};

use super::name::{ImagePath, Name};
use super::{Contents, End, MAX_EXTENTS, sparse};
use crate::Digest;
use crate::limits::BLOCK;
use crate::snapshot::GoOn;
use crate::snapshot::dir::SnapshotDir;
use crate::snapshot::error::{Result, SnapshotError};
use crate::snapshot::extents::whole_blocks;
use crate::snapshot::integrity::{ALGORITHM, CHUNK, SparseHasher};
use crate::snapshot::manifest::PatchFile;

/// How hard zstd tries: its own default. More takes longer than most networks do.
const LEVEL: i32 = 3;

/// An archive in the making. What goes in comes in the archive's order: snapshots, image, end.
pub struct Writer<W: Write> {
    tar: tar::Builder<BufWriter<Out<W>>>,
    end: End,
}

impl<W: Write> std::fmt::Debug for Writer<W> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Writer").field("end", &self.end).finish()
    }
}

impl<W: Write> Writer<W> {
    /// Begins one of these contents, compressed unless it is to be `plain`.
    pub fn begin(out: W, plain: bool, contents: &Contents) -> Result<Self> {
        let out = match plain {
            true => Out::Plain(out),
            false => {
                let mut encoder = zstd::Encoder::new(out, LEVEL).map_err(written)?;
                encoder.include_checksum(true).map_err(written)?;
                Out::Zstd(encoder)
            }
        };
        let mut writer = Self {
            tar: tar::Builder::new(BufWriter::with_capacity(CHUNK, out)),
            end: End::default(),
        };
        writer.document(&Name::Contents, contents)?;
        Ok(writer)
    }

    /// Writes a snapshot, and sees on the way that it is what its manifest says.
    pub fn snapshot(&mut self, snapshot: &SnapshotDir, go_on: GoOn<'_>) -> Result<()> {
        let sealed = snapshot.sealed();
        let digest = sealed.digest();
        self.bytes(&Name::Manifest(digest), sealed.bytes())?;
        let contents = self.upper(snapshot, digest, go_on)?;
        let damaged = |what: &str| Err(SnapshotError::damaged(snapshot.path(), what));
        if let Some(recorded) = &sealed.manifest().upper.integrity
            && recorded.algorithm == ALGORITHM
            && recorded.digest != contents.to_string()
        {
            return damaged("its disk was changed after it was made");
        }
        self.end
            .uppers
            .insert(digest.to_string(), contents.to_string());
        if let (Some(files), Some(patch)) = (snapshot.patch()?, &sealed.manifest().patch) {
            let index = self.patch(&Name::PatchIndex(digest), files.index, &patch.index, go_on)?;
            let data = self.patch(&Name::PatchData(digest), files.data, &patch.data, go_on)?;
            if !index || !data {
                return damaged("the layer of its patches was changed");
            }
        }
        Ok(())
    }

    /// Writes a file of the images' layout, of exactly `size` bytes.
    pub fn image(&mut self, path: ImagePath, size: u64, contents: &mut dyn Read) -> Result<()> {
        self.file(&Name::Image(path), size, contents)
    }

    /// Writes the end.
    pub fn finish(mut self) -> Result<W> {
        let end = std::mem::take(&mut self.end);
        self.document(&Name::End, &end)?;
        let buffered = self.tar.into_inner().map_err(written)?;
        let out = buffered
            .into_inner()
            .map_err(|error| written(error.into_error()))?;
        match out {
            Out::Plain(out) => Ok(out),
            Out::Zstd(encoder) => encoder.finish().map_err(written),
        }
    }

    /// Writes a disk, and returns what its contents come to.
    fn upper(&mut self, snapshot: &SnapshotDir, digest: Digest, go_on: GoOn<'_>) -> Result<Digest> {
        let name = Name::Upper(digest);
        let size = snapshot.sealed().manifest().upper.size_bytes;
        let file = snapshot.upper()?;
        let extents = whole_blocks(&file, size, BLOCK, MAX_EXTENTS)
            .map_err(SnapshotError::io(snapshot.path()))?;
        let data: u64 = extents.iter().map(|extent| extent.end - extent.start).sum();
        let map = sparse::write_map(&extents, size);
        let length = map.len() as u64 + data;
        self.tar
            .append_pax_extensions([
                (sparse::MAJOR, b"1".as_slice()),
                (sparse::MINOR, b"0"),
                (sparse::NAME, name.to_string().as_bytes()),
                (sparse::SIZE, size.to_string().as_bytes()),
            ])
            .map_err(written)?;
        let header = header(&name.sparse_header(), length)?;
        let mut disk = Disk {
            file,
            extents: extents.into_iter(),
            now: 0..0,
            hasher: SparseHasher::new(size),
            chunk: map,
            read: 0,
            go_on,
        };
        self.tar.append(&header, &mut disk).map_err(written)?;
        Ok(disk.hasher.finish())
    }

    /// Writes a file of a patch layer, and returns whether it is what it is said to be.
    fn patch(
        &mut self,
        name: &Name,
        file: File,
        said: &PatchFile,
        go_on: GoOn<'_>,
    ) -> Result<bool> {
        let mut reader = Hashing {
            file,
            hasher: Sha256::new(),
            go_on,
        };
        self.file(name, said.size_bytes, &mut reader)?;
        Ok(Digest::from_hasher(reader.hasher).to_string() == said.digest)
    }

    fn document(&mut self, name: &Name, document: &impl Serialize) -> Result<()> {
        let bytes = serde_json::to_vec(document).map_err(|error| {
            SnapshotError::archive(format!("{name} cannot be written: {error}"))
        })?;
        self.bytes(name, &bytes)
    }

    fn bytes(&mut self, name: &Name, mut bytes: &[u8]) -> Result<()> {
        self.file(name, bytes.len() as u64, &mut bytes)
    }

    fn file(&mut self, name: &Name, size: u64, contents: &mut dyn Read) -> Result<()> {
        let header = header(&name.to_string(), size)?;
        let mut counted = Counted {
            inner: contents.take(size),
            left: size,
        };
        self.tar.append(&header, &mut counted).map_err(written)
    }
}

/// Everything is a regular file of nobody's, so an archive says nothing of who wrote it.
fn header(name: &str, size: u64) -> Result<Header> {
    let mut header = Header::new_ustar();
    header.set_entry_type(EntryType::Regular);
    header.set_path(name).map_err(written)?;
    header.set_mode(0o600);
    header.set_uid(0);
    header.set_gid(0);
    header.set_mtime(0);
    header.set_size(size);
    header.set_cksum();
    Ok(header)
}

fn written(source: io::Error) -> SnapshotError {
    SnapshotError::io(std::path::Path::new("the archive"))(source)
}

/// Where it goes.
enum Out<W: Write> {
    Plain(W),
    Zstd(zstd::Encoder<'static, W>),
}

impl<W: Write> Write for Out<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            Self::Plain(out) => out.write(bytes),
            Self::Zstd(out) => out.write(bytes),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        match self {
            Self::Plain(out) => out.flush(),
            Self::Zstd(out) => out.flush(),
        }
    }
}

/// A disk's map, and then the bytes of its stretches.
struct Disk<'a> {
    file: File,
    extents: std::vec::IntoIter<Range<u64>>,
    /// What is left of the stretch that is read.
    now: Range<u64>,
    hasher: SparseHasher,
    chunk: Vec<u8>,
    /// How much of the chunk was given out.
    read: usize,
    go_on: GoOn<'a>,
}

impl Disk<'_> {
    /// Reads the next chunk; `false` when there is none.
    fn next(&mut self) -> io::Result<bool> {
        step(self.go_on)?;
        if self.now.is_empty() {
            match self.extents.next() {
                Some(extent) => self.now = extent,
                None => return Ok(false),
            }
        }
        let length = self.now.end - self.now.start;
        let length = usize::try_from(length).unwrap_or(CHUNK).min(CHUNK);
        self.chunk.resize(length, 0);
        self.file.read_exact_at(&mut self.chunk, self.now.start)?;
        self.hasher.update(self.now.start, &self.chunk);
        self.now.start += length as u64;
        self.read = 0;
        Ok(true)
    }
}

impl Read for Disk<'_> {
    fn read(&mut self, room: &mut [u8]) -> io::Result<usize> {
        if self.read == self.chunk.len() && !self.next()? {
            return Ok(0);
        }
        let mut left = self.chunk.get(self.read..).unwrap_or_default();
        let read = left.read(room)?;
        self.read += read;
        Ok(read)
    }
}

/// Asks whether to go on. Who copies from a reader takes one kind of error for a reason to try again.
fn step(go_on: &mut dyn FnMut() -> io::Result<()>) -> io::Result<()> {
    go_on().map_err(|error| match error.kind() {
        io::ErrorKind::Interrupted => io::Error::other(error),
        _ => error,
    })
}

/// A file that is hashed while it is read.
struct Hashing<'a> {
    file: File,
    hasher: Sha256,
    go_on: GoOn<'a>,
}

impl Read for Hashing<'_> {
    fn read(&mut self, room: &mut [u8]) -> io::Result<usize> {
        step(self.go_on)?;
        let read = self.file.read(room)?;
        self.hasher.update(room.get(..read).unwrap_or_default());
        Ok(read)
    }
}

/// A reader that must have as many bytes as was said, since the header says so already.
struct Counted<R> {
    inner: R,
    left: u64,
}

impl<R: Read> Read for Counted<R> {
    fn read(&mut self, room: &mut [u8]) -> io::Result<usize> {
        let read = self.inner.read(room)?;
        self.left = self.left.saturating_sub(read as u64);
        if read == 0 && self.left > 0 && !room.is_empty() {
            return Err(io::Error::new(
                io::ErrorKind::UnexpectedEof,
                "a file became shorter while it was read",
            ));
        }
        Ok(read)
    }
}
