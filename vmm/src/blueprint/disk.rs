//! From a disk as it is described to one that can be served: opened, locked, and its parts measured.
//!
//! A disk that is all of one file is the machine's own unless it is read-only. One that is put together from
//! stretches of files is read-only always; each file is opened and locked once, however many stretches
//! of it there are, and each stretch must lie within its file as that is now.

use std::fs::File;
use std::sync::Arc;

use msb_vmapi::{DiskConfig, DiskContent, DiskExtent, Source};
use vmm_virtio::block::{Backing, Block, BlockOptions, Extent, size};

use super::files::Files;
use super::{BlueprintError, lock};

/// Most extents of one disk: an image has at most 200 layers, and few parts of its own.
pub const MAX_EXTENTS: usize = 256;

/// What offsets and lengths are multiples of.
const SECTOR: u64 = 512;
/// And where the disk is mapped.
const PAGE: u64 = vmm_virtio::window::WINDOW_PAGE;

/// A file of which stretches are parts of disks.
#[derive(Clone)]
pub(super) struct Part {
    file: Arc<File>,
    /// For messages.
    name: String,
    /// Its bytes.
    size: u64,
}

pub(super) fn open(files: &mut Files, disk: DiskConfig) -> Result<Block, BlueprintError> {
    let options = BlockOptions {
        read_only: disk.read_only,
        id: disk.id.unwrap_or_default(),
    };
    match disk.content {
        DiskContent::Whole(source) => {
            let (file, name) = files.disk(source, disk.read_only)?;
            lock::lock(&file, disk.read_only).map_err(|error| lock::explain(error, &name))?;
            Block::new(file, options).map_err(|source| BlueprintError::Disk { name, source })
        }
        DiskContent::Extents(extents) if disk.read_only => {
            let name = format!("the disk of {} extents", extents.len());
            put_together(files, extents, SECTOR)?
                .and_then(|backing| Block::with_backing(backing, options))
                .map_err(|source| BlueprintError::Disk { name, source })
        }
        DiskContent::Extents(_) => Err(BlueprintError::ExtentsWritable),
    }
}

/// What is to be mapped: opened and locked as what several machines read, and made of whole pages.
pub(super) fn open_mapped(
    files: &mut Files,
    content: DiskContent,
) -> Result<Backing, BlueprintError> {
    let (name, backing) = match content {
        DiskContent::Whole(source) => {
            let Part { file, name, size } = files.part(source)?;
            if !size.is_multiple_of(PAGE) {
                return Err(BlueprintError::MappedUnaligned { name, bytes: size });
            }
            let extent = Extent {
                file,
                offset: 0,
                len: size,
            };
            (name, Backing::extents(vec![extent]))
        }
        DiskContent::Extents(extents) => {
            let name = format!("the mapped disk of {} extents", extents.len());
            (name, put_together(files, extents, PAGE)?)
        }
    };
    backing.map_err(|source| BlueprintError::Disk { name, source })
}

/// The extents as one disk; they begin and end at multiples of `unit`. The inner error is about all of them.
fn put_together(
    files: &mut Files,
    extents: Vec<DiskExtent>,
    unit: u64,
) -> Result<Result<Backing, vmm_virtio::block::BlockError>, BlueprintError> {
    if extents.len() > MAX_EXTENTS {
        return Err(BlueprintError::TooManyExtents {
            given: extents.len(),
            max: MAX_EXTENTS,
        });
    }
    if extents.iter().all(|extent| extent.length == 0) {
        return Err(BlueprintError::ExtentsEmpty);
    }
    let extents = extents
        .into_iter()
        .enumerate()
        .map(|(index, extent)| measure(files, index, extent, unit))
        .collect::<Result<_, _>>()?;
    Ok(Backing::extents(extents))
}

/// Opens the file of an extent, unless that was done before, and sees that it has all of it.
fn measure(
    files: &mut Files,
    index: usize,
    extent: DiskExtent,
    unit: u64,
) -> Result<Extent, BlueprintError> {
    let DiskExtent {
        path,
        offset,
        length,
    } = extent;
    if !(offset | length).is_multiple_of(unit) {
        return Err(BlueprintError::ExtentUnaligned {
            index,
            offset,
            length,
            unit,
        });
    }
    let end = offset
        .checked_add(length)
        .ok_or(BlueprintError::ExtentOverflow { index })?;
    let part = files.part(path)?;
    if end > part.size {
        return Err(BlueprintError::ExtentBeyondEnd {
            index,
            name: part.name,
            end,
            size: part.size,
        });
    }
    Ok(Extent {
        file: part.file,
        offset,
        len: length,
    })
}

impl Part {
    /// Opens, measures, and locks what several machines may read.
    pub(super) fn open(files: &mut Files, source: Source) -> Result<Self, BlueprintError> {
        let (file, name) = files.disk(source, true)?;
        lock::lock(&file, true).map_err(|error| lock::explain(error, &name))?;
        match size(&file) {
            Ok(size) => Ok(Self {
                file: Arc::new(file),
                name,
                size,
            }),
            Err(source) => Err(BlueprintError::Disk { name, source }),
        }
    }
}
