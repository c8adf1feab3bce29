//! The disk as the block device shows it: the metadata, and behind it the data blobs.

use super::WriteError;
use crate::limits::BLOCK;

/// What is on a disk, and where.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Disk {
    /// Its parts, one behind the other from block 0 on, the metadata first. Data blobs that are empty are
    /// not among them.
    pub extents: Vec<Extent>,
    /// Size of all of it, in blocks of [`BLOCK`] bytes.
    pub blocks: u32,
    /// Files, directories and others, each counted once however many names it has.
    pub inodes: u64,
    /// Extended attributes that an EROFS cannot have, and this one therefore does not.
    pub xattrs_left_out: u64,
}

/// A part of a disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Extent {
    /// What is there.
    pub part: Part,
    /// Where it begins, in blocks of [`BLOCK`] bytes.
    pub block: u32,
    /// How long it is, in bytes: a multiple of [`BLOCK`].
    pub bytes: u64,
}

/// What a part of a disk is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Part {
    /// What [`Plan::write`](super::Plan::write) has written.
    Metadata,
    /// The data blob of a layer.
    Data {
        /// The layer's place in the image, from 0, the lowest.
        layer: usize,
    },
}

impl Disk {
    /// Size of the metadata in bytes.
    pub fn metadata_bytes(&self) -> u64 {
        self.extents.first().map_or(0, |metadata| metadata.bytes)
    }

    /// Size of all of it in bytes.
    pub fn bytes(&self) -> u64 {
        u64::from(self.blocks) * BLOCK
    }
}

/// Puts parts one behind the other. The last block that 32 bits can name stays unused: its number means
/// that there is none.
pub(super) fn layout(metadata: u64, data: &[u64]) -> Result<Disk, WriteError> {
    let parts = data
        .iter()
        .enumerate()
        .map(|(layer, bytes)| (Part::Data { layer }, *bytes));
    let mut disk = Disk::default();
    for (part, bytes) in std::iter::once((Part::Metadata, metadata)).chain(parts) {
        if bytes % BLOCK != 0 {
            return Err(WriteError::Damaged("a data blob ends within a block"));
        }
        if bytes == 0 {
            continue;
        }
        let block = disk.blocks;
        let blocks = u32::try_from(bytes / BLOCK).map_err(|_| WriteError::DiskTooLarge)?;
        disk.blocks = block.checked_add(blocks).ok_or(WriteError::DiskTooLarge)?;
        disk.extents.push(Extent { part, block, bytes });
    }
    Ok(disk)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_follow_one_another() {
        let disk = layout(2 * BLOCK, &[3 * BLOCK, 0, BLOCK]).unwrap();
        let places: Vec<_> = disk
            .extents
            .iter()
            .map(|one| (one.part, one.block, one.bytes))
            .collect();
        let expected = [
            (Part::Metadata, 0, 2 * BLOCK),
            (Part::Data { layer: 0 }, 2, 3 * BLOCK),
            (Part::Data { layer: 2 }, 5, BLOCK),
        ];
        assert_eq!(places, expected);
        assert_eq!((disk.blocks, disk.bytes()), (6, 6 * BLOCK));
    }

    #[test]
    fn sixteen_tebibytes_less_a_block_are_the_most() {
        let most = u64::from(u32::MAX) * BLOCK;
        assert_eq!(layout(BLOCK, &[most - BLOCK]).unwrap().blocks, u32::MAX);
        for data in [
            &[most][..],
            &[most - BLOCK, BLOCK],
            &[most + BLOCK],
            &[u64::MAX - 4095],
        ] {
            assert!(matches!(layout(BLOCK, data), Err(WriteError::DiskTooLarge)));
        }
        assert!(matches!(layout(BLOCK, &[1]), Err(WriteError::Damaged(_))));
    }
}
