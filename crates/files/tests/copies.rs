//! What is read and made again is the same: kinds, contents, modes, times, links, holes.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod support;

use std::ffi::OsStr;
use std::fs::{self, File, Permissions};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileExt, MetadataExt, PermissionsExt, symlink};
use std::path::Path;
use std::time::{Duration, SystemTime};

use msb_protocol::{FsFailureKind, FsNode, FsPart};
use proptest::prelude::*;
use rustix::fs::{CWD, FileType, Mode, mknodat};
use support::*;

/// A thing in a random directory.
#[derive(Clone, Debug)]
enum Node {
    File(Vec<u8>, u32),
    Link(Vec<u8>),
    Directory(Vec<(Vec<u8>, Node)>, u32),
}

fn node() -> impl Strategy<Value = Node> {
    let bits = prop_oneof![Just(0o644), Just(0o400), Just(0o755), Just(0o600)];
    let leaf = prop_oneof![
        (prop::collection::vec(any::<u8>(), 0..5000), bits)
            .prop_map(|(data, mode)| Node::File(data, mode)),
        prop::collection::vec(1u8..=255, 1..40).prop_map(Node::Link),
    ];
    leaf.prop_recursive(4, 40, 6, |inner| {
        let name = prop::collection::vec(prop_oneof![1u8..=46, 48u8..=255], 1..12);
        let bits = prop_oneof![Just(0o755), Just(0o700), Just(0o500)];
        (prop::collection::vec((name, inner), 0..6), bits)
            .prop_map(|(below, mode)| Node::Directory(below, mode))
    })
}

fn make(path: &Path, node: &Node, stamp: u64) {
    match node {
        Node::Link(target) => symlink(OsStr::from_bytes(target), path).unwrap(),
        Node::File(data, mode) => {
            fs::write(path, data).unwrap();
            age(path, stamp);
            fs::set_permissions(path, Permissions::from_mode(*mode)).unwrap();
        }
        Node::Directory(below, mode) => {
            fs::create_dir(path).unwrap();
            for (index, (name, node)) in below.iter().enumerate() {
                let path = path.join(OsStr::from_bytes(name));
                if name != b"." && name != b".." && path.symlink_metadata().is_err() {
                    make(&path, node, stamp * 7 + index as u64);
                }
            }
            age(path, stamp);
            fs::set_permissions(path, Permissions::from_mode(*mode)).unwrap();
        }
    }
}

fn age(path: &Path, stamp: u64) {
    let time = SystemTime::UNIX_EPOCH + Duration::new(1_000_000_000 + stamp % 1000, 123_456_789);
    File::open(path).unwrap().set_modified(time).unwrap();
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(60))]
    #[test]
    fn a_tree_copied_is_the_tree(node in node()) {
        let dir = tempfile::tempdir().unwrap();
        let (from, to) = (dir.path().join("from"), dir.path().join("to"));
        if matches!(node, Node::Link(_)) {
            return Ok(());
        }
        make(&from, &node, 1);
        write(&to, parts(&from).unwrap()).unwrap();
        prop_assert_eq!(look(&from), look(&to));
        prop_assert_eq!(names(dir.path()), ["from", "to"]);
        // So that the temporary directory can be removed.
        for path in [&from, &to] {
            unlock(path);
        }
    }
}

fn unlock(path: &Path) {
    if path.symlink_metadata().unwrap().is_dir() {
        fs::set_permissions(path, Permissions::from_mode(0o700)).unwrap();
        for entry in fs::read_dir(path).unwrap() {
            unlock(&entry.unwrap().path());
        }
    }
}

#[test]
fn holes_stay_holes() {
    const GIB: u64 = 1 << 30;
    let dir = tempfile::tempdir().unwrap();
    let (from, to) = (dir.path().join("from"), dir.path().join("to"));
    let file = File::create(&from).unwrap();
    file.write_all_at(b"begin", 0).unwrap();
    file.write_all_at(b"middle", 3 * GIB).unwrap();
    file.set_len(6 * GIB).unwrap();
    let parts = parts(&from).unwrap();
    let data: usize = parts
        .iter()
        .map(|part| match part {
            FsPart::Data(data) => data.len(),
            _ => 0,
        })
        .sum();
    assert!(data < 1 << 20, "{data} bytes of data were read");
    write(&to, parts).unwrap();
    let copy = File::open(&to).unwrap();
    let metadata = copy.metadata().unwrap();
    assert_eq!(metadata.len(), 6 * GIB);
    assert!(metadata.blocks() * 512 < 1 << 20);
    let mut middle = [0; 6];
    copy.read_exact_at(&mut middle, 3 * GIB).unwrap();
    assert_eq!(&middle, b"middle");
}

#[test]
fn a_file_that_is_only_a_hole_keeps_its_size() {
    let dir = tempfile::tempdir().unwrap();
    let (from, to) = (dir.path().join("from"), dir.path().join("to"));
    File::create(&from).unwrap().set_len(5 << 30).unwrap();
    write(&to, parts(&from).unwrap()).unwrap();
    assert_eq!(to.metadata().unwrap().len(), 5 << 30);
    assert!(to.metadata().unwrap().blocks() < 100);
}

#[test]
fn files_that_do_not_know_their_size_are_read_to_their_end() {
    let parts = parts(Path::new("/proc/cpuinfo")).unwrap();
    let text: Vec<u8> = parts
        .iter()
        .flat_map(|part| match part {
            FsPart::Data(data) => data.to_vec(),
            _ => Vec::new(),
        })
        .collect();
    assert!(String::from_utf8(text).unwrap().contains("processor"));
}

#[test]
fn a_link_that_is_named_is_followed_and_others_are_copied() {
    let dir = tempfile::tempdir().unwrap();
    let at = |name: &str| dir.path().join(name);
    fs::create_dir(at("tree")).unwrap();
    symlink("/etc/passwd", at("tree/link")).unwrap();
    symlink("tree", at("named")).unwrap();
    write(&at("copy"), parts(&at("named")).unwrap()).unwrap();
    assert!(at("copy").symlink_metadata().unwrap().is_dir());
    assert_eq!(
        fs::read_link(at("copy/link")).unwrap(),
        Path::new("/etc/passwd")
    );
    symlink("dangling", at("dangling")).unwrap();
    assert_eq!(
        parts(&at("dangling")).unwrap_err().kind,
        FsFailureKind::Loop
    );
    symlink("nowhere", at("nothing")).unwrap();
    assert_eq!(
        parts(&at("nothing")).unwrap_err().kind,
        FsFailureKind::NotFound
    );
}

#[test]
fn pipes_and_sockets_are_left_out_and_never_waited_for() {
    let dir = tempfile::tempdir().unwrap();
    let at = |name: &str| dir.path().join(name);
    fs::create_dir(at("tree")).unwrap();
    fs::write(at("tree/file"), "x").unwrap();
    mknodat(CWD, at("tree/pipe"), FileType::Fifo, Mode::RWXU, 0).unwrap();
    let _socket = std::os::unix::net::UnixListener::bind(at("tree/socket")).unwrap();
    write(&at("copy"), parts(&at("tree")).unwrap()).unwrap();
    assert_eq!(names(&at("copy")), ["file"]);
    assert_eq!(
        parts(&at("tree/pipe")).unwrap_err().kind,
        FsFailureKind::NotSupported
    );
}

#[test]
fn the_set_user_id_bit_is_not_handed_on() {
    let dir = tempfile::tempdir().unwrap();
    let at = |name: &str| dir.path().join(name);
    fs::write(at("from"), "x").unwrap();
    fs::set_permissions(at("from"), Permissions::from_mode(0o6755)).unwrap();
    write(&at("to"), parts(&at("from")).unwrap()).unwrap();
    assert_eq!(at("to").metadata().unwrap().mode() & 0o7777, 0o755);
}

#[test]
fn a_copy_replaces_files_and_empty_directories_at_once_or_not_at_all() {
    let dir = tempfile::tempdir().unwrap();
    let at = |name: &str| dir.path().join(name);
    let file = [
        entry(b"", FsNode::File),
        FsPart::Data(bytes::Bytes::from_static(b"new")),
    ];
    let tree = [entry(b"", FsNode::Directory), FsPart::Leave];
    fs::write(at("file"), "old").unwrap();
    fs::create_dir(at("empty")).unwrap();
    fs::create_dir_all(at("full/of")).unwrap();
    symlink(at("file"), at("link")).unwrap();

    write(&at("link"), file.clone()).unwrap();
    assert_eq!(
        fs::read(at("file")).unwrap(),
        b"old",
        "the link is replaced"
    );
    assert_eq!(fs::read(at("link")).unwrap(), b"new");
    write(&at("file"), file.clone()).unwrap();
    assert_eq!(fs::read(at("file")).unwrap(), b"new");
    write(&at("empty"), tree.clone()).unwrap();

    let kind = |target: &str, parts: &[FsPart]| {
        let failure = write(&at(target), parts.to_vec()).unwrap_err();
        failure.kind
    };
    assert_eq!(kind("full", &tree), FsFailureKind::NotEmpty);
    assert_eq!(kind("full", &file), FsFailureKind::IsADirectory);
    assert_eq!(kind("file", &tree), FsFailureKind::NotADirectory);
    assert_eq!(kind("none/x", &file), FsFailureKind::NotFound);
    assert_eq!(kind("file/x", &file), FsFailureKind::NotADirectory);
    assert_eq!(kind("/", &file), FsFailureKind::InvalidArgument);
    assert_eq!(names(dir.path()), ["empty", "file", "full", "link"]);
}

#[test]
fn a_tree_deeper_than_the_limit_is_refused_by_both_sides() {
    let dir = tempfile::tempdir().unwrap();
    let at = |name: &str| dir.path().join(name);
    let mut deep = at("deep");
    for _ in 0..300 {
        deep.push("d");
    }
    fs::create_dir_all(&deep).unwrap();
    assert_eq!(parts(&at("deep")).unwrap_err().kind, FsFailureKind::TooDeep);
    let down = std::iter::repeat_n(entry(b"d", FsNode::Directory), 300);
    let parts = std::iter::once(entry(b"", FsNode::Directory)).chain(down);
    assert_eq!(
        write(&at("copy"), parts).unwrap_err().kind,
        FsFailureKind::TooDeep
    );
    assert_eq!(names(dir.path()), ["deep"]);
}
