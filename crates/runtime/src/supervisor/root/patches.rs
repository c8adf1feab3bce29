//! What patches change in an image, made once when a sandbox is created.
//!
//! | file of the sandbox | what |
//! | --- | --- |
//! | `patch/index` | the changes, as one more layer |
//! | `patch/data` | that layer's data: what is in the files that it brings |
//! | `patch/made.json` | of what the disk was made, and how long its parts are |
//! | `root.erofs` | metadata of the image with that layer over it |
//!
//! The sandbox's disk is `[root.erofs | data of the image's layers | patch/data]`: what the patches leave alone is
//! shared as ever. Starting the sandbox again needs neither the patches nor what they copied from the host.
//!
//! `root.erofs` says where each file is in the data of the image's layers. Should the store ever hold that
//! data in another order, as a later release might, the metadata of the image itself is another too;
//! then it is made anew from the index.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, BufWriter, Read, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use msb_image::Digest;
use msb_image::erofs::{Options, Plan, WriteError};
use msb_image::layer::Layer;
use msb_image::limits::Limits;
use msb_image::patch::{self, PatchError};
use msb_image::store::{DiskPart, OpenImage, Store};
use msb_image::tree::Tree;
use msb_runtime::boot::{BootError, BootErrorKind, BootStage};
use msb_runtime::chain::chain;
use msb_runtime::control::{HomeError, LaunchError};
use msb_runtime::durable;
use msb_runtime::registry::RegistryError;
use msb_types::Patch;
use serde::{Deserialize, Serialize};

use super::image;

const ROOT: &str = "root.erofs";
const INDEX: &str = "patch/index";
const DATA: &str = "patch/data";
const MADE: &str = "patch/made.json";

/// The longest index, in bytes. It has a hundred bytes or so for each file.
const MAX_INDEX: u64 = 1 << 30;
/// The longest `made.json`.
const MAX_MADE: u64 = 4096;

/// Of what the disk was made, and how long its parts are.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Made {
    /// The digest of the image's own metadata.
    image: Digest,
    /// The digest of the index.
    index: Digest,
    /// Bytes of `root.erofs`.
    root_bytes: u64,
    /// Bytes of `patch/data`.
    data_bytes: u64,
}

/// Why it could not be made.
#[derive(Debug, thiserror::Error)]
enum Failure {
    #[error(transparent)]
    Store(#[from] msb_image::store::StoreError),
    #[error(transparent)]
    Patch(#[from] PatchError),
    #[error("cannot use {}", path.display())]
    Io {
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    #[error("what the patches changed cannot be kept, or read again")]
    Index(#[from] msb_image::layer::IndexError),
    #[error("the patches do not fit into the image")]
    Tree(#[from] msb_image::tree::TreeError),
    #[error("no disk can be made of the image with its patches")]
    Disk(#[source] WriteError),
    #[error("{} is not what was made when the sandbox was created; create it anew", .0.display())]
    Damaged(PathBuf),
}

type Result<T, E = Failure> = std::result::Result<T, E>;

/// Makes the patches in `dir`, the directory of a sandbox that does not exist yet.
pub(super) fn make(
    store: &Store,
    image: &OpenImage,
    patches: &[Patch],
    dir: &Path,
) -> Result<(), LaunchError> {
    match patches.is_empty() {
        true => Ok(()),
        false => bake(store, image, patches, dir).map_err(launch_error),
    }
}

/// Makes the rest of patches whose layer was made for another sandbox, if there is one in `dir`: a snapshot
/// brought it.
pub(super) fn adopt(store: &Store, image: &OpenImage, dir: &Path) -> Result<(), LaunchError> {
    match fs::symlink_metadata(dir.join(INDEX)) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        _ => rebuild(store, image, dir).map_err(launch_error),
    }
}

/// Whether patches were made for the sandbox, whatever its configuration says of them.
pub(super) fn are_there(dir: &Path) -> Result<bool, BootError> {
    let path = dir.join(MADE);
    match fs::symlink_metadata(&path) {
        Ok(_) => Ok(true),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(error) => Err(boot_error(&at(&path)(error))),
    }
}

/// The disk of a sandbox whose patches were made.
pub(super) fn disk(
    store: &Store,
    image: OpenImage,
    dir: &Path,
) -> Result<Vec<DiskPart>, BootError> {
    parts(store, image, dir).map_err(|failure| boot_error(&failure))
}

fn bake(store: &Store, image: &OpenImage, patches: &[Patch], dir: &Path) -> Result<()> {
    let limits = Limits::default();
    let tree = store.image_tree(&image.record, &limits)?;
    let patch = dir.join("patch");
    DirBuilder::new()
        .mode(0o700)
        .create(&patch)
        .map_err(at(&patch))?;
    let path = dir.join(DATA);
    let data = create(&path)?;
    let layer = patch::layer(&tree, &blobs(image), patches, &data, &limits)?;
    data.set_len(layer.data_bytes)
        .and_then(|()| data.sync_all())
        .map_err(at(&path))?;
    let index = layer.to_bytes()?;
    write(&dir.join(INDEX), &index)?;
    complete(tree, image, &layer, Digest::of(&index), dir)
}

fn rebuild(store: &Store, image: &OpenImage, dir: &Path) -> Result<()> {
    let limits = Limits::default();
    let index = read(&dir.join(INDEX), MAX_INDEX)?;
    let layer = Layer::from_bytes(&index, &limits)?;
    let data = dir.join(DATA);
    let found = fs::metadata(&data).map_err(at(&data))?;
    if found.len() != layer.data_bytes {
        return Err(Failure::Damaged(data));
    }
    let tree = store.image_tree(&image.record, &limits)?;
    complete(tree, image, &layer, Digest::of(&index), dir)
}

/// Makes the metadata, and notes of what it was made.
fn complete(tree: Tree, image: &OpenImage, layer: &Layer, index: Digest, dir: &Path) -> Result<()> {
    let root_bytes = put_together(tree, image, layer, &index, &dir.join(ROOT))?;
    let made = Made {
        image: image.record.metadata_digest(),
        index,
        root_bytes,
        data_bytes: layer.data_bytes,
    };
    note(&made, dir)
}

/// Writes metadata of the image with the layer over it to `root`, and returns how many bytes it has.
fn put_together(
    mut tree: Tree,
    image: &OpenImage,
    layer: &Layer,
    index: &Digest,
    root: &Path,
) -> Result<u64> {
    let layers = &image.record.layers;
    tree.apply(layer, layers.len(), &Limits::default())?;

    let data: Vec<_> = layers
        .iter()
        .map(|layer| layer.data_size)
        .chain([layer.data_bytes])
        .collect();
    let id = format!("{} {index}", image.record.manifest_digest);
    let plan = Plan::new(&tree, &data, &Options::new(Digest::of(id.as_bytes())));
    let plan = plan.map_err(Failure::Disk)?;
    let mut out = BufWriter::new(create(root)?);
    plan.write(&mut out).map_err(|error| match error {
        WriteError::Io(source) => Failure::Io {
            path: root.to_path_buf(),
            source,
        },
        error => Failure::Disk(error),
    })?;
    let file = out.into_inner().map_err(|error| error.into_error());
    file.and_then(|file| file.sync_all()).map_err(at(root))?;
    Ok(plan.disk().metadata_bytes())
}

fn parts(store: &Store, image: OpenImage, dir: &Path) -> Result<Vec<DiskPart>> {
    let mut made: Made = {
        let bytes = read(&dir.join(MADE), MAX_MADE)?;
        serde_json::from_slice(&bytes).map_err(|_| Failure::Damaged(dir.join(MADE)))?
    };
    if made.image != image.record.metadata_digest() {
        made = make_anew(store, &image, made, dir)?;
    }
    let own = |name: &str, bytes| {
        let path = dir.join(name);
        let file = File::open(&path).map_err(at(&path))?;
        match file.metadata().map_err(at(&path))?.len() == bytes {
            true => Ok(DiskPart { file, len: bytes }),
            false => Err(Failure::Damaged(path)),
        }
    };
    let mut disk = vec![own(ROOT, made.root_bytes)?];
    // The image's own metadata is the first part of its disk.
    disk.extend(image.disk.into_iter().skip(1));
    if made.data_bytes > 0 {
        disk.push(own(DATA, made.data_bytes)?);
    }
    Ok(disk)
}

/// Makes `root.erofs` again, for the image's layers as they are stored now.
fn make_anew(store: &Store, image: &OpenImage, before: Made, dir: &Path) -> Result<Made> {
    let limits = Limits::default();
    let path = dir.join(INDEX);
    let index = read(&path, MAX_INDEX)?;
    if Digest::of(&index) != before.index {
        return Err(Failure::Damaged(path));
    }
    let layer = Layer::from_bytes(&index, &limits)?;
    if layer.data_bytes != before.data_bytes {
        return Err(Failure::Damaged(dir.join(DATA)));
    }
    let tree = store.image_tree(&image.record, &limits)?;
    let new = dir.join("root.new");
    // Left behind by a start that was cut short.
    let _ = fs::remove_file(&new);
    let root_bytes = put_together(tree, image, &layer, &before.index, &new)?;
    let made = Made {
        image: image.record.metadata_digest(),
        root_bytes,
        ..before
    };
    // Should this be cut short between the two renames, the lengths or the digest differ, and it is
    // made once more.
    let root = dir.join(ROOT);
    fs::rename(&new, &root).map_err(at(&root))?;
    note(&made, dir)?;
    durable::sync_dir(dir).map_err(at(dir))?;
    Ok(made)
}

/// The data of each layer of the image. One without data has no part of the disk; nothing is read of it.
fn blobs(image: &OpenImage) -> Vec<&File> {
    let mut parts = image.disk.iter().map(|part| &part.file);
    let Some(metadata) = parts.next() else {
        return Vec::new();
    };
    let layers = image.record.layers.iter();
    layers
        .map(|layer| match layer.data_size {
            0 => metadata,
            _ => parts.next().unwrap_or(metadata),
        })
        .collect()
}

fn note(made: &Made, dir: &Path) -> Result<()> {
    let path = dir.join(MADE);
    let patch = dir.join("patch");
    let mut file = tempfile::NamedTempFile::new_in(&patch).map_err(at(&patch))?;
    serde_json::to_writer(&mut file, made)
        .map_err(io::Error::from)
        .and_then(|()| durable::persist(file, &path))
        .map_err(at(&path))
}

/// A new file that its owner alone can read.
fn create(path: &Path) -> Result<File> {
    OpenOptions::new()
        .read(true)
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(path)
        .map_err(at(path))
}

fn write(path: &Path, bytes: &[u8]) -> Result<()> {
    let mut file = create(path)?;
    file.write_all(bytes)
        .and_then(|()| file.sync_all())
        .map_err(at(path))
}

fn read(path: &Path, most: u64) -> Result<Vec<u8>> {
    let mut bytes = Vec::new();
    File::open(path)
        .and_then(|file| file.take(most).read_to_end(&mut bytes))
        .map_err(at(path))?;
    Ok(bytes)
}

fn at(path: &Path) -> impl Fn(io::Error) -> Failure + use<'_> {
    |source| Failure::Io {
        path: path.to_path_buf(),
        source,
    }
}

/// A creation that failed. What the home could not take is the home's.
fn launch_error(failure: Failure) -> LaunchError {
    match failure {
        Failure::Io { path, source } => {
            LaunchError::Home(HomeError::from(RegistryError::Io { path, source }))
        }
        Failure::Patch(PatchError::Write(source)) => {
            let path = PathBuf::from(DATA);
            LaunchError::Home(HomeError::from(RegistryError::Io { path, source }))
        }
        failure => LaunchError::Boot(boot_error(&failure)),
    }
}

fn boot_error(failure: &Failure) -> BootError {
    let kind = match failure {
        Failure::Store(error) => return image::failed(error),
        Failure::Patch(PatchError::Blob(_)) | Failure::Damaged(_) => BootErrorKind::Image,
        Failure::Io { .. } => BootErrorKind::Host,
        _ => BootErrorKind::Patch,
    };
    BootError::new(BootStage::Supervisor, kind, chain(failure))
}
