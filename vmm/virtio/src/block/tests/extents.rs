//! Disks that are put together from stretches of files.

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::sync::Arc;

use proptest::prelude::*;
use virtio_bindings::virtio_blk::*;

use super::*;

/// Files of these that the disks of the property are made of, and their bytes.
const FILES: usize = 3;
const FILE_BYTES: usize = 16 << 10;

#[test]
fn extents_are_one_disk() {
    let (first, second) = (Arc::new(image()), Arc::new(image()));
    let extent = |file: &Arc<File>, offset, len| Extent {
        file: Arc::clone(file),
        offset,
        len,
    };
    let backing = Backing::extents(vec![
        extent(&first, 512, 1024),
        extent(&second, 512 * 100, 256),
        extent(&second, 0, 256),
    ])
    .unwrap();
    let device = Block::with_backing(backing, options(true)).unwrap();
    let mut driver = Driver::with(device, image());
    let (status, data) = driver.request(VIRTIO_BLK_T_IN, 0, &[], 1536, 100);
    assert_eq!(status, OK);
    assert!(data[..512].iter().all(|byte| *byte == 1));
    assert!(data[512..1024].iter().all(|byte| *byte == 2));
    assert!(data[1024..1280].iter().all(|byte| *byte == 100));
    assert!(data[1280..].iter().all(|byte| *byte == 0));
    assert_eq!(driver.request(VIRTIO_BLK_T_IN, 3, &[], 512, 0).0, IO_ERROR);
}

/// Most bytes of one request: what the driver's room for an answer holds.
const MAX_READ: u64 = 64 << 10;

fn files() -> Vec<(Arc<File>, Vec<u8>)> {
    let file = |seed: usize| {
        // No two places of a file look the same for long.
        let bytes: Vec<u8> = (0..FILE_BYTES)
            .map(|at| u8::try_from((at * 31 + at / 251 + seed * 97) % 256).unwrap())
            .collect();
        let file = tempfile::tempfile().unwrap();
        file.write_all_at(&bytes, 0).unwrap();
        (Arc::new(file), bytes)
    };
    (0..FILES).map(file).collect()
}

/// Stretches in sectors: which file, where, how long.
fn stretches() -> impl Strategy<Value = Vec<(usize, u64, u64)>> {
    let sectors = FILE_BYTES as u64 / 512;
    let stretch = (0..FILES, 0..sectors, 0..4u64)
        .prop_map(move |(file, at, len)| (file, at, len.min(sectors - at)));
    prop::collection::vec(stretch, 1..40)
}

proptest! {
    #[test]
    fn any_read_gives_what_the_parts_have_one_after_the_other(
        parts in stretches(),
        from in any::<prop::sample::Index>(),
        sectors in 1..64u64,
        cut in 0..2000u32,
    ) {
        let files = files();
        let mut whole = Vec::new();
        let mut extents = Vec::new();
        for (file, at, len) in parts {
            let (file, bytes) = &files[file];
            let (offset, len) = (at * 512, len * 512);
            let (start, end) = (usize::try_from(offset).unwrap(), usize::try_from(offset + len).unwrap());
            whole.extend_from_slice(&bytes[start..end]);
            extents.push(Extent { file: Arc::clone(file), offset, len });
        }
        if whole.is_empty() {
            prop_assert!(matches!(Backing::extents(extents), Err(BlockError::Empty)));
            return Ok(());
        }
        let backing = Backing::extents(extents).unwrap();
        let disk = whole.len() as u64 / 512;
        prop_assert_eq!(backing.sectors(), disk);
        let device = Block::with_backing(backing, options(true)).unwrap();
        let mut driver = Driver::with(device, tempfile::tempfile().unwrap());
        let from = from.index(usize::try_from(disk).unwrap()) as u64;
        let sectors = sectors.min(disk - from).min(MAX_READ / 512);
        let bytes = u32::try_from(sectors * 512).unwrap();
        let (status, data) = driver.request(VIRTIO_BLK_T_IN, from, &[], bytes, cut);
        prop_assert_eq!(status, OK);
        let start = usize::try_from(from * 512).unwrap();
        prop_assert_eq!(&data[..], &whole[start..start + bytes as usize]);
        // And nothing is read past the end.
        prop_assert_eq!(driver.request(VIRTIO_BLK_T_IN, disk, &[], 512, 0).0, IO_ERROR);
    }
}

#[test]
fn a_disk_of_many_parts_is_read_to_its_end() {
    let file = Arc::new(image());
    let part = |n: u64| Extent {
        file: Arc::clone(&file),
        offset: (n % SECTORS) * 512,
        len: 512,
    };
    let backing = Backing::extents((0..250).map(part).collect()).unwrap();
    let device = Block::with_backing(backing, options(true)).unwrap();
    let mut driver = Driver::with(device, image());
    let (status, data) = driver.request(VIRTIO_BLK_T_IN, 0, &[], 250 * 512, 0);
    assert_eq!(status, OK);
    for (sector, bytes) in data.chunks(512).enumerate() {
        let expected = u8::try_from(sector as u64 % SECTORS).unwrap();
        assert!(bytes.iter().all(|byte| *byte == expected), "{sector}");
    }
}

#[test]
fn a_part_that_its_file_lost_is_an_error_and_the_others_are_read() {
    let file = image();
    let extent = |file: &Arc<File>, offset| Extent {
        file: Arc::clone(file),
        offset,
        len: 512,
    };
    let (short, good) = (Arc::new(file.try_clone().unwrap()), Arc::new(image()));
    let backing = Backing::extents(vec![extent(&short, 1024), extent(&good, 512)]).unwrap();
    let device = Block::with_backing(backing, options(true)).unwrap();
    let mut driver = Driver::with(device, image());
    file.set_len(600).unwrap();
    assert_eq!(driver.request(VIRTIO_BLK_T_IN, 0, &[], 512, 0).0, IO_ERROR);
    assert_eq!(driver.request(VIRTIO_BLK_T_IN, 1, &[], 512, 0).0, OK);
}

#[test]
fn sizes_that_no_disk_has_are_refused() {
    let file = Arc::new(image());
    let extent = |len| Extent {
        file: Arc::clone(&file),
        offset: 0,
        len,
    };
    for (lens, says) in [
        (vec![], "empty"),
        (vec![0, 0], "empty"),
        (vec![512, 100], "612"),
        (vec![u64::MAX, u64::MAX], "larger"),
        (vec![1 << 62, 1 << 62], "larger"),
    ] {
        let extents = lens.iter().copied().map(extent).collect();
        let error = Backing::extents(extents).unwrap_err().to_string();
        assert!(error.contains(says), "{lens:?}: {error}");
    }
}

#[test]
fn a_flush_of_what_is_only_read_is_done() {
    let mut driver = Driver::new(true);
    assert_eq!(driver.request(VIRTIO_BLK_T_FLUSH, 0, &[], 0, 0).0, OK);
}
