//! Sending snapshots elsewhere, in an archive, and receiving them.

use std::fs::{self, File};
use std::io::Read;
use std::path::Path;

use msb_image::Digest;
use msb_image::limits::Limits as ImageLimits;
use msb_image::snapshot::archive::{
    Contents, Entry, ImageFiles, ImagePath, Limits, MAX_SNAPSHOTS, StoreImages, UnpackedSnapshot,
    Writer, read,
};
use msb_image::snapshot::{GoOn, SnapshotDir, SnapshotError, sweep};
use msb_image::store::Store;

use super::outgoing::Outgoing;
use super::{Found, Snapshots, io_error};

/// What goes into an archive.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Export {
    /// The snapshots too that it comes from.
    pub with_parents: bool,
    /// The image too that it builds on.
    pub with_image: bool,
    /// Not compressed.
    pub plain_tar: bool,
}

/// The home's images, opened when the first of an archive arrives.
struct Arriving<'a> {
    home: &'a Snapshots,
    images: Option<StoreImages>,
}

impl ImageFiles for Arriving<'_> {
    fn file(
        &mut self,
        path: ImagePath,
        size: u64,
        contents: &mut dyn Read,
        go_on: GoOn<'_>,
    ) -> Result<(), SnapshotError> {
        let images = match &mut self.images {
            Some(images) => images,
            None => self.images.insert(self.home.images()?),
        };
        images.file(path, size, contents, go_on)
    }
}

impl Snapshots {
    /// Writes a snapshot into an archive, which appears whole or not at all in the place of any file of its name.
    pub fn export(
        &self,
        which: &str,
        out: &Path,
        export: Export,
        go_on: GoOn<'_>,
    ) -> Result<(), SnapshotError> {
        let snapshots = self.line(which, export.with_parents)?;
        let entry = |found: &Found| Entry {
            digest: found.dir.sealed().digest(),
            name: name_in_archive(found),
        };
        let contents = Contents::new(snapshots.iter().map(entry).collect(), export.with_image)?;
        let out = std::path::absolute(out).map_err(|source| io_error(out, source))?;
        let parent = out.parent().unwrap_or(Path::new("/"));
        let file = Outgoing::begin(parent).map_err(|source| io_error(parent, source))?;
        let io = |source| io_error(&out, source);
        let writing = file.file().try_clone().map_err(io)?;
        let mut writer = Writer::begin(writing, export.plain_tar, &contents)?;
        for found in &snapshots {
            writer.snapshot(&found.dir, go_on)?;
        }
        if export.with_image {
            let needed = snapshots
                .iter()
                .filter_map(|found| found.dir.sealed().image());
            self.images()?.send(&needed.collect(), &mut writer, go_on)?;
        }
        writer.finish()?.sync_all().map_err(io)?;
        file.place(&out).map_err(io)?;
        File::open(parent)
            .and_then(|parent| parent.sync_all())
            .map_err(io)
    }

    fn images(&self) -> Result<StoreImages, SnapshotError> {
        let store = Store::open(&self.home.join("images"));
        let store = store.map_err(|source| SnapshotError::Image {
            source: Box::new(source),
        })?;
        StoreImages::of(&store)
    }

    /// The snapshot, and before it those that it comes from if they are wanted, as far as they are here.
    fn line(&self, which: &str, with_parents: bool) -> Result<Vec<Found>, SnapshotError> {
        let mut line = vec![self.find(which)?];
        while with_parents && line.len() < MAX_SNAPSHOTS {
            let parent = line.last().and_then(|last| last.dir.sealed().parent());
            let found = match parent {
                Some(parent) => self.by_digest(&parent)?,
                None => None,
            };
            match found {
                Some(found) => line.push(found),
                None => break,
            }
        }
        line.reverse();
        Ok(line)
    }

    /// Unpacks an archive into `dest`, a directory of snapshots; the home's if not given. One that is there
    /// already is not made again; ancestors whose names are taken are called by their digests.
    ///
    /// Whatever is wrong with the archive, nothing of it is there then but what was there before.
    pub fn import(
        &self,
        archive: &Path,
        dest: Option<&Path>,
        go_on: GoOn<'_>,
    ) -> Result<Found, SnapshotError> {
        let dest = match dest {
            Some(dest) => std::path::absolute(dest).map_err(|source| io_error(dest, source))?,
            None => self.dir.clone(),
        };
        if dest == self.dir {
            self.make_dir()?;
        } else {
            fs::create_dir_all(&dest).map_err(|source| io_error(&dest, source))?;
        }
        sweep(&dest);
        let file = File::open(archive).map_err(|source| io_error(archive, source))?;
        // Held until the snapshots are in their places: then it is they who keep their images.
        let mut arriving = Arriving {
            home: self,
            images: None,
        };
        let unpacked = read(file, &dest, &Limits::default(), &mut arriving, go_on)?;
        if let Some(images) = &arriving.images {
            let pinned = unpacked.snapshots.iter();
            let pinned = pinned.filter_map(|snapshot| snapshot.sealed.image());
            images.complete(&pinned.collect(), &ImageLimits::default(), go_on)?;
        }
        let last = unpacked.snapshots.len().saturating_sub(1);
        let mut received = None;
        for (index, snapshot) in unpacked.snapshots.into_iter().enumerate() {
            let dir = place(snapshot, &dest, index == last)?;
            if dest != self.dir {
                self.signposts().add(&dir)?;
            }
            received = Some(Found {
                name: self.name_of(dir.path()),
                dir,
            });
        }
        received.ok_or_else(|| SnapshotError::Missing {
            path: archive.to_path_buf(),
        })
    }
}

/// What a snapshot is called in an archive: its name, or what its directory is called, or its digest.
fn name_in_archive(found: &Found) -> String {
    let dir = found.dir.path().file_name().and_then(|name| name.to_str());
    match found.name.as_deref().or(dir) {
        Some(name) if msb_types::validate_sandbox_name(name).is_ok() => name.to_owned(),
        _ => found.dir.sealed().digest().hex(),
    }
}

/// Puts one in its place, if it is not there already.
fn place(
    snapshot: UnpackedSnapshot,
    dest: &Path,
    asked_for: bool,
) -> Result<SnapshotDir, SnapshotError> {
    let digest = snapshot.sealed.digest();
    let mut target = dest.join(&snapshot.name);
    if let Some(there) = same(&target, &digest) {
        return Ok(there);
    }
    if !asked_for {
        // Elsewhere in this directory, or under a name that is surely its own.
        let found = super::list_dir(dest)?;
        if let Some(there) = found
            .into_iter()
            .find(|found| found.sealed().digest() == digest)
        {
            return Ok(there);
        }
        if fs::symlink_metadata(&target).is_ok() {
            target = dest.join(digest.hex());
        }
    }
    match snapshot.staging.complete(&snapshot.sealed, &target, false) {
        // Somebody else has received it just now.
        Err(SnapshotError::Exists { path }) => {
            same(&target, &digest).ok_or(SnapshotError::Exists { path })
        }
        placed => placed,
    }
}

/// The snapshot at this place, if it is whole and the one that is meant.
fn same(target: &Path, digest: &Digest) -> Option<SnapshotDir> {
    let there = SnapshotDir::open(target).ok()?;
    (there.sealed().digest() == *digest).then_some(there)
}
