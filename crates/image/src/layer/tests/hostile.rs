//! Archives that lie, are damaged, or ask for too much.

use std::io;

use tar::EntryType;

use super::build::Archive;
use super::*;

#[track_caller]
fn refused(archive: Archive) -> LayerError {
    unpack_with(&archive.end(), &Limits::default()).unwrap_err()
}

#[track_caller]
fn problem(archive: Archive) -> EntryProblem {
    match refused(archive) {
        LayerError::Entry { problem, .. } => problem,
        other => panic!("{other:?}"),
    }
}

#[test]
fn paths_that_lead_elsewhere_are_refused() {
    for path in ["../a", "a/../../b", "a/.."] {
        let mut archive = Archive::default();
        archive.entry(path, EntryType::Regular, b"");
        assert_eq!(problem(archive), PathProblem::Upwards.into());
        let mut archive = Archive::default();
        archive.link("a", EntryType::Link, path);
        assert_eq!(
            problem(archive),
            EntryProblem::LinkTarget(PathProblem::Upwards)
        );
    }
    let mut archive = Archive::default();
    archive.records(&[("path", b"a\0b")]);
    archive.entry("a", EntryType::Regular, b"");
    assert_eq!(problem(archive), PathProblem::Zero.into());
    let mut archive = Archive::default();
    archive.records(&[("path", &[b'x'; 256])]);
    archive.entry("a", EntryType::Regular, b"");
    assert_eq!(problem(archive), PathProblem::LongName.into());
    for path in ["", "/", "./"] {
        let mut archive = Archive::default();
        archive.entry(path, EntryType::Regular, b"");
        assert_eq!(problem(archive), PathProblem::Root.into());
    }
    for path in [".wh.", "a/.wh..", "a/.wh..."] {
        let mut archive = Archive::default();
        archive.entry(path, EntryType::Regular, b"");
        assert_eq!(problem(archive), PathProblem::Nameless.into());
    }
}

#[test]
fn entries_that_no_file_can_be_are_refused() {
    for kind in [b'V', b'M', b'X', 0xff] {
        let mut archive = Archive::default();
        archive.entry("a", EntryType::new(kind), b"");
        assert_eq!(problem(archive), EntryProblem::Kind(char::from(kind)));
    }
    let mut archive = Archive::default();
    archive.link("a", EntryType::Symlink, "");
    assert_eq!(problem(archive), EntryProblem::Symlink);
    for target in [&[b'x'; 4096][..], b"a\0b"] {
        let mut archive = Archive::default();
        archive.records(&[("linkpath", target)]);
        archive.link("a", EntryType::Symlink, "x");
        assert_eq!(problem(archive), EntryProblem::Symlink);
    }
    let mut archive = Archive::default();
    archive.device("a", EntryType::Char, 1 << 12, 0);
    assert_eq!(problem(archive), EntryProblem::Device);
    for owner in [b"-1".as_slice(), b"4294967295", b"4294967296"] {
        for key in ["uid", "gid"] {
            let mut archive = Archive::default();
            archive.records(&[(key, owner)]);
            archive.entry("a", EntryType::Regular, b"");
            assert_eq!(problem(archive), EntryProblem::Owner);
        }
    }
    let long = format!("SCHILY.xattr.user.{}", "x".repeat(255));
    for (name, value) in [
        ("SCHILY.xattr.", &b"x"[..]),
        (&long, b"x"),
        ("SCHILY.xattr.user.large", &[0; 40_000]),
    ] {
        let mut archive = Archive::default();
        archive.records(&[(name, value)]);
        archive.entry("a", EntryType::Regular, b"");
        assert_eq!(problem(archive), EntryProblem::Xattrs);
    }
}

#[test]
fn messages_say_which_entry_and_why() {
    let mut archive = Archive::default();
    archive.entry("../\x1b[2Ja", EntryType::Regular, b"");
    let error = refused(archive);
    assert_eq!(
        error.to_string(),
        "/../\\u{1b}[2Ja in the layer cannot be used"
    );
    let source = std::error::Error::source(&error).unwrap();
    assert_eq!(source.to_string(), "its path leads upwards (`..`)");
}

#[test]
fn a_layer_that_is_cut_is_noticed_wherever_it_is() {
    let mut archive = Archive::default();
    archive.records(&[("path", b"name")]);
    archive.entry("a", EntryType::Regular, &[1; 2000]);
    let end = archive.bytes.len();
    let tar = archive.end();
    let cut = |bytes: &[u8]| unpack_with(bytes, &Limits::default());
    for length in (1..end).step_by(5) {
        let error = cut(&tar[..length]).unwrap_err();
        assert!(
            matches!(error, LayerError::Truncated),
            "{length}: {error:?}"
        );
    }
    for compressed in [gzip(&tar), zstd::encode_all(&*tar, 1).unwrap()] {
        for length in (7..compressed.len()).step_by(11) {
            let error = cut(&compressed[..length]).unwrap_err();
            let typed = matches!(error, LayerError::Truncated | LayerError::Decompress(_));
            assert!(typed, "{length} of {}: {error:?}", compressed.len());
        }
    }
}

#[test]
fn damage_is_noticed() {
    let mut archive = Archive::default();
    archive.entry("a", EntryType::Regular, b"abc");
    let tar = archive.end();
    let mut wrong = tar.clone();
    wrong[3] ^= 1;
    let error = unpack_with(&wrong, &Limits::default()).unwrap_err();
    assert!(matches!(error, LayerError::Damaged(_)), "{error:?}");

    let mut compressed = gzip(&tar);
    let last = compressed.len() - 5;
    compressed[last] ^= 1;
    let error = unpack_with(&compressed, &Limits::default()).unwrap_err();
    assert!(matches!(error, LayerError::Decompress(_)), "{error:?}");
    let trailing = [gzip(&tar), b"something that is no gzip".to_vec()].concat();
    let error = unpack_with(&trailing, &Limits::default()).unwrap_err();
    assert!(matches!(error, LayerError::Decompress(_)), "{error:?}");

    // One block of zeros alone ends nothing.
    let mut archive = Archive::default();
    archive.data(&[0; 512]);
    archive.entry("a", EntryType::Regular, b"");
    assert!(matches!(refused(archive), LayerError::Damaged(_)));
    let error = unpack_with(b"no archive at all", &Limits::default()).unwrap_err();
    assert!(matches!(error, LayerError::Truncated), "{error:?}");
    let error = unpack_with(&[b'x'; 2000], &Limits::default()).unwrap_err();
    assert!(matches!(error, LayerError::Damaged(_)), "{error:?}");
}

#[test]
fn compressions_that_are_not_known_are_named() {
    for (bytes, name) in [(&b"BZh91AY&SY"[..], "bzip2"), (b"\xfd7zXZ\0\0\0", "xz")] {
        let error = unpack_with(bytes, &Limits::default()).unwrap_err();
        assert!(matches!(error, LayerError::UnknownCompression(found) if found == name));
    }
}

#[test]
fn sizes_that_lie_are_noticed() {
    for size in [1 << 20, 8 << 30, 1 << 62] {
        let mut archive = Archive::default();
        archive.with(move |header| header.set_size(size));
        archive.raw("a", EntryType::Regular, b"abc");
        let error = refused(archive);
        let typed = matches!(error, LayerError::Truncated | LayerError::TooLarge { .. });
        assert!(typed, "{size}: {error:?}");
    }
    let mut archive = Archive::default();
    archive.with(|header| header.as_old_mut().size = [0xff; 12]);
    archive.raw("a", EntryType::Regular, b"abc");
    assert!(matches!(refused(archive), LayerError::Damaged(_)));
    // Names and records are read into memory, so their sizes have a limit of their own.
    let kinds = [
        EntryType::XHeader,
        EntryType::XGlobalHeader,
        EntryType::GNULongName,
        EntryType::GNULongLink,
    ];
    for kind in kinds {
        let mut archive = Archive::default();
        archive.with(|header| header.set_size(2 << 20));
        archive.raw("a", kind, b"abc");
        assert!(matches!(refused(archive), LayerError::Damaged(_)));
    }
}

#[test]
fn limits_hold() {
    let limits = Limits {
        layer_bytes: 10_000,
        layer_entries: 3,
        index_bytes: 2_000,
        ..Limits::default()
    };
    let unpack = |archive: Archive| unpack_with(&archive.end(), &limits);
    let too_large = |archive| matches!(unpack(archive), Err(LayerError::TooLarge { .. }));
    let files = |count: usize, size: usize| {
        let mut archive = Archive::default();
        for _ in 0..count {
            archive.entry("a", EntryType::Regular, &vec![1; size]);
        }
        archive
    };
    assert!(unpack(files(2, 5_000)).is_ok());
    assert!(too_large(files(2, 5_001)));
    assert!(unpack(files(3, 0)).is_ok());
    assert!(too_large(files(4, 0)));
    let named = |bytes: usize| {
        let mut archive = Archive::default();
        archive.records(&[("SCHILY.xattr.user.a", &vec![1; bytes])]);
        archive.entry("a", EntryType::Regular, b"");
        archive
    };
    assert!(unpack(named(1_500)).is_ok());
    assert!(too_large(named(2_000)));
    // What is in no file counts as well, after the archive's end too.
    let mut bomb = files(1, 0);
    bomb.bytes.resize(1 << 20, 0);
    assert!(too_large(bomb));
}

#[test]
fn a_small_layer_cannot_become_a_large_blob() {
    let mut archive = Archive::default();
    archive.entry("a", EntryType::Regular, &vec![1; 64 << 20]);
    let compressed = gzip(&archive.end());
    assert!(compressed.len() < 1 << 20);
    let limits = Limits {
        layer_bytes: 1 << 20,
        ..Limits::default()
    };
    let mut data = Vec::new();
    let refused = unpack(&*compressed, &mut data, &limits, &mut |_| {
        ControlFlow::Continue(())
    });
    assert!(
        matches!(refused, Err(LayerError::TooLarge { .. })),
        "{refused:?}"
    );
    assert!(data.is_empty());
}

#[test]
fn whoever_reads_or_writes_may_fail() {
    struct Broken;
    impl Read for Broken {
        fn read(&mut self, _: &mut [u8]) -> io::Result<usize> {
            Err(io::Error::other("pulled the plug"))
        }
    }
    impl Write for Broken {
        fn write(&mut self, _: &[u8]) -> io::Result<usize> {
            Err(io::Error::other("no room"))
        }
        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }
    let mut archive = Archive::default();
    archive.entry("a", EntryType::Regular, &[1; 5 << 20]);
    let bytes = archive.end();
    let tell = &mut |_| ControlFlow::Continue(());
    for compressed in [
        bytes.clone(),
        gzip(&bytes),
        zstd::encode_all(&*bytes, 1).unwrap(),
    ] {
        let half = compressed[..compressed.len() / 2].chain(Broken);
        let error = unpack(half, io::sink(), &Limits::default(), tell).unwrap_err();
        assert!(matches!(error, LayerError::Read(_)), "{error:?}");
    }
    let error = unpack(&*bytes, Broken, &Limits::default(), tell).unwrap_err();
    assert!(matches!(error, LayerError::Write(_)), "{error:?}");
}
