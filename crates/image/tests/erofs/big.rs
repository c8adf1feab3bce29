//! Disks larger than 32 bits of bytes can say, by their numbers and as sparse files.

use std::fs::{self, File};
use std::os::unix::fs::FileExt;
use std::path::Path;

use msb_image::erofs::{Mapped, Options, Plan, Reader, WriteError};
use msb_image::limits::BLOCK;
use msb_image::node::{Attributes, Content, Kind, Node, Piece};
use msb_image::tree::{FileContent, Tree};

use crate::model::{installed, options, run};

const GIB: u64 = 1 << 30;

fn file(layer: usize, size: u64, pieces: &[(u64, u64, u64)]) -> Node<FileContent> {
    let pieces = pieces
        .iter()
        .map(|&(at, blob, len)| Piece { at, blob, len });
    Node {
        attributes: Attributes::default(),
        kind: Kind::File(FileContent {
            layer,
            content: Content {
                size,
                pieces: pieces.collect(),
            },
        }),
    }
}

fn metadata(tree: &Tree, blobs: &[u64]) -> Vec<u8> {
    let mut metadata = Vec::new();
    Plan::new(tree, blobs, &options())
        .unwrap()
        .write(&mut metadata)
        .unwrap();
    metadata
}

#[test]
fn addresses_reach_to_the_end_of_16_tib() {
    let most = (u64::from(u32::MAX) - 1) * BLOCK;
    let blobs = [3 * GIB, 5 * GIB, most - 8 * GIB - (16 << 20)];
    let last = blobs[2] - BLOCK;
    let mut tree = Tree::default();
    let root = tree.root();
    let layers = [
        (0, 2 * GIB + BLOCK, GIB - BLOCK),
        (1, 0, 5 * GIB),
        (1, 4 * GIB + BLOCK, 5000),
        (2, 0, 6 * GIB),
        (2, last, BLOCK),
    ];
    for (number, (layer, blob, len)) in layers.into_iter().enumerate() {
        let node = file(layer, len, &[(0, blob, len)]);
        tree.insert(root, format!("{number}").as_bytes(), node)
            .unwrap();
    }
    let pieces = [(0, last, BLOCK), (6 * GIB, 5 * GIB, BLOCK)];
    tree.insert(root, b"sparse", file(2, 7 * GIB, &pieces))
        .unwrap();
    let metadata = metadata(&tree, &blobs);
    let behind = metadata.len() as u64;
    assert!(behind > 7 * GIB / BLOCK * 4, "a table of 4 bytes a block");

    let reader = Reader::open(metadata.as_slice()).unwrap();
    let begins = [behind, behind + 3 * GIB, behind + 8 * GIB];
    for (number, (layer, blob, len)) in layers.into_iter().enumerate() {
        let inode = reader
            .find(format!("{number}").as_bytes())
            .unwrap()
            .unwrap();
        let at = Some(begins[layer] + blob);
        assert_eq!(reader.map(&inode, 0).unwrap(), Some(Mapped { at, len }));
        let offset = len - 1;
        let at = at.map(|at| at + offset);
        assert_eq!(
            reader.map(&inode, offset).unwrap(),
            Some(Mapped { at, len: 1 })
        );
    }
    let inode = reader.find(b"sparse").unwrap().unwrap();
    let at = |offset| reader.map(&inode, offset).unwrap().unwrap();
    assert_eq!(at(1).at, Some(begins[2] + last + 1));
    assert_eq!(at(6 * GIB).at, Some(begins[2] + 5 * GIB));
    assert_eq!(at(6 * GIB - 1), Mapped { at: None, len: 1 });
}

#[test]
fn more_than_16_tib_are_refused() {
    let most = (u64::from(u32::MAX) - 1) * BLOCK;
    let tree = Tree::default();
    let plan = |blobs: &[u64]| {
        Plan::new(&tree, blobs, &Options::new(options().id)).map(|plan| plan.disk().blocks)
    };
    assert_eq!(plan(&[most]).unwrap(), u32::MAX);
    for blobs in [
        &[most + BLOCK][..],
        &[most, BLOCK],
        &[u64::MAX - 4095, u64::MAX - 4095],
    ] {
        assert!(
            matches!(plan(blobs), Err(WriteError::DiskTooLarge)),
            "{blobs:?}"
        );
    }
}

/// Offsets in a data blob of 5 GiB at which there are bytes that say so.
const PLACES: [u64; 5] = [
    2 * GIB - BLOCK,
    2 * GIB,
    4 * GIB - BLOCK,
    4 * GIB,
    5 * GIB - BLOCK,
];

/// What is at a place.
fn mark(place: u64) -> String {
    format!("{place:020}")
}

/// Makes a disk with a file at each place, and one of two places.
pub(crate) fn sparse_disk(path: &Path) {
    let mut tree = Tree::default();
    let root = tree.root();
    for place in PLACES {
        let node = file(0, 20, &[(0, place, 20)]);
        tree.insert(root, place.to_string().as_bytes(), node)
            .unwrap();
    }
    let pieces = [(0, 4 * GIB, BLOCK), (BLOCK, 2 * GIB, 20)];
    let node = file(0, BLOCK + 20, &pieces);
    tree.insert(root, b"both", node).unwrap();
    let metadata = metadata(&tree, &[5 * GIB]);
    let behind = metadata.len() as u64;
    let disk = File::create(path).unwrap();
    disk.set_len(behind + 5 * GIB).unwrap();
    disk.write_all_at(&metadata, 0).unwrap();
    for place in PLACES {
        disk.write_all_at(mark(place).as_bytes(), behind + place)
            .unwrap();
    }
}

/// Looks for what [`sparse_disk`] has put there, by somebody's way of reading a file from an offset.
pub(crate) fn compare(read: impl Fn(&str, u64) -> Vec<u8>) {
    for place in PLACES {
        assert_eq!(read(&place.to_string(), 0), mark(place).as_bytes());
    }
    assert_eq!(read("both", 0)[..20], *mark(4 * GIB).as_bytes());
    assert_eq!(read("both", BLOCK), mark(2 * GIB).as_bytes());
}

#[test]
fn bytes_beyond_2_and_4_gib_are_the_right_ones() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("disk");
    sparse_disk(&path);
    let reader = Reader::open(File::open(&path).unwrap()).unwrap();
    compare(|name, offset| {
        let inode = reader.find(name.as_bytes()).unwrap().unwrap();
        let mut bytes = vec![0; usize::try_from(inode.size - offset).unwrap()];
        reader.read(&inode, offset, &mut bytes).unwrap();
        bytes
    });
    if !installed("fsck.erofs") {
        return;
    }
    let out = dir.path().join("out");
    run(
        "fsck.erofs",
        &[&format!("--extract={}", out.display())],
        &[&path],
    );
    compare(|name, offset| {
        let bytes = fs::read(out.join(name)).unwrap();
        bytes[usize::try_from(offset).unwrap()..].to_vec()
    });
}
