//! Parts that are no tree, and trees that change while they are walked.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod support;

use std::fs::{self, File, Permissions};
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};

use bytes::Bytes;
use msb_files::{TreeWriter, cancelled, export, remove_tree};
use msb_protocol::{FsFailureKind, FsNode, FsPart, FsTime, FsTreeEntry, MAX_CHUNK};
use proptest::prelude::*;
use support::*;

fn name() -> impl Strategy<Value = Bytes> {
    let names: [&'static [u8]; 14] = [
        b"",
        b"a",
        b"b",
        b"link",
        b".",
        b"..",
        b"../x",
        b"../../x",
        b"/x",
        b"a/b",
        b"a/../../x",
        b"x\0",
        b"\xff",
        b"./x",
    ];
    prop::sample::select(names.to_vec()).prop_map(Bytes::from_static)
}

fn node() -> impl Strategy<Value = FsNode> {
    let targets: [&'static [u8]; 6] = [b"..", b"../..", b"/", b"../outside", b".", b""];
    prop_oneof![
        4 => Just(FsNode::Directory),
        4 => Just(FsNode::File),
        2 => prop::sample::select(targets.to_vec())
            .prop_map(|target| FsNode::Symlink(Bytes::from_static(target))),
    ]
}

fn part() -> impl Strategy<Value = FsPart> {
    let time =
        || (any::<i64>(), any::<u32>()).prop_map(|(seconds, nanos)| FsTime { seconds, nanos });
    let good = || {
        Just(FsTime {
            seconds: 5,
            nanos: 5,
        })
    };
    let times = || prop_oneof![9 => good().boxed(), 1 => time().boxed()];
    prop_oneof![
        6 => (name(), node(), any::<u32>(), times(), times()).prop_map(
            |(name, node, mode, accessed, modified)| FsPart::Entry(FsTreeEntry {
                name, node, mode, accessed, modified,
            })
        ),
        2 => prop::collection::vec(any::<u8>(), 0..100).prop_map(|data| FsPart::Data(data.into())),
        2 => prop_oneof![Just(0), Just(1 << 20), Just(u64::MAX), any::<u64>()].prop_map(FsPart::Hole),
        3 => Just(FsPart::Leave),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(500))]
    #[test]
    fn no_parts_write_outside_of_the_target(parts in prop::collection::vec(part(), 0..30), skip in any::<bool>()) {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("outside"), "untouched").unwrap();
        let room = dir.path().join("room");
        fs::create_dir(&room).unwrap();
        // Half of them begin as a tree does, or nearly none would come far.
        let root = skip.then(|| entry(b"", FsNode::Directory));
        let result = write(&room.join("target"), root.into_iter().chain(parts));
        prop_assert_eq!(names(dir.path()), ["outside", "room"]);
        prop_assert_eq!(fs::read(dir.path().join("outside")).unwrap(), b"untouched");
        if result.is_ok() {
            prop_assert_eq!(names(&room), ["target"]);
            let kind = room.join("target").symlink_metadata().unwrap();
            prop_assert!(kind.is_dir() || kind.is_file());
        } else {
            prop_assert!(names(&room).is_empty(), "a failed copy leaves nothing");
        }
    }
}

#[test]
fn a_name_that_is_taken_is_never_opened() {
    let dir = tempfile::tempdir().unwrap();
    let outside = dir.path().join("outside");
    fs::create_dir(&outside).unwrap();
    let target = link(outside.as_os_str().as_encoded_bytes());
    for second in [FsNode::Directory, FsNode::File, target.clone()] {
        let parts = [
            entry(b"", FsNode::Directory),
            entry(b"x", target.clone()),
            entry(b"x", second),
            entry(b"y", FsNode::File),
        ];
        let failure = write(&dir.path().join("copy"), parts).unwrap_err();
        assert_eq!(failure.kind, FsFailureKind::ChangedUnderneath);
    }
    assert!(names(&outside).is_empty());
    assert_eq!(names(dir.path()), ["outside"]);
}

#[test]
fn sizes_are_not_believed() {
    let dir = tempfile::tempdir().unwrap();
    let file = |parts: Vec<FsPart>| {
        let root = std::iter::once(entry(b"", FsNode::File));
        write(&dir.path().join("copy"), root.chain(parts))
            .unwrap_err()
            .kind
    };
    assert_eq!(file(vec![FsPart::Hole(u64::MAX)]), FsFailureKind::TooLarge);
    let half = FsPart::Hole(i64::MAX as u64);
    assert_eq!(file(vec![half.clone(), half]), FsFailureKind::TooLarge);
    let data = FsPart::Data(Bytes::from(vec![0; MAX_CHUNK + 1]));
    assert_eq!(file(vec![data]), FsFailureKind::BadTree);
    assert!(names(dir.path()).is_empty());
}

#[test]
fn an_unfinished_tree_is_removed_with_all_that_is_in_it() {
    let dir = tempfile::tempdir().unwrap();
    let mut writer = TreeWriter::new(&dir.path().join("copy")).unwrap();
    let closed = FsTreeEntry {
        name: Bytes::from_static(b"closed"),
        node: FsNode::Directory,
        mode: 0,
        accessed: FsTime::default(),
        modified: FsTime::default(),
    };
    for part in [
        entry(b"", FsNode::Directory),
        FsPart::Entry(closed),
        entry(b"f", FsNode::File),
        FsPart::Data(Bytes::from_static(b"x")),
        FsPart::Leave,
        entry(b"open", FsNode::Directory),
        entry(b"f", FsNode::File),
    ] {
        writer.part(part).unwrap();
    }
    let made = names(dir.path());
    assert_eq!(made.len(), 1, "one hidden name: {made:?}");
    drop(writer);
    assert!(names(dir.path()).is_empty());
}

#[test]
fn a_tree_is_private_until_it_is_complete() {
    let dir = tempfile::tempdir().unwrap();
    let mut writer = TreeWriter::new(&dir.path().join("copy")).unwrap();
    writer.part(entry(b"", FsNode::Directory)).unwrap();
    let hidden = dir.path().join(&names(dir.path())[0]);
    assert_eq!(hidden.metadata().unwrap().mode() & 0o777, 0o700);
    writer.part(FsPart::Leave).unwrap();
    writer.finish().unwrap();
    assert_eq!(
        dir.path().join("copy").metadata().unwrap().mode() & 0o777,
        0o755
    );
}

/// Swaps a directory for a link and back, as fast as it can, while `work` goes on.
fn while_swapping(inside: &Path, outside: &Path, work: impl FnOnce()) {
    let stop = AtomicBool::new(false);
    let aside = inside.with_extension("aside");
    std::thread::scope(|scope| {
        scope.spawn(|| {
            while !stop.load(Ordering::Relaxed) {
                let _ = fs::rename(inside, &aside);
                let _ = symlink(outside, inside);
                let _ = fs::remove_file(inside);
                let _ = fs::rename(&aside, inside);
            }
        });
        work();
        stop.store(true, Ordering::Relaxed);
    });
}

#[test]
fn a_link_swapped_in_is_never_walked_through() {
    let dir = tempfile::tempdir().unwrap();
    let at = |name: &str| dir.path().join(name);
    fs::create_dir_all(at("tree/d")).unwrap();
    fs::write(at("tree/d/mine"), "mine").unwrap();
    fs::create_dir(at("secret")).unwrap();
    fs::write(at("secret/key"), "secret").unwrap();
    while_swapping(&at("tree/d"), &at("secret"), || {
        for _ in 0..2000 {
            match parts(&at("tree")) {
                Ok(parts) => assert!(
                    !parts
                        .iter()
                        .any(|part| matches!(part, FsPart::Data(data) if data == "secret")),
                    "the copy left its tree"
                ),
                Err(failure) => assert!(
                    matches!(failure.kind, FsFailureKind::ChangedUnderneath),
                    "{failure:?}"
                ),
            }
        }
    });
}

#[test]
fn a_link_swapped_in_is_never_removed_through() {
    let dir = tempfile::tempdir().unwrap();
    let at = |name: &str| dir.path().join(name);
    fs::create_dir(at("kept")).unwrap();
    fs::write(at("kept/key"), "kept").unwrap();
    for _ in 0..100 {
        fs::create_dir_all(at("tree/d")).unwrap();
        for file in 0..20 {
            fs::write(at("tree/d").join(file.to_string()), "x").unwrap();
        }
        while_swapping(&at("tree/d"), &at("kept"), || {
            // It may find the tree changed; what it must not do is to leave it.
            let _ = remove_tree(&at("tree"), &mut || Ok(()));
        });
        assert_eq!(names(&at("kept")), ["key"]);
        let _ = fs::remove_dir_all(at("tree"));
    }
}

#[test]
fn removal_is_of_one_tree_and_not_of_what_links_lead_to() {
    let dir = tempfile::tempdir().unwrap();
    let at = |name: &str| dir.path().join(name);
    let remove = |name: &str| remove_tree(&at(name), &mut || Ok(()));
    fs::create_dir_all(at("tree/a/b/c")).unwrap();
    fs::write(at("tree/a/f"), "x").unwrap();
    fs::create_dir(at("kept")).unwrap();
    fs::write(at("kept/f"), "x").unwrap();
    symlink(at("kept"), at("tree/link")).unwrap();
    symlink(at("kept"), at("link")).unwrap();
    remove("tree").unwrap();
    remove("link").unwrap();
    assert_eq!(names(dir.path()), ["kept"]);
    assert_eq!(names(&at("kept")), ["f"]);
    assert_eq!(
        remove("kept/f").unwrap_err().kind,
        FsFailureKind::NotADirectory
    );
    assert_eq!(remove("none").unwrap_err().kind, FsFailureKind::NotFound);
    let root = remove_tree(Path::new("/"), &mut || Ok(())).unwrap_err();
    assert_eq!(root.kind, FsFailureKind::InvalidArgument);
    let mounted = remove_tree(Path::new("/proc"), &mut || Ok(())).unwrap_err();
    assert_eq!(mounted.kind, FsFailureKind::Busy);
}

#[test]
fn work_ends_where_its_caller_says() {
    let dir = tempfile::tempdir().unwrap();
    let tree = dir.path().join("tree");
    fs::create_dir(&tree).unwrap();
    for file in 0..100 {
        File::create(tree.join(file.to_string())).unwrap();
    }
    let mut steps = 0;
    let mut tick = || {
        steps += 1;
        if steps > 10 { Err(cancelled()) } else { Ok(()) }
    };
    let failure = remove_tree(&tree, &mut tick).unwrap_err();
    assert_eq!(failure.kind, FsFailureKind::Cancelled);
    assert!(names(&tree).len() > 80);
    let failure = export(&tree, &mut |_| Err(cancelled())).unwrap_err();
    assert_eq!(failure.kind, FsFailureKind::Cancelled);
}

#[test]
fn what_may_not_be_read_says_so() {
    // Root may read anything.
    if rustix::process::geteuid().is_root() {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("closed");
    fs::write(&file, "x").unwrap();
    fs::set_permissions(&file, Permissions::from_mode(0o000)).unwrap();
    assert_eq!(
        parts(&file).unwrap_err().kind,
        FsFailureKind::PermissionDenied
    );
}
