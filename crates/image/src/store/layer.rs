//! Layers: unpacked once, for all images that have them.
//!
//! A layer is a directory with its index, its data, and a note of what both were when they were made. It is made
//! in a directory of work and renamed as a whole.

use std::fs::{self, File};
use std::io::Read;
use std::ops::ControlFlow;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use super::error::{AtPath, StoreError};
use super::hashing::Hashing;
use super::stamp::{self, Compared, Noted};
use super::work::{GROWING, WorkDir};
use super::{Blob, Claim, Store, durable, record, space};
use crate::Digest;
use crate::layer::{self, Layer, LayerError, Progress};
use crate::limits::{BLOCK, Limits};

const INDEX: &str = "index";
const DATA: &str = GROWING;
const NOTE: &str = "noted.json";

/// Is told how far the unpacking of a layer is, and ends it by [`ControlFlow::Break`].
pub type UnpackProgress<'a> = dyn FnMut(Progress) -> ControlFlow<()> + 'a;

/// A layer that is in the store.
#[derive(Clone, Debug)]
pub struct StoredLayer {
    dir: PathBuf,
    note: LayerNote,
}

/// What its files were when they were made.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct LayerNote {
    diff_id: Digest,
    index: Noted,
    data: Noted,
}

impl StoredLayer {
    /// What is in it: the digest of its tar.
    pub fn diff_id(&self) -> &Digest {
        &self.note.diff_id
    }

    /// Bytes of its files, each rounded up to whole blocks.
    pub fn data_size(&self) -> u64 {
        self.note.data.size
    }

    /// Its changes, verified.
    pub(super) fn read_index(&self, limits: &Limits) -> Result<Layer, StoreError> {
        let path = self.dir.join(INDEX);
        let mut bytes = Vec::new();
        durable::open(&path)?
            .take(self.note.index.size)
            .read_to_end(&mut bytes)
            .at(&path)?;
        match Digest::of(&bytes) {
            found if found == self.note.index.digest => Layer::from_bytes(&bytes, limits)
                .map_err(|source| StoreError::index(self.note.diff_id, source)),
            found => Err(changed(path, &self.note.index, found)),
        }
    }

    /// Opens its data, if it is as it was when it was made.
    pub(super) fn open_data(&self, claim: &Claim) -> Result<File, StoreError> {
        let (file, data) = self.open(DATA, &self.note.data)?;
        self.renew(None, data, claim)?;
        Ok(file)
    }

    /// Checks that both its files are as they were.
    fn check(&self, claim: &Claim) -> Result<(), StoreError> {
        let (_, index) = self.open(INDEX, &self.note.index)?;
        let (_, data) = self.open(DATA, &self.note.data)?;
        self.renew(index, data, claim)
    }

    /// Opens one of its files, which must have the bytes it had; and says what to note of it, if that is new.
    fn open(&self, name: &str, noted: &Noted) -> Result<(File, Option<Noted>), StoreError> {
        let path = self.dir.join(name);
        let file = durable::open(&path)?;
        match noted.compare(&file).at(&path)? {
            Compared::Same => Ok((file, None)),
            Compared::Touched(now) => Ok((file, Some(now))),
            Compared::Changed(found) => Err(changed(path, noted, found)),
        }
    }

    fn renew(
        &self,
        index: Option<Noted>,
        data: Option<Noted>,
        claim: &Claim,
    ) -> Result<(), StoreError> {
        if index.is_none() && data.is_none() {
            return Ok(());
        }
        let note = LayerNote {
            diff_id: self.note.diff_id,
            index: index.unwrap_or_else(|| self.note.index.clone()),
            data: data.unwrap_or_else(|| self.note.data.clone()),
        };
        claim.write_record(&self.dir.join(NOTE), &note)
    }

    /// Hashes all of it again.
    pub(super) fn verify(&self) -> Result<(), StoreError> {
        for (name, noted) in [(INDEX, &self.note.index), (DATA, &self.note.data)] {
            let path = self.dir.join(name);
            let found = stamp::hash(&durable::open(&path)?).at(&path)?;
            if found != noted.digest {
                return Err(changed(path, noted, found));
            }
        }
        Ok(())
    }
}

fn changed(path: PathBuf, noted: &Noted, found: Digest) -> StoreError {
    StoreError::Integrity {
        path,
        expected: noted.digest,
        found,
    }
}

impl Store {
    /// The layer with this diff id, if it is here. Without a [`Claim`] on it, it may go at any time.
    ///
    /// # Errors
    ///
    /// [`Damaged`](StoreError::Damaged) when its note cannot be read.
    pub fn layer(&self, diff_id: &Digest) -> Result<Option<StoredLayer>, StoreError> {
        let dir = self.layout.layer(diff_id);
        let note: Option<LayerNote> = record::read(&dir.join(NOTE))?;
        let note =
            note.filter(|note| note.diff_id == *diff_id && note.data.size.is_multiple_of(BLOCK));
        Ok(note.map(|note| StoredLayer { dir, note }))
    }
}

impl Claim {
    /// Unpacks a layer, unless it is here and intact: its blob, which is in the store, is read once, and what its
    /// tar is must have the digest `diff_id`. If somebody else unpacks it, that is waited for. It stays from now on.
    /// `progress` is told how far it is, and may end it.
    ///
    /// # Errors
    ///
    /// [`BlobMissing`](StoreError::BlobMissing), [`WrongDigest`](StoreError::WrongDigest) when the tar is another,
    /// [`Layer`](StoreError::Layer) when it is none or asks for more than `limits`,
    /// [`SpaceMissing`](StoreError::SpaceMissing) and [`DiskFull`](StoreError::DiskFull): nothing of it is kept.
    pub fn unpack_layer(
        &self,
        blob: &Digest,
        diff_id: &Digest,
        limits: &Limits,
        progress: &mut UnpackProgress<'_>,
    ) -> Result<StoredLayer, StoreError> {
        self.keep(&[*blob, *diff_id])?;
        loop {
            if let Some(layer) = self.intact_layer(diff_id)? {
                return Ok(layer);
            }
            let Some(work) = self.store().begin_work(diff_id)? else {
                continue;
            };
            // It may have come between the look and the lock.
            if let Some(layer) = self.intact_layer(diff_id)? {
                return Ok(layer);
            }
            let blob = self
                .store()
                .blob(blob)?
                .ok_or(StoreError::BlobMissing(*blob))?;
            let note = self.unpack(&work, &blob, diff_id, limits, progress)?;
            return self.place(&work, note);
        }
    }

    /// The layer, if it is here and nobody has changed it. One that was changed is as good as none.
    pub(super) fn intact_layer(&self, diff_id: &Digest) -> Result<Option<StoredLayer>, StoreError> {
        let layer = match self.store().layer(diff_id) {
            Ok(Some(layer)) => layer,
            Ok(None) | Err(StoreError::Damaged { .. }) => return Ok(None),
            Err(error) => return Err(error),
        };
        match layer.check(self) {
            Ok(()) => Ok(Some(layer)),
            Err(error) if error.is_damage() => {
                tracing::warn!(%diff_id, %error, "a layer is damaged and is unpacked again");
                Ok(None)
            }
            Err(error) => Err(error),
        }
    }

    fn unpack(
        &self,
        work: &WorkDir,
        blob: &Blob,
        diff_id: &Digest,
        limits: &Limits,
        progress: &mut UnpackProgress<'_>,
    ) -> Result<LayerNote, StoreError> {
        // What is compressed does not become smaller.
        space::check(work.path(), blob.size())?;
        let path = work.join(DATA);
        let mut data = Hashing::new(durable::create(&path)?);
        let mut tar = Hashing::new(blob.open()?);
        let unpacked = match layer::unpack(&mut tar, &mut data, limits, progress) {
            Ok(unpacked) if unpacked.diff_id == *diff_id => unpacked,
            Ok(unpacked) => {
                self.check_blob(blob)?;
                return Err(StoreError::WrongDigest {
                    expected: *diff_id,
                    found: unpacked.diff_id,
                });
            }
            Err(source) => {
                if !matches!(source, LayerError::Write(_) | LayerError::Cancelled) {
                    self.check_blob(blob)?;
                }
                return Err(StoreError::layer(*diff_id, &path, source));
            }
        };
        let (data, digest) = data.into_parts();
        data.sync_all().at(&path)?;
        let data = Noted::new(digest, &data.metadata().at(&path)?);
        let encoded = unpacked.layer.to_bytes();
        let encoded = encoded.map_err(|source| StoreError::index(*diff_id, source))?;
        let path = work.join(INDEX);
        let index = durable::write_new(&path, &encoded)?;
        let index = Noted::new(Digest::of(&encoded), &index.metadata().at(&path)?);
        Ok(LayerNote {
            diff_id: *diff_id,
            index,
            data,
        })
    }

    /// Gives the layer its place. A damaged one that is there makes room.
    fn place(&self, work: &WorkDir, note: LayerNote) -> Result<StoredLayer, StoreError> {
        let path = work.join(NOTE);
        durable::write_new(&path, &record::to_bytes(&note, &path)?)?;
        durable::sync_dir(work.path())?;
        let dir = self.store().layout.layer(&note.diff_id);
        if durable::found(fs::symlink_metadata(&dir))
            .at(&dir)?
            .is_some()
        {
            // Nobody looks for it between the two renames.
            let _exclusive = self.store().exclusive()?;
            fs::rename(&dir, self.scratch()).at(&dir)?;
            durable::rename(work.path(), &dir)?;
        } else {
            durable::rename(work.path(), &dir)?;
        }
        Ok(StoredLayer { dir, note })
    }
}
