//! Written by us, read by us.

use msb_image::erofs::{FileType, Joined, Part, Plan, Reader, WriteError};
use msb_image::limits::{BLOCK, Limits};
use msb_image::node::{Attributes, Device, Kind, Xattr};
use proptest::prelude::*;

use crate::model::{Any, Model, WHOLE, models, options};

const EVERYTHING: Any = Any {
    devices: true,
    extremes: true,
};

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, max_shrink_iters: 2000, ..ProptestConfig::default() })]

    #[test]
    fn a_disk_shows_the_tree_that_it_was_made_of(model in models(EVERYTHING)) {
        model.compare(&Reader::open(model.disk()).unwrap());
    }

    #[test]
    fn the_same_tree_gives_the_same_bytes(model in models(EVERYTHING)) {
        let again = Model { tree: model.tree.clone(), blobs: model.blobs.clone() };
        prop_assert!(model.metadata() == again.metadata());
    }
}

#[test]
fn an_empty_image_is_a_root() {
    let model = Model::new(0);
    let reader = Reader::open(model.disk()).unwrap();
    model.compare(&reader);
    let superblock = reader.superblock();
    assert_eq!(
        (superblock.root, superblock.inodes, superblock.blocks),
        (36, 1, 1)
    );
    assert_eq!(reader.root().unwrap().links, 2);
}

/// Names of 255 bytes fill blocks to within a few hundred bytes, those of one byte to the last: each
/// number of them ends the last block elsewhere, behind the inode or in a block of its own.
#[test]
fn directories_of_all_sizes_are_found_through() {
    for (length, counts) in [(255, 0..50), (100, 30..80), (3, 260..290)] {
        let mut model = Model::new(1);
        for count in counts {
            let kind = Kind::Directory;
            let directory = model.put(model.tree.root(), format!("{count}").as_bytes(), kind);
            for n in 0..count {
                model.put(directory, format!("{n:0length$}").as_bytes(), Kind::Fifo);
            }
        }
        model.compare(&Reader::open(model.disk()).unwrap());
    }
}

#[test]
fn hard_links_are_one_inode_and_directories_count_theirs() {
    let mut model = Model::new(1);
    let root = model.tree.root();
    let kind = model.data(0, b"one");
    let file = model.put(root, b"a", kind);
    let directory = model.put(root, b"d", Kind::Directory);
    model.tree.link(directory, b"b", file).unwrap();
    model.put(directory, b"e", Kind::Directory);
    model.put(directory, b"f", Kind::Directory);
    let reader = Reader::open(model.disk()).unwrap();
    let [a, b, d] = [&b"a"[..], b"d/b", b"d"].map(|path| reader.find(path).unwrap().unwrap());
    assert_eq!((a.nid, a.links, d.links), (b.nid, 2, 4));
    assert_eq!(reader.superblock().inodes, 5);
}

#[test]
fn what_is_asked_for_and_not_there_is_none() {
    let mut model = Model::new(0);
    model.put(model.tree.root(), b"f", Kind::Fifo);
    let reader = Reader::open(model.disk()).unwrap();
    for path in [&b"x"[..], b"f/x", b"x/y", b".", b"..", b"f/..", b"ff", b"e"] {
        assert!(reader.find(path).unwrap().is_none(), "{path:?}");
    }
    let root = reader.root().unwrap();
    assert_eq!(reader.find(b"/").unwrap().unwrap().nid, root.nid);
    assert!(reader.link(&root).is_err());
    let file = reader.find(b"f").unwrap().unwrap();
    assert_eq!(file.kind, FileType::Fifo);
    assert!(reader.entries(&file).is_err());
}

#[test]
fn a_read_begins_and_ends_anywhere() {
    let mut model = Model::new(1);
    let block = vec![7; WHOLE];
    let kind = model.sparse(0, &[None, Some(&block), None, Some(b"end")]);
    let Kind::File(file) = kind.clone() else {
        unreachable!()
    };
    model.put(model.tree.root(), b"f", kind);
    let whole = model.contents(&file);
    let reader = Reader::open(model.disk()).unwrap();
    let inode = reader.find(b"f").unwrap().unwrap();
    for from in (0..whole.len() + 3).step_by(509) {
        for len in [0, 1, 4095, 5000, 20_000] {
            let mut buf = vec![1; len];
            let read = reader.read(&inode, from as u64, &mut buf).unwrap();
            let end = (from + len).min(whole.len());
            assert_eq!(buf[..read], *whole.get(from..end).unwrap_or_default());
        }
    }
    assert_eq!(reader.read(&inode, u64::MAX, &mut [0]).unwrap(), 0);
}

#[test]
fn metadata_alone_has_all_but_contents() {
    let mut model = Model::new(1);
    let kind = model.data(0, b"far away");
    model.put(model.tree.root(), b"f", kind);
    let reader = Reader::open(model.metadata()).unwrap();
    reader.check(&Limits::default()).unwrap();
    let inode = reader.find(b"f").unwrap().unwrap();
    assert!(reader.read(&inode, 0, &mut [0; 8]).is_err());
    let model_parts = [model.metadata(), model.blobs[0].clone()];
    let whole = Reader::open(Joined::new(model_parts).unwrap()).unwrap();
    let mut bytes = [0; 8];
    whole.read(&inode, 0, &mut bytes).unwrap();
    assert_eq!(&bytes, b"far away");
}

#[test]
fn the_disk_is_the_metadata_and_the_blobs_that_have_something() {
    let mut model = Model::new(3);
    let kind = model.data(2, &[1; 5000]);
    model.put(model.tree.root(), b"f", kind);
    let plan = model.plan();
    let disk = plan.disk();
    let parts: Vec<_> = disk
        .extents
        .iter()
        .map(|one| (one.part, one.block, one.bytes))
        .collect();
    let expected = [
        (Part::Metadata, 0, BLOCK),
        (Part::Data { layer: 2 }, 1, 2 * BLOCK),
    ];
    assert_eq!(parts, expected);
    assert_eq!((disk.blocks, disk.inodes, disk.xattrs_left_out), (3, 2, 0));
    let reader = Reader::open(model.disk()).unwrap();
    assert_eq!(reader.superblock().blocks, 3);
}

#[test]
fn attributes_of_other_kinds_are_left_out_and_counted() {
    let xattr = |name: &str| Xattr {
        name: name.into(),
        value: b"v".to_vec(),
    };
    let attributes = Attributes {
        xattrs: [
            "btrfs.compression",
            "lustre.lov",
            "system.nfs4_acl",
            "user.",
            "user.kept",
        ]
        .map(xattr)
        .to_vec(),
        ..Attributes::default()
    };
    let mut model = Model::new(0);
    model.put_with(model.tree.root(), b"f", attributes, Kind::Fifo);
    assert_eq!(model.plan().disk().xattrs_left_out, 4);
    let reader = Reader::open(model.disk()).unwrap();
    let inode = reader.find(b"f").unwrap().unwrap();
    assert_eq!(reader.xattrs(&inode).unwrap(), [xattr("user.kept")]);
}

#[test]
fn what_many_inodes_have_is_written_once() {
    let attributes = Attributes {
        xattrs: vec![Xattr {
            name: b"security.selinux".to_vec(),
            value: vec![b'x'; 1000],
        }],
        ..Attributes::default()
    };
    let mut model = Model::new(0);
    for n in 0..1000 {
        model.put_with(
            model.tree.root(),
            format!("{n}").as_bytes(),
            attributes.clone(),
            Kind::Fifo,
        );
    }
    assert!(model.plan().disk().metadata_bytes() < 150_000);
    model.compare(&Reader::open(model.disk()).unwrap());
}

#[test]
fn there_is_a_limit_and_an_error_for_it() {
    let mut model = Model::new(1);
    let block = vec![7; WHOLE];
    let mut kind = model.sparse(0, &[None, Some(&block)]);
    if let Kind::File(file) = &mut kind {
        // A file of 2 EiB with one block in it, at an odd place, has a table of 2^49 addresses.
        file.content.size = 1 << 61;
    }
    model.put(model.tree.root(), b"f", kind);
    let error = Plan::new(&model.tree, &model.blob_sizes(), &options()).unwrap_err();
    assert!(
        matches!(error, WriteError::MetadataTooLarge { limit } if limit == 1 << 30),
        "{error}"
    );

    let mut small = options();
    small.max_metadata = 3 * BLOCK;
    let mut model = Model::new(0);
    for n in 0..70 {
        model.put(model.tree.root(), format!("{n:099}").as_bytes(), Kind::Fifo);
    }
    assert!(Plan::new(&model.tree, &[], &small).is_err());
    small.max_metadata = 5 * BLOCK;
    assert!(Plan::new(&model.tree, &[], &small).is_ok());
}

#[test]
fn a_tree_of_damaged_layers_is_refused() {
    type Spoil = fn(&mut Model);
    let spoils: [Spoil; 9] = [
        |model| {
            let kind = model.data(0, b"x");
            model.put(model.tree.root(), b"f", kind);
            model.blobs.clear();
        },
        |model| {
            let kind = model.data(0, b"x");
            model.put(model.tree.root(), b"f", kind);
            model.blobs[0].clear();
        },
        |model| {
            model.put(model.tree.root(), b"l", Kind::Symlink(Vec::new()));
        },
        |model| {
            model.put(model.tree.root(), b"l", Kind::Symlink(vec![b'x'; 4096]));
        },
        |model| {
            model.put(model.tree.root(), b"l", Kind::Symlink(b"a\0b".to_vec()));
        },
        |model| {
            let attributes = Attributes {
                mtime_nsec: 1_000_000_000,
                ..Attributes::default()
            };
            model.put_with(model.tree.root(), b"f", attributes, Kind::Fifo);
        },
        |model| {
            let attributes = Attributes {
                mode: 0o10_000,
                ..Attributes::default()
            };
            model.put_with(model.tree.root(), b"f", attributes, Kind::Fifo);
        },
        |model| {
            let device = Device {
                major: 1 << 12,
                minor: 0,
            };
            model.put(model.tree.root(), b"d", Kind::CharDevice(device));
        },
        |model| model.blobs[0].push(0),
    ];
    for (number, spoil) in spoils.into_iter().enumerate() {
        let mut model = Model::new(1);
        spoil(&mut model);
        let planned = Plan::new(&model.tree, &model.blob_sizes(), &options());
        assert!(
            matches!(planned, Err(WriteError::Damaged(_))),
            "{number}: {planned:?}"
        );
    }
}
