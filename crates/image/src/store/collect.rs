//! Removing: references, and what nothing refers to.
//!
//! What goes is found and renamed away while the store is locked exclusively, which takes a few system calls for
//! each thing. It is deleted afterwards. A program killed in between leaves a directory of work, which whoever
//! comes next deletes. An image goes with its record first, so it is never there without what it needs.

use std::collections::HashSet;
use std::fs;
use std::path::{Path, PathBuf};

use super::claim::Swept;
use super::error::{AtPath, StoreError};
use super::layout::{LOCK, PARTIAL};
use super::usage::{InUse, Live, Used};
use super::{Claim, Store, durable, space};
use crate::{Digest, Reference};

/// What was removed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Collected {
    /// References.
    pub references: u32,
    /// Images, each with its record.
    pub images: u32,
    /// Metadata disks of images.
    pub metadata: u32,
    /// Unpacked layers.
    pub layers: u32,
    /// Blobs: manifests, configurations and layers as they came.
    pub blobs: u32,
    /// Downloads that were cut short.
    pub partials: u32,
    /// Work of processes that are gone.
    pub works: u32,
    /// Bytes that all of it took on the disk.
    pub bytes: u64,
}

impl Collected {
    /// Things that were removed, references among them.
    pub fn total(&self) -> u32 {
        [
            self.references,
            self.images,
            self.metadata,
            self.layers,
            self.blobs,
            self.partials,
            self.works,
        ]
        .into_iter()
        .fold(0, u32::saturating_add)
    }
}

/// What may go, if nothing refers to it.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Scope {
    /// Layers.
    Layers,
    /// Everything.
    All,
    /// What one image consists of.
    Only(HashSet<Digest>),
}

impl Scope {
    fn has(&self, digest: &Digest) -> bool {
        match self {
            Self::Layers | Self::All => true,
            Self::Only(digests) => digests.contains(digest),
        }
    }
}

impl Store {
    /// Removes a reference, and its image with it when nothing else refers to that: no other reference, no
    /// sandbox, no snapshot, no claim.
    ///
    /// With `force` the reference goes although its image is in use. The image itself then stays, for whoever
    /// uses it, and goes with a [`collect`](Self::collect) after the last use. Its files are never removed
    /// from under a sandbox.
    ///
    /// # Errors
    ///
    /// [`ReferenceMissing`](StoreError::ReferenceMissing) when it means nothing here,
    /// [`InUse`](StoreError::InUse) when its image is in use and `force` is not set.
    pub fn remove(
        &self,
        reference: &Reference,
        force: bool,
        in_use: &dyn InUse,
    ) -> Result<Collected, StoreError> {
        let mut sweep = Sweep::new(self)?;
        let exclusive = self.exclusive()?;
        let path = self.ref_path(reference);
        let used = Used::look(self, in_use)?;
        let image = match self.reference(reference) {
            Ok(Some(record)) => Some(record.manifest_digest),
            Ok(None) => return Err(StoreError::ReferenceMissing(reference.to_string())),
            // What it meant is not known, and it goes all the same.
            Err(StoreError::Damaged { .. }) => None,
            Err(error) => return Err(error),
        };
        let is_used = image.is_some_and(|image| used.has_image(&image));
        if is_used && !force {
            return Err(StoreError::InUse(reference.to_string()));
        }
        let others = self.references()?.into_iter();
        let others = others.filter(|other| other.reference != reference.to_string());
        let live = match Live::of(self, &used, others.map(|other| other.manifest_digest)) {
            Ok(live) => Some(live),
            // Some other image is damaged, and may need parts of this one. They are for a collection, after that.
            Err(error @ StoreError::Damaged { .. }) => {
                tracing::warn!(%error, "what an image consisted of stays for now");
                None
            }
            Err(error) => return Err(error),
        };
        sweep.file(&path, |collected| &mut collected.references)?;
        durable::sync_dir(&self.layout.refs())?;
        if let (Some(image), Some(live), false) = (image, live, is_used) {
            sweep.unreferenced(&live, &Scope::Only(self.pieces(&image)))?;
        }
        drop(exclusive);
        Ok(sweep.collected)
    }

    /// Removes layers that no image has.
    ///
    /// # Errors
    ///
    /// [`InUseUnknown`](StoreError::InUseUnknown), [`Busy`](StoreError::Busy), and whatever reading the
    /// store meets.
    pub fn collect_layers(&self, in_use: &dyn InUse) -> Result<Collected, StoreError> {
        self.collect_scope(in_use, Scope::Layers, false)
    }

    /// Removes all that nothing refers to, and what was left of downloads that were cut short and of processes
    /// that were killed. References stay, and their images.
    ///
    /// # Errors
    ///
    /// As [`collect_layers`](Self::collect_layers).
    pub fn collect(&self, in_use: &dyn InUse) -> Result<Collected, StoreError> {
        self.collect_scope(in_use, Scope::All, false)
    }

    /// Removes the references to all images that are not in use, and then what [`collect`](Self::collect) does.
    ///
    /// # Errors
    ///
    /// As [`collect_layers`](Self::collect_layers).
    pub fn prune(&self, in_use: &dyn InUse) -> Result<Collected, StoreError> {
        self.collect_scope(in_use, Scope::All, true)
    }

    /// All that an image consists of; of one that is damaged, what is certain.
    fn pieces(&self, image: &Digest) -> HashSet<Digest> {
        let record = self.image(image).ok().flatten();
        let layers = record.iter().flat_map(|record| &record.layers);
        layers
            .flat_map(|layer| [layer.diff_id, layer.blob_digest])
            .chain(record.iter().map(|record| record.config_digest))
            .chain([*image])
            .collect()
    }

    fn collect_scope(
        &self,
        in_use: &dyn InUse,
        scope: Scope,
        untie: bool,
    ) -> Result<Collected, StoreError> {
        let mut sweep = Sweep::new(self)?;
        let exclusive = self.exclusive()?;
        let used = Used::look(self, in_use)?;
        let mut referenced = Vec::new();
        for (path, record) in self.all_references()? {
            let image = match record {
                Ok(record) => Some(record.manifest_digest),
                Err(StoreError::Damaged { .. }) => None,
                Err(error) => return Err(error),
            };
            match image {
                Some(image) if !untie || used.has_image(&image) => referenced.push(image),
                None if !untie => {}
                _ => sweep.file(&path, |collected| &mut collected.references)?,
            }
        }
        durable::sync_dir(&self.layout.refs())?;
        let live = Live::of(self, &used, referenced)?;
        sweep.unreferenced(&live, &scope)?;
        drop(exclusive);
        Ok(sweep.collected)
    }
}

/// A removal: what goes is renamed into the work of a claim, and deleted with it.
struct Sweep<'a> {
    store: &'a Store,
    bin: Claim,
    collected: Collected,
}

impl<'a> Sweep<'a> {
    fn new(store: &'a Store) -> Result<Self, StoreError> {
        let Swept { removed, bytes } = store.sweep_work()?;
        Ok(Self {
            store,
            bin: store.claim()?,
            collected: Collected {
                works: removed,
                bytes,
                ..Collected::default()
            },
        })
    }

    /// Removes all within `scope` that is not live.
    fn unreferenced(&mut self, live: &Live, scope: &Scope) -> Result<(), StoreError> {
        let layout = &self.store.layout;
        if *scope != Scope::Layers {
            // The records are gone for good before anything that they speak of.
            let goes = |digest: &Digest| scope.has(digest) && !live.images.contains(digest);
            self.all(&layout.meta(), ".json", goes, |all| &mut all.images)?;
            durable::sync_dir(&layout.meta())?;
            self.all(&layout.meta(), ".erofs", goes, |all| &mut all.metadata)?;
        }
        let goes = |digest: &Digest| scope.has(digest) && !live.layers.contains(digest);
        self.all(&layout.layers(), "", goes, |all| &mut all.layers)?;
        if *scope != Scope::Layers {
            let goes = |digest: &Digest| scope.has(digest) && !live.blobs.contains(digest);
            self.all(&layout.blobs(), "", goes, |all| &mut all.blobs)?;
        }
        if *scope == Scope::All {
            self.partials(live)?;
        }
        Ok(())
    }

    /// Has everything in a directory go that is called by a digest of which `goes` says so.
    fn all(
        &mut self,
        dir: &Path,
        ending: &str,
        goes: impl Fn(&Digest) -> bool,
        counter: impl Fn(&mut Collected) -> &mut u32 + Copy,
    ) -> Result<(), StoreError> {
        for (digest, path) in named(dir, ending)? {
            if goes(&digest) {
                self.file(&path, counter)?;
            }
        }
        Ok(())
    }

    /// What is here of downloads that nobody is at, and locks that nobody holds.
    fn partials(&mut self, live: &Live) -> Result<(), StoreError> {
        let tmp = self.store.layout.tmp();
        for (digest, path) in named(&tmp, PARTIAL)? {
            if !live.blobs.contains(&digest)
                && let Some(_lock) = self.store.own_download(&digest)?
            {
                self.file(&path, |collected| &mut collected.partials)?;
            }
        }
        for (digest, _) in named(&tmp, LOCK)? {
            // Dropping one that is ours removes it.
            self.store.own_download(&digest)?;
        }
        Ok(())
    }

    /// Has a file or directory go, if it is there.
    fn file(
        &mut self,
        path: &Path,
        counter: impl Fn(&mut Collected) -> &mut u32,
    ) -> Result<(), StoreError> {
        let Some(found) = durable::found(fs::symlink_metadata(path)).at(path)? else {
            return Ok(());
        };
        let bytes = match found.is_dir() {
            true => space::of_dir(path),
            false => space::on_disk(&found),
        };
        fs::rename(path, self.bin.scratch()).at(path)?;
        *counter(&mut self.collected) += 1;
        self.collected.bytes = self.collected.bytes.saturating_add(bytes);
        Ok(())
    }
}

/// What in a directory is called by a digest and this ending. All else there is not the store's.
fn named(dir: &Path, ending: &str) -> Result<Vec<(Digest, PathBuf)>, StoreError> {
    let mut found = Vec::new();
    for entry in fs::read_dir(dir).at(dir)? {
        let path = entry.at(dir)?.path();
        let name = path.file_name().and_then(|name| name.to_str());
        let hex = name.and_then(|name| name.strip_suffix(ending));
        if let Some(digest) = hex.and_then(|hex| format!("sha256:{hex}").parse().ok()) {
            found.push((digest, path));
        }
    }
    Ok(found)
}
