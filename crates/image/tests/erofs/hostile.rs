//! Disks that are broken, on purpose or by chance: errors, and an end.

use std::collections::HashSet;

use msb_image::erofs::{FileType, ReadError, Reader};
use msb_image::limits::Limits;
use msb_image::node::{Content, Kind};
use msb_image::tree::FileContent;
use proptest::collection::vec;
use proptest::prelude::*;

use crate::golden;
use crate::model::{Any, Model, models};

fn limits() -> Limits {
    Limits {
        tree_entries: 10_000,
        depth: 64,
        ..Limits::default()
    }
}

/// Reads all that can be reached, whatever it says.
fn devour(disk: &[u8]) {
    let Ok(reader) = Reader::open(disk) else {
        return;
    };
    let mut buf = vec![0; 10_000];
    for found in reader.walk(&limits()) {
        let Ok((path, inode)) = found else { break };
        let _ = reader.node(&inode);
        let _ = reader.read(&inode, 0, &mut buf);
        let _ = reader.read(&inode, inode.size / 2, &mut buf);
        let _ = reader.find(&path);
    }
    let _ = reader.check(&limits());
}

/// A disk whose checksum does not count.
fn unchecked(model: &Model) -> Vec<u8> {
    let mut disk = model.disk_bytes();
    disk[1024 + 8] &= !1;
    disk
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 100, max_shrink_iters: 500, ..ProptestConfig::default() })]

    #[test]
    fn a_few_wrong_bytes_do_no_harm(
        model in models(Any { devices: true, extremes: true }),
        changes in vec((any::<proptest::sample::Index>(), any::<u8>()), 1..20),
    ) {
        let mut disk = unchecked(&model);
        let metadata = model.metadata().len();
        for (at, byte) in changes {
            disk[at.index(metadata - 1024) + 1024] = byte;
        }
        devour(&disk);
    }

    #[test]
    fn a_disk_that_is_cut_short_does_no_harm(
        model in models(Any { devices: true, extremes: true }),
        at in any::<proptest::sample::Index>(),
    ) {
        let disk = model.disk_bytes();
        devour(&disk[..at.index(disk.len())]);
    }

    #[test]
    fn any_bytes_behind_a_superblock_do_no_harm(bytes in vec(any::<u8>(), 0..3000)) {
        let mut disk = unchecked(&Model::new(0))[..1152].to_vec();
        disk.extend_from_slice(&bytes);
        devour(&disk);
    }
}

#[test]
fn each_single_bit_of_a_disk_may_be_wrong() {
    let disk = unchecked(&golden::small());
    let end = golden::small().metadata().len();
    for at in 1024..end {
        // Zeros that belong to nothing and a link's text are most of it.
        if matches!(disk[at], 0 | b'x') && at % 7 != 0 {
            continue;
        }
        for bit in 0..8 {
            let mut wrong = disk.clone();
            wrong[at] ^= 1 << bit;
            devour(&wrong);
        }
    }
}

/// Where an inode with this path is on a disk.
fn place(disk: &[u8], path: &[u8]) -> usize {
    let reader = Reader::open(disk).unwrap();
    usize::try_from(reader.find(path).unwrap().unwrap().nid * 32).unwrap()
}

fn error(disk: &[u8]) -> ReadError {
    Reader::open(disk)
        .and_then(|reader| reader.check(&limits()))
        .unwrap_err()
}

fn says(disk: &[u8], what: &str) {
    let error = error(disk).to_string();
    assert!(error.contains(what), "{error}");
}

#[test]
fn a_directory_in_itself_is_found_out() {
    let mut model = Model::new(0);
    let directory = model.put(model.tree.root(), b"d", Kind::Directory);
    model.put(directory, b"e", Kind::Directory);
    let disk = unchecked(&model);
    let (root, at) = (place(&disk, b""), place(&disk, b"d"));
    // The third entry of "d", behind its inode, is "e".
    let entry = at + 64 + 2 * 12;
    for target in [root, at] {
        let mut circle = disk.clone();
        circle[entry..entry + 8].copy_from_slice(&(target as u64 / 32).to_le_bytes());
        says(&circle, "two names");
        let names: HashSet<_> = Reader::open(circle.as_slice())
            .unwrap()
            .walk(&limits())
            .map_while(|found| found.ok().map(|(path, _)| path))
            .collect();
        assert_eq!(names.len(), 2);
    }
}

#[test]
fn what_the_kernel_would_stumble_over_is_found() {
    let disk = unchecked(&golden::small());
    let spoil = |path: &[u8], at: usize, bytes: &[u8]| {
        let mut spoilt = disk.clone();
        let at = place(&disk, path) + at;
        spoilt[at..at + bytes.len()].copy_from_slice(bytes);
        spoilt
    };
    // The layout, in the format; the kind, in the mode; size; address; links; then what stands behind.
    says(&spoil(b"file", 0, &[3]), "compressed");
    says(&spoil(b"file", 0, &[11]), "layout 5");
    says(&spoil(b"file", 5, &[0]), "no kind");
    says(&spoil(b"file", 5, &[0x11]), "another kind");
    says(&spoil(b"file", 15, &[0x80]), "larger than files can be");
    says(&spoil(b"file", 16, &[0xff; 4]), "past the end");
    says(&spoil(b"file", 44, &[9]), "number of names");
    says(&spoil(b"dev", 44, &[3]), "number of names");
    says(&spoil(b"file", 43, &[0xff]), "a time that is none");
    says(&spoil(b"file", 2, &[0xff, 0xff]), "past the end");
    says(&spoil(b"file", 64 + 4, &[0xff]), "attributes make no sense");
    says(&spoil(b"sparse", 16, &[0x40]), "chunks of format");
    says(&spoil(b"link", 8, &[0xff, 0x0f]), "past its block");
    says(&spoil(b"link", 8, &[0]), "empty");
    says(&spoil(b"link", 64, &[0]), "a zero in it");
    says(&spoil(b"long", 9, &[0x10]), "too long");
    says(&spoil(b"dev", 64, &[0]), ". or ..");
    says(&spoil(b"dev", 64 + 12, &[0]), ". or ..");
    says(&spoil(b"dev", 64 + 8, &[13]), "entries make no sense");
    says(&spoil(b"dev", 64 + 10, &[1]), ". or ..");
    says(&spoil(b"dev", 64 + 24 + 10, &[8]), "entries make no sense");
    let names = 7 * 12;
    says(
        &spoil(b"dev", 64 + names + 3, b"/"),
        "entries make no sense",
    );
    says(&spoil(b"dev", 64 + names + 3, b"z"), "not in order");
    says(&spoil(b"dev", 64 + names, b"-"), "two names");
    says(&spoil(b"dev", 8, &[0]), "lacks");
}

#[test]
fn a_superblock_is_not_believed() {
    let disk = golden::small().disk_bytes();
    let spoil = |at: usize, byte: u8| {
        let mut spoilt = disk.clone();
        spoilt[1024 + at] = byte;
        spoilt
    };
    assert!(matches!(error(&spoil(0, 0)), ReadError::NotErofs));
    assert!(matches!(error(&disk[..1100]), ReadError::NotErofs));
    assert!(matches!(error(&[]), ReadError::NotErofs));
    assert!(matches!(error(&spoil(100, 1)), ReadError::Checksum));
    assert!(matches!(error(&spoil(1000, 1)), ReadError::Checksum));
    says(&spoil(12, 13), "blocks of 2^13 bytes");
    says(&spoil(12, 255), "blocks of");
    says(&spoil(90, 1), "blocks of");
    says(&spoil(80, 8 | 4), "features 0x8");
    let mut wrong = unchecked(&golden::small());
    wrong[1024 + 16] += 1;
    says(&wrong, "more or fewer inodes");
    wrong[1024 + 14] = 0xff;
    assert!(matches!(error(&wrong), ReadError::Damaged { .. }));
}

#[test]
fn limits_are_kept() {
    let mut model = Model::new(0);
    let mut at = model.tree.root();
    for _ in 0..70 {
        at = model.put(at, b"abc", Kind::Directory);
    }
    let disk = model.disk_bytes();
    says(&disk, "64 directories in one another");
    let check = |limits: Limits| {
        let reader = Reader::open(disk.as_slice()).unwrap();
        reader.check(&limits).unwrap_err().to_string()
    };
    let deep = Limits {
        depth: 100,
        ..limits()
    };
    assert!(
        check(Limits {
            tree_entries: 70,
            ..deep
        })
        .contains("70 files and directories")
    );
    assert!(
        check(Limits {
            path_bytes: 278,
            ..deep
        })
        .contains("278 bytes in a path")
    );
    let reader = Reader::open(disk.as_slice()).unwrap();
    assert_eq!(reader.check(&deep).unwrap().names, 71);
}

#[test]
fn a_hole_of_exbibytes_takes_no_time_and_no_memory() {
    let mut model = Model::new(1);
    let content = Content {
        size: i64::MAX.unsigned_abs(),
        pieces: Vec::new(),
    };
    model.put(
        model.tree.root(),
        b"hole",
        Kind::File(FileContent { layer: 0, content }),
    );
    let disk = model.disk_bytes();
    let reader = Reader::open(disk.as_slice()).unwrap();
    assert_eq!(
        reader.check(&limits()).unwrap().bytes,
        i64::MAX.unsigned_abs()
    );
    let inode = reader.find(b"hole").unwrap().unwrap();
    assert_eq!(inode.kind, FileType::File);
    let mut buf = [1; 100];
    assert_eq!(reader.read(&inode, inode.size - 50, &mut buf).unwrap(), 50);
    assert_eq!(buf[..50], [0; 50]);
}
