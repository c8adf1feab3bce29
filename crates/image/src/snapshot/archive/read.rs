//! Reading an archive that anybody may have written.

use std::collections::BTreeSet;
use std::fs::File;
use std::io::{self, BufReader, Read};
use std::os::unix::fs::FileExt;
use std::path::Path;

use sha2::{Digest as _, Sha256};

use super::member::{Member, Members};
use super::name::{ImagePath, Name};
use super::sparse::read_map;
use super::{Contents, End, Limits, MAX_DOCUMENT, broken, wrong};
use crate::Digest;
use crate::snapshot::GoOn;
use crate::snapshot::Staging;
use crate::snapshot::error::{Result, SnapshotError};
use crate::snapshot::integrity::{ALGORITHM, BLOCK_LEN, CHUNK, SparseHasher, is_zero};
use crate::snapshot::manifest::{MAX_MANIFEST, PatchFile, Sealed};

/// What a stream of zstd begins with (RFC 8878, "Zstandard Frames").
const ZSTD_MAGIC: [u8; 4] = [0x28, 0xb5, 0x2f, 0xfd];

/// The largest window that is decompressed, as a power of two: 128 MiB of memory.
const MAX_WINDOW: u32 = 27;

/// The most that may follow the archive's end: what tar fills its last record with.
const MAX_PADDING: u64 = 1 << 20;

/// Takes the files of an image's layout, in the order in which the archive has them.
pub trait ImageFiles {
    /// Takes one: what the reader gives, which is said to have `size` bytes and may be anything. What is not read
    /// is passed over.
    fn file(
        &mut self,
        path: ImagePath,
        size: u64,
        contents: &mut dyn Read,
        go_on: GoOn<'_>,
    ) -> Result<()>;
}

/// Reads images and keeps nothing of them.
#[derive(Clone, Copy, Debug)]
pub struct NoImage;

impl ImageFiles for NoImage {
    fn file(&mut self, _: ImagePath, _: u64, _: &mut dyn Read, _: GoOn<'_>) -> Result<()> {
        Ok(())
    }
}

/// What was in an archive: found right, and beside its place.
#[derive(Debug)]
pub struct Unpacked {
    /// Whether there were images too.
    pub image: bool,
    /// The snapshots, ancestors first.
    pub snapshots: Vec<UnpackedSnapshot>,
}

/// One of them.
#[derive(Debug)]
pub struct UnpackedSnapshot {
    /// What it was called.
    pub name: String,
    /// Its manifest.
    pub sealed: Sealed,
    /// Its files; dropped, they are deleted.
    pub staging: Staging,
}

/// Reads an archive, compressed or plain, and unpacks its snapshots in the directory `parent`, under passing
/// names. Whatever is wrong with it, nothing else is touched and nothing is left.
pub fn read(
    archive: impl Read,
    parent: &Path,
    limits: &Limits,
    image: &mut dyn ImageFiles,
    go_on: GoOn<'_>,
) -> Result<Unpacked> {
    let mut archive = BufReader::with_capacity(CHUNK, archive);
    let compressed = io::BufRead::fill_buf(&mut archive)
        .map_err(broken)?
        .starts_with(&ZSTD_MAGIC);
    if !compressed {
        return Reading::of(archive, parent, limits, image, go_on);
    }
    let mut decoder = zstd::Decoder::with_buffer(archive)
        .map_err(broken)?
        .single_frame();
    decoder.window_log_max(MAX_WINDOW).map_err(broken)?;
    Reading::of(decoder, parent, limits, image, go_on)
}

/// What goes through all of an archive.
struct Reading<'a> {
    parent: &'a Path,
    limits: &'a Limits,
    image: &'a mut dyn ImageFiles,
    go_on: GoOn<'a>,
    /// Bytes of data so far.
    data: u64,
}

impl<'a> Reading<'a> {
    fn of(
        archive: impl Read,
        parent: &'a Path,
        limits: &'a Limits,
        image: &'a mut dyn ImageFiles,
        go_on: GoOn<'a>,
    ) -> Result<Unpacked> {
        let mut reading = Self {
            parent,
            limits,
            image,
            go_on,
            data: 0,
        };
        let mut archive = tar::Archive::new(archive);
        let mut members = Members::of(&mut archive)?;
        let unpacked = reading.all(&mut members)?;
        if members.next()?.is_some() {
            return Err(wrong("there is more behind its end"));
        }
        // To its very end, where the checksum of a compressed one is.
        let mut rest = archive.into_inner().take(MAX_PADDING);
        let mut block = [0; BLOCK_LEN];
        loop {
            match rest.read(&mut block) {
                Ok(0) => break,
                Ok(read) if block.get(..read).is_some_and(is_zero) => {}
                Ok(_) => return Err(wrong("there is more behind its end")),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(broken(error)),
            }
        }
        match rest.limit() {
            0 => Err(wrong("there is more behind its end")),
            _ => Ok(unpacked),
        }
    }

    fn all<R: Read>(&mut self, members: &mut Members<'_, R>) -> Result<Unpacked> {
        let contents: Contents = members.expect(Name::Contents)?.document(MAX_DOCUMENT)?;
        contents.check()?;
        let mut snapshots: Vec<UnpackedSnapshot> = Vec::new();
        let mut found = End::default();
        for entry in &contents.snapshots {
            let (snapshot, upper) = self.snapshot(members, entry.digest, entry.name.clone())?;
            if let Some(last) = snapshots.last()
                && snapshot.sealed.parent() != Some(last.sealed.digest())
            {
                return Err(wrong("its snapshots do not come from one another"));
            }
            found
                .uppers
                .insert(entry.digest.to_string(), upper.to_string());
            snapshots.push(snapshot);
        }
        let mut member = members.some()?;
        if contents.image {
            let mut seen = BTreeSet::new();
            while let Name::Image(path) = member.name()? {
                if !seen.insert(path) {
                    return Err(wrong(format!("{path} is twice in its image")));
                }
                if seen.len() > self.limits.image_files {
                    return Err(wrong("its image has more files than any"));
                }
                let size = member.plain()?;
                (self.go_on)().map_err(broken)?;
                self.image.file(path, size, &mut member.data, self.go_on)?;
                member = members.some()?;
            }
        }
        if member.name()? != Name::End {
            return Err(wrong(format!("{} is not where it belongs", member.name()?)));
        }
        let end: End = member.document(MAX_DOCUMENT)?;
        match end.uppers == found.uppers {
            true => Ok(Unpacked {
                image: contents.image,
                snapshots,
            }),
            false => Err(wrong(
                "its disks are not what they were when it was written",
            )),
        }
    }

    /// One snapshot, and what its disk's contents came to.
    fn snapshot<R: Read>(
        &mut self,
        members: &mut Members<'_, R>,
        digest: Digest,
        name: String,
    ) -> Result<(UnpackedSnapshot, Digest)> {
        let bytes = members
            .expect(Name::Manifest(digest))?
            .bytes(MAX_MANIFEST)?;
        if Digest::of(&bytes) != digest {
            return Err(wrong(format!(
                "the manifest of the snapshot {name:?} was changed"
            )));
        }
        let sealed = Sealed::parse(&bytes).map_err(|source| SnapshotError::Manifest {
            path: name.clone().into(),
            source,
        })?;
        let staging = Staging::begin(self.parent)?;
        let upper = self.upper(members.expect(Name::Upper(digest))?, &sealed, &staging)?;
        if let Some(recorded) = &sealed.manifest().upper.integrity
            && recorded.algorithm == ALGORITHM
            && recorded.digest != upper.to_string()
        {
            return Err(wrong(format!(
                "the disk of the snapshot {name:?} was changed"
            )));
        }
        if let Some(patch) = &sealed.manifest().patch {
            let files = staging.patch()?;
            let index = members.expect(Name::PatchIndex(digest))?;
            self.patch(index, &files.index, &patch.index)?;
            let data = members.expect(Name::PatchData(digest))?;
            self.patch(data, &files.data, &patch.data)?;
        }
        let snapshot = UnpackedSnapshot {
            name,
            sealed,
            staging,
        };
        Ok((snapshot, upper))
    }

    /// A disk: only what is data is in the archive, and only what is not zeros is written.
    fn upper<R: Read>(
        &mut self,
        mut member: Member<'_, R>,
        sealed: &Sealed,
        staging: &Staging,
    ) -> Result<Digest> {
        let size = sealed.manifest().upper.size_bytes;
        let length = member.length;
        if member.sparse != Some(size) {
            return Err(wrong(
                "a disk in it has another size than its manifest says",
            ));
        }
        let extents = read_map(&mut member.data, length, size, self.limits.extents)?;
        self.take(extents.iter().map(|extent| extent.end - extent.start).sum())?;
        let file = staging.upper()?;
        let io = || SnapshotError::io(staging.path());
        file.set_len(size).map_err(io())?;
        let mut hasher = SparseHasher::new(size);
        let mut chunk = vec![0; CHUNK];
        for extent in extents {
            let mut at = extent.start;
            while at < extent.end {
                (self.go_on)().map_err(io())?;
                let length = usize::try_from(extent.end - at).unwrap_or(CHUNK).min(CHUNK);
                let Some(room) = chunk.get_mut(..length) else {
                    break;
                };
                member.data.read_exact(room).map_err(broken)?;
                hasher.update(at, room);
                write_data(&file, at, room).map_err(io())?;
                at += length as u64;
            }
        }
        Ok(hasher.finish())
    }

    fn patch<R: Read>(
        &mut self,
        mut member: Member<'_, R>,
        file: &File,
        said: &PatchFile,
    ) -> Result<()> {
        if member.plain()? != said.size_bytes {
            return Err(wrong(
                "a patch layer in it has another size than its manifest says",
            ));
        }
        self.take(said.size_bytes)?;
        let io = || SnapshotError::io(self.parent);
        let mut hasher = Sha256::new();
        let mut chunk = vec![0; CHUNK];
        let mut at = 0;
        while at < said.size_bytes {
            (self.go_on)().map_err(io())?;
            let left = said.size_bytes - at;
            let length = usize::try_from(left).unwrap_or(CHUNK).min(CHUNK);
            let Some(room) = chunk.get_mut(..length) else {
                break;
            };
            member.data.read_exact(room).map_err(broken)?;
            hasher.update(&*room);
            file.write_all_at(room, at).map_err(io())?;
            at += length as u64;
        }
        match Digest::from_hasher(hasher).to_string() == said.digest {
            true => Ok(()),
            false => Err(wrong("a patch layer in it was changed")),
        }
    }

    /// Accounts for data before it is written: against the limit, and against what the disk has left.
    fn take(&mut self, bytes: u64) -> Result<()> {
        self.data = self.data.saturating_add(bytes);
        if self.data > self.limits.data_bytes {
            return Err(wrong(format!(
                "it has more than {} bytes of data",
                self.limits.data_bytes
            )));
        }
        let space = rustix::fs::statvfs(self.parent)
            .map_err(|error| SnapshotError::io(self.parent)(error.into()))?;
        let left = space.f_bavail.saturating_mul(space.f_frsize);
        match bytes > left {
            true => Err(SnapshotError::io(self.parent)(io::Error::new(
                io::ErrorKind::StorageFull,
                format!("a disk in the archive has {bytes} bytes of data, and {left} are free"),
            ))),
            false => Ok(()),
        }
    }
}

/// Writes what is not zeros, block by block, and joins blocks where it can.
fn write_data(file: &File, at: u64, bytes: &[u8]) -> io::Result<()> {
    let mut run = 0..0;
    for (index, piece) in bytes.chunks(BLOCK_LEN).enumerate() {
        let start = index * BLOCK_LEN;
        if is_zero(piece) {
            write_run(file, at, bytes, &run)?;
            run = start + piece.len()..start + piece.len();
        } else {
            run.end = start + piece.len();
        }
    }
    write_run(file, at, bytes, &run)
}

fn write_run(file: &File, at: u64, bytes: &[u8], run: &std::ops::Range<usize>) -> io::Result<()> {
    match bytes.get(run.clone()) {
        Some(data) if !data.is_empty() => file.write_all_at(data, at + run.start as u64),
        _ => Ok(()),
    }
}
