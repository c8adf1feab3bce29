//! Written by us, checked and extracted by `fsck.erofs`.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::Path;

use msb_image::node::{Attributes, Kind};
use msb_image::tree::Inode;
use proptest::prelude::*;
use proptest::test_runner::TestRunner;
use rustix::fs::{CWD, FileType as Type, Mode, makedev, mknodat};

use crate::model::{Any, Model, installed, models, run};

/// Whether this process may make devices and give files away.
fn is_root() -> bool {
    let dir = tempfile::tempdir().unwrap();
    let node = dir.path().join("null");
    rustix::process::geteuid().is_root()
        && mknodat(
            CWD,
            &node,
            Type::CharacterDevice,
            Mode::from(0o600),
            makedev(1, 3),
        )
        .is_ok()
}

#[test]
fn another_implementation_extracts_the_same_tree() {
    if !installed("fsck.erofs") {
        return;
    }
    let root = is_root();
    let any = Any {
        devices: root,
        extremes: false,
    };
    let mut runner = TestRunner::new(ProptestConfig {
        cases: 12,
        max_shrink_iters: 200,
        ..ProptestConfig::default()
    });
    runner
        .run(&models(any), |mut model| {
            if !root {
                make_private(&mut model);
            }
            extract(&model, root);
            Ok(())
        })
        .unwrap();
}

#[test]
fn another_implementation_extracts_what_is_special() {
    if !installed("fsck.erofs") {
        return;
    }
    let mut model = Model::new(2);
    let root = model.tree.root();
    let attributes = Attributes {
        mode: 0o640,
        mtime: 1_700_000_000,
        mtime_nsec: 123_456_789,
        ..Attributes::default()
    };
    let empty = model.data(0, b"");
    model.put_with(root, b"empty", attributes.clone(), empty);
    let large = model.data(1, &vec![5; 300_001]);
    model.put_with(root, b"large", attributes, large);
    model.put(root, b"short", Kind::Symlink(b"large".to_vec()));
    model.put(
        root,
        b"long",
        Kind::Symlink([&[b'a'; 255][..], b"/"].concat().repeat(15)),
    );
    let directory = model.put(root, b"many", Kind::Directory);
    for n in 0..500 {
        model.put(directory, format!("{n:050}").as_bytes(), Kind::Fifo);
    }
    make_private(&mut model);
    extract(&model, is_root());
}

/// Lets the owner do everything: whoever is not root must be able to look and to clean up.
fn make_private(model: &mut Model) {
    let ids: Vec<_> = model.tree.walk().map(|(_, id)| id).collect();
    for id in ids {
        let mut attributes = model.tree.inode(id).node.attributes.clone();
        attributes.mode |= 0o700;
        model.tree.set_attributes(id, attributes);
    }
}

fn extract(model: &Model, root: bool) {
    let dir = tempfile::tempdir().unwrap();
    let image = dir.path().join("disk");
    fs::write(&image, model.disk_bytes()).unwrap();
    run("fsck.erofs", &[], &[&image]);
    let out = dir.path().join("out");
    let keep = if root { "--preserve" } else { "--no-preserve" };
    run(
        "fsck.erofs",
        &[&format!("--extract={}", out.display()), keep],
        &[&image],
    );

    let mut names = 0;
    for (path, id) in model.tree.walk() {
        names += 1;
        let inode = model.tree.inode(id);
        let at = out.join(OsStr::from_bytes(&path));
        compare(model, inode, &at, root);
    }
    assert_eq!(count(&out), names);
}

fn compare(model: &Model, inode: &Inode, at: &Path, root: bool) {
    let found = fs::symlink_metadata(at).unwrap();
    let kind = found.file_type();
    let attributes = &inode.node.attributes;
    assert_eq!(
        (found.mtime(), found.mtime_nsec()),
        (attributes.mtime, attributes.mtime_nsec.into()),
        "{at:?}"
    );
    if root {
        assert_eq!(
            (found.uid(), found.gid()),
            (attributes.uid, attributes.gid),
            "{at:?}"
        );
        if !kind.is_symlink() {
            assert_eq!(found.mode() & 0o777, u32::from(attributes.mode), "{at:?}");
        }
    }
    let device = |device: &msb_image::node::Device| makedev(device.major, device.minor);
    match &inode.node.kind {
        Kind::File(file) => {
            assert!(kind.is_file(), "{at:?}");
            let whole = model.contents(file);
            let extracted = fs::read(at).unwrap();
            // erofs-utils 1.5 leaves holes out when it extracts; later ones do not.
            let same = extracted == whole || extracted == without_holes(model, file);
            assert!(same, "{at:?}");
        }
        Kind::Directory => assert!(kind.is_dir(), "{at:?}"),
        Kind::Symlink(target) => {
            assert_eq!(
                fs::read_link(at).unwrap().as_os_str().as_bytes(),
                target,
                "{at:?}"
            );
        }
        Kind::CharDevice(numbers) => {
            assert!(
                kind.is_char_device() && found.rdev() == device(numbers),
                "{at:?}"
            );
        }
        Kind::BlockDevice(numbers) => {
            assert!(
                kind.is_block_device() && found.rdev() == device(numbers),
                "{at:?}"
            );
        }
        Kind::Fifo => assert!(kind.is_fifo(), "{at:?}"),
        Kind::Socket => assert!(kind.is_socket(), "{at:?}"),
    }
}

fn without_holes(model: &Model, file: &msb_image::tree::FileContent) -> Vec<u8> {
    let whole = model.contents(file);
    let pieces: BTreeMap<_, _> = file
        .content
        .pieces
        .iter()
        .map(|piece| (piece.at, piece.len))
        .collect();
    let ranges = pieces
        .into_iter()
        .map(|(at, len)| usize::try_from(at).unwrap()..usize::try_from(at + len).unwrap());
    ranges.flat_map(|range| whole[range].to_vec()).collect()
}

/// Names in a directory and below, it included.
fn count(at: &Path) -> usize {
    let mut count = 0;
    let mut todo = vec![at.to_path_buf()];
    while let Some(path) = todo.pop() {
        count += 1;
        if fs::symlink_metadata(&path).unwrap().is_dir() {
            todo.extend(
                fs::read_dir(&path)
                    .unwrap()
                    .map(|entry| entry.unwrap().path()),
            );
        }
    }
    count
}
