//! Unpacking by example: archives as other programs write them, and such as nobody should.

mod build;
mod hostile;
mod index;
mod sparse;

use std::io::{Read, Write};
use std::ops::ControlFlow;

use tar::EntryType;

use self::build::{Archive, kinds};
use super::*;
use crate::digest::Digest;
use crate::limits::Limits;
use crate::node::{Attributes, Device, Kind, Xattr};

/// Unpacks, with the data blob beside it.
fn unpack_with(bytes: &[u8], limits: &Limits) -> Result<(Unpacked, Vec<u8>), LayerError> {
    let mut data = Vec::new();
    let unpacked = unpack(bytes, &mut data, limits, &mut |_| ControlFlow::Continue(()))?;
    assert_eq!(data.len() as u64, unpacked.layer.data_bytes);
    unpacked.layer.check(limits).unwrap();
    Ok((unpacked, data))
}

#[track_caller]
fn unpacked(bytes: &[u8]) -> (Layer, Vec<u8>) {
    let (unpacked, data) = unpack_with(bytes, &Limits::default()).unwrap();
    assert_eq!(unpacked.diff_id, Digest::of(bytes));
    (unpacked.layer, data)
}

/// The bytes of a file.
fn bytes_of(content: &Content, data: &[u8]) -> Vec<u8> {
    let place = |number: u64| usize::try_from(number).unwrap();
    let mut bytes = vec![0; place(content.size)];
    for piece in &content.pieces {
        let (at, blob, len) = (place(piece.at), place(piece.blob), place(piece.len));
        bytes[at..at + len].copy_from_slice(&data[blob..blob + len]);
    }
    bytes
}

/// The bytes of the file that a layer puts at a path.
#[track_caller]
fn file_at(layer: &Layer, data: &[u8], path: &str) -> Vec<u8> {
    match &put_at(layer, path).kind {
        Kind::File(content) => bytes_of(content, data),
        other => panic!("{path} is {other:?}"),
    }
}

#[track_caller]
fn put_at<'a>(layer: &'a Layer, path: &str) -> &'a Node<Content> {
    let mut changes = layer.changes.iter();
    let found = changes.find(|change| change.path == path.as_bytes());
    match &found.unwrap_or_else(|| panic!("no {path}")).action {
        Action::Put(node) => node,
        other => panic!("{path} is {other:?}"),
    }
}

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

#[test]
fn every_kind_of_entry_is_unpacked() {
    let mut archive = Archive::default();
    archive.entry("./", EntryType::Directory, b"");
    archive.entry("dir/", EntryType::Directory, b"");
    archive.entry("dir/file", EntryType::Regular, b"hello");
    archive.link("hard", EntryType::Link, "./dir/file");
    archive.link("soft", EntryType::Symlink, "../somewhere/./else");
    archive.device("null", EntryType::Char, 1, 3);
    archive.device("sda", EntryType::Block, 8, 0);
    archive.entry("pipe", EntryType::Fifo, b"");
    archive.entry("/dir/.wh.gone", EntryType::Regular, b"");
    archive.entry("dir/.wh..wh..opq", EntryType::Regular, b"");
    archive.entry("old", EntryType::Continuous, b"cont");
    let (layer, data) = unpacked(&archive.end());
    assert_eq!(
        kinds(&layer),
        [
            " directory",
            "dir directory",
            "dir/file 5 bytes",
            "hard = dir/file",
            "soft -> ../somewhere/./else",
            "null char 1:3",
            "sda block 8:0",
            "pipe fifo",
            "dir/gone gone",
            "dir opaque",
            "old 4 bytes",
        ]
    );
    assert_eq!(file_at(&layer, &data, "dir/file"), b"hello");
    assert_eq!(put_at(&layer, "dir/file").attributes.mode, 0o644);
    assert_eq!(put_at(&layer, "soft").attributes.mode, 0o777);
    assert_eq!(data.len(), 8192);
}

#[test]
fn a_headers_fields_are_all_kept() {
    let mut archive = Archive::default();
    archive.with(|header| {
        header.set_mode(0o104_755);
        header.set_uid(1000);
        header.set_gid(u64::from(u32::MAX) - 1);
        header.set_mtime(1_700_000_000);
    });
    archive.entry("a", EntryType::Regular, b"");
    archive.with(|header| header.as_old_mut().mtime = [0xff; 12]);
    archive.entry("b", EntryType::Regular, b"");
    let (layer, _) = unpacked(&archive.end());
    let expected = Attributes {
        mode: 0o4755,
        uid: 1000,
        gid: u32::MAX - 1,
        mtime: 1_700_000_000,
        mtime_nsec: 0,
        xattrs: Vec::new(),
    };
    assert_eq!(put_at(&layer, "a").attributes, expected);
    assert_eq!(put_at(&layer, "b").attributes.mtime, -1);
}

#[test]
fn records_replace_fields() {
    let long = format!("{}/{}", "d".repeat(200), "f".repeat(200));
    let mut archive = Archive::default();
    archive.records(&[
        ("path", long.as_bytes()),
        ("uid", b"3000000"),
        ("gid", b"4000000"),
        ("mtime", b"-1.25"),
        ("size", b"3"),
        ("SCHILY.xattr.user.b", b"two"),
        ("SCHILY.xattr.security.capability", b"\x01\0\n=\n\xff"),
        ("SCHILY.xattr.trusted.overlay.opaque", b"y"),
        ("SCHILY.xattr.user.overlay.redirect", b"/etc"),
        ("comment", b"whatever"),
    ]);
    archive.with(|header| header.set_size(0));
    archive.raw("short", EntryType::Regular, b"abc");
    archive.records(&[("linkpath", long.as_bytes()), ("path", b"")]);
    archive.link("hard", EntryType::Link, "short");
    // What follows has no records of its own.
    archive.entry("plain", EntryType::Regular, b"x");
    let (layer, data) = unpacked(&archive.end());
    let node = put_at(&layer, &long);
    let attributes = &node.attributes;
    assert_eq!((attributes.uid, attributes.gid), (3_000_000, 4_000_000));
    assert_eq!((attributes.mtime, attributes.mtime_nsec), (-2, 750_000_000));
    let xattr = |name: &str, value: &[u8]| Xattr {
        name: name.into(),
        value: value.to_vec(),
    };
    assert_eq!(
        attributes.xattrs,
        [
            xattr("security.capability", b"\x01\0\n=\n\xff"),
            xattr("user.b", b"two")
        ]
    );
    assert_eq!(file_at(&layer, &data, &long), b"abc");
    assert_eq!(kinds(&layer)[1], format!("hard = {long}"));
    assert_eq!(file_at(&layer, &data, "plain"), b"x");
    assert_eq!(put_at(&layer, "plain").attributes.uid, 0);
}

#[test]
fn long_names_of_gnu_replace_those_in_headers() {
    let name = format!("{}\u{e4}", "n/".repeat(100));
    let target = "t".repeat(150);
    let mut archive = Archive::default();
    archive.special(EntryType::GNULongName, [name.as_bytes(), b"\0"].concat());
    archive.special(EntryType::GNULongLink, [target.as_bytes(), b"\0"].concat());
    archive.link("n", EntryType::Symlink, "t");
    let (layer, _) = unpacked(&archive.end());
    assert_eq!(kinds(&layer), [format!("{name} -> {target}")]);
}

#[test]
fn long_names_of_ustar_are_in_two_parts() {
    let path = format!("{}/{}", "p".repeat(120), "n".repeat(90));
    let mut header = tar::Header::new_ustar();
    header.set_path(&path).unwrap();
    header.set_size(0);
    header.set_cksum();
    let mut archive = Archive::default();
    archive.bytes.extend_from_slice(header.as_bytes());
    let (layer, _) = unpacked(&archive.end());
    assert_eq!(layer.changes[0].path, path.as_bytes());
}

#[test]
fn names_need_not_be_text() {
    let mut archive = Archive::default();
    archive.with(|header| header.as_old_mut().name[..5].copy_from_slice(b"\xff\xfe/\xc3\n"));
    archive.raw("", EntryType::Regular, b"");
    let (layer, _) = unpacked(&archive.end());
    assert_eq!(layer.changes[0].path, b"\xff\xfe/\xc3\n");
}

#[test]
fn before_there_were_types_a_slash_made_a_directory() {
    let mut archive = Archive::default();
    archive.with(|header| header.as_old_mut().linkflag = [0]);
    archive.raw("dir/", EntryType::Regular, b"");
    archive.with(|header| header.as_old_mut().linkflag = [0]);
    archive.raw("file", EntryType::Regular, b"");
    archive.entry("other/", EntryType::Regular, b"");
    let (layer, _) = unpacked(&archive.end());
    assert_eq!(
        kinds(&layer),
        ["dir directory", "file 0 bytes", "other 0 bytes"]
    );
}

#[test]
fn entries_that_can_have_no_data_have_none() {
    // A size in such a header says nothing, so the next entry follows at once.
    let mut archive = Archive::default();
    for kind in [EntryType::Directory, EntryType::Link, EntryType::Symlink] {
        archive.with(|header| {
            header.set_size(512);
            header.set_link_name("x").unwrap();
        });
        archive.raw("a", kind, b"");
    }
    archive.entry("last", EntryType::Regular, b"");
    let (layer, _) = unpacked(&archive.end());
    assert_eq!(
        kinds(&layer),
        ["a directory", "a = x", "a -> x", "last 0 bytes"]
    );
}

#[test]
fn global_records_and_those_of_aufs_mean_nothing() {
    let mut archive = Archive::default();
    archive.special(EntryType::XGlobalHeader, b"9 path=x\n".to_vec());
    archive.entry("a", EntryType::Regular, b"");
    archive.entry(".wh..wh.plnk/1.2", EntryType::Regular, b"data");
    archive.entry(".wh..wh.aufs", EntryType::Regular, b"");
    archive.entry(".wh..wh..opq", EntryType::Regular, b"");
    archive.entry(".wh.d/e", EntryType::Regular, b"");
    let (layer, _) = unpacked(&archive.end());
    assert_eq!(kinds(&layer), ["a 0 bytes", " opaque", ".wh.d/e 0 bytes"]);
}

#[test]
fn layers_may_be_compressed_in_several_parts() {
    let mut archive = Archive::default();
    let body: Vec<u8> = (0..300_000u32).flat_map(|n| n.to_le_bytes()).collect();
    archive.entry("big", EntryType::Regular, &body);
    let tar = archive.end();
    let (expected, expected_data) = unpack_with(&tar, &Limits::default()).unwrap();
    let (one, two) = tar.split_at(tar.len() / 3);
    let zstd = |bytes: &[u8]| zstd::encode_all(bytes, 1).unwrap();
    let skippable = [&[0x50, 0x2a, 0x4d, 0x18, 3, 0, 0, 0][..], b"abc"].concat();
    let cases = [
        gzip(&tar),
        [gzip(one), gzip(two)].concat(),
        zstd(&tar),
        [skippable, zstd(one), zstd(two)].concat(),
    ];
    for compressed in cases {
        let (unpacked, data) = unpack_with(&compressed, &Limits::default()).unwrap();
        assert_eq!(unpacked.layer, expected.layer);
        assert_eq!(unpacked.diff_id, expected.diff_id);
        assert!(data == expected_data);
        let bytes = Progress {
            read: compressed.len() as u64,
            unpacked: tar.len() as u64,
        };
        assert_eq!(unpacked.bytes, bytes);
    }
    assert_eq!(file_at(&expected.layer, &expected_data, "big"), body);
}

#[test]
fn what_follows_the_archive_is_part_of_the_digest() {
    let mut archive = Archive::default();
    archive.entry("a", EntryType::Regular, b"");
    let mut tar = archive.end();
    tar.extend_from_slice(&[7; 100_000]);
    let (layer, _) = unpacked(&tar);
    assert_eq!(kinds(&layer), ["a 0 bytes"]);
    let (compressed, _) = unpack_with(&gzip(&tar), &Limits::default()).unwrap();
    assert_eq!(compressed.diff_id, Digest::of(&tar));
}

#[test]
fn an_archive_may_just_end() {
    let mut archive = Archive::default();
    archive.entry("a", EntryType::Regular, b"123");
    let (layer, _) = unpacked(&archive.bytes);
    assert_eq!(kinds(&layer), ["a 3 bytes"]);
    assert_eq!(unpacked(&[]).0, Layer::default());
    assert_eq!(unpacked(&[0; 512]).0, Layer::default());
    assert_eq!(unpacked(&[0; 1024]).0, Layer::default());
}

#[test]
fn progress_is_told_and_can_end_it() {
    let mut archive = Archive::default();
    archive.entry("a", EntryType::Regular, &[1; 3_000_000]);
    let compressed = gzip(&archive.end());
    let mut told = Vec::new();
    let mut tell = |progress| {
        told.push(progress);
        ControlFlow::Continue(())
    };
    let unpacked = unpack(&*compressed, std::io::sink(), &Limits::default(), &mut tell).unwrap();
    assert!(told.is_sorted_by_key(|progress| (progress.unpacked, progress.read)));
    assert_eq!(told.last().unwrap().unpacked, unpacked.bytes.unpacked);

    // A source without end: it is not read to it.
    let endless = std::io::repeat(1);
    let mut archive = Archive::default();
    archive.with(|header| header.set_size(1 << 35));
    archive.raw("a", EntryType::Regular, b"");
    let reader = archive.bytes.as_slice().chain(endless);
    let mut left = 10;
    let cancelled = unpack(reader, std::io::sink(), &Limits::default(), &mut |_| {
        left -= 1;
        match left {
            0 => ControlFlow::Break(()),
            _ => ControlFlow::Continue(()),
        }
    });
    assert!(
        matches!(cancelled, Err(LayerError::Cancelled)),
        "{cancelled:?}"
    );
}

#[test]
fn devices_have_numbers_that_the_kernel_knows() {
    let device = |major, minor| Device { major, minor }.is_valid();
    assert!(device(4095, (1 << 20) - 1));
    assert!(!device(4096, 0));
    assert!(!device(0, 1 << 20));
}
