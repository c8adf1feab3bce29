//! Trees over the wire, both ways.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::time::{Duration, Instant};

use bytes::Bytes;
use msb_protocol::*;

use crate::talk::*;

fn exported(path: &Path) -> Vec<FsPart> {
    let mut answers = ask(FsRequest::Export { path: at(path) });
    assert_eq!(answers.pop(), Some(FsAnswer::Done));
    answers
        .into_iter()
        .map(|answer| match answer {
            FsAnswer::Part(part) => part,
            other => panic!("{other:?} is no part"),
        })
        .collect()
}

fn imported(path: &Path, parts: Vec<FsPart>) -> FsAnswer {
    let mut call = Call::open(FsRequest::Import { path: at(path) });
    match call.answer() {
        FsAnswer::Opened => {}
        other => return other,
    }
    for part in parts {
        if let Some(answer) = call.part(part) {
            return answer;
        }
    }
    call.finish()
}

fn names(path: &Path) -> usize {
    fs::read_dir(path).unwrap().count()
}

#[test]
fn what_is_exported_and_imported_is_exported_alike() {
    let dir = tempfile::tempdir().unwrap();
    let (from, to) = (dir.path().join("from"), dir.path().join("to"));
    for n in 0..50 {
        let below = from.join(format!("d{n}"));
        fs::create_dir_all(&below).unwrap();
        for m in 0..20 {
            fs::write(below.join(format!("f{m}")), vec![m; 1000 * usize::from(m)]).unwrap();
        }
        symlink("../nowhere", below.join("link")).unwrap();
    }
    let holes = fs::File::create(from.join("holes")).unwrap();
    holes.set_len(5 << 30).unwrap();
    let parts = exported(&from);
    assert_eq!(imported(&to, parts), FsAnswer::Done);
    // Reading has changed when things were last read; nothing else differs.
    let look = |path: &Path| -> Vec<String> {
        let mut seen: Vec<_> = walk(path, path);
        seen.sort();
        seen
    };
    assert_eq!(look(&from), look(&to));
    assert_eq!(look(&to).len(), 1 + 50 * 22 + 1);
    assert_eq!(names(dir.path()), 2);
}

fn walk(root: &Path, path: &Path) -> Vec<String> {
    let stat = stat(path, false);
    let mut seen = vec![format!(
        "{:?} {:?} {} {:o} {:?}",
        path.strip_prefix(root).unwrap(),
        stat.kind,
        // A directory's size is its file system's own affair.
        if stat.kind == FsKind::Directory {
            0
        } else {
            stat.size
        },
        stat.mode,
        stat.modified,
    )];
    if stat.kind == FsKind::Directory {
        for entry in fs::read_dir(path).unwrap() {
            seen.extend(walk(root, &entry.unwrap().path()));
        }
    }
    seen
}

fn entry(name: &'static [u8], node: FsNode) -> FsPart {
    FsPart::Entry(FsTreeEntry {
        name: Bytes::from_static(name),
        node,
        mode: 0o700,
        accessed: FsTime::default(),
        modified: FsTime::default(),
    })
}

#[test]
fn parts_that_are_no_tree_leave_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let root = || entry(b"", FsNode::Directory);
    let long: &'static [u8] = &[b'x'; 300];
    let deep = std::iter::once(root())
        .chain(std::iter::repeat_n(entry(b"d", FsNode::Directory), 300))
        .collect();
    use FsFailureKind as K;
    for (parts, kind) in [
        (vec![], K::BadTree),
        (vec![FsPart::Leave], K::BadTree),
        (vec![FsPart::Hole(1)], K::BadTree),
        (vec![root()], K::BadTree),
        (vec![entry(b"x", FsNode::File)], K::BadTree),
        (
            vec![root(), FsPart::Data(Bytes::from_static(b"x"))],
            K::BadTree,
        ),
        (vec![root(), FsPart::Leave, FsPart::Leave], K::BadTree),
        (
            vec![root(), entry(b"..", FsNode::Directory)],
            K::InvalidName,
        ),
        (vec![root(), entry(b"../x", FsNode::File)], K::InvalidName),
        (vec![root(), entry(b"/tmp/x", FsNode::File)], K::InvalidName),
        (vec![root(), entry(b"", FsNode::File)], K::InvalidName),
        (vec![root(), entry(long, FsNode::File)], K::NameTooLong),
        (
            vec![
                root(),
                entry(b"x", FsNode::File),
                entry(b"x", FsNode::Directory),
            ],
            K::ChangedUnderneath,
        ),
        (deep, K::TooDeep),
    ] {
        let answer = imported(&dir.path().join("tree"), parts);
        assert_eq!(failed(answer), kind);
        assert_eq!(names(dir.path()), 0);
    }
    assert_eq!(
        failed(imported(&dir.path().join("none/tree"), vec![root()])),
        K::NotFound
    );
}

#[test]
fn a_host_that_leaves_in_the_middle_leaves_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let mut call = Call::open(FsRequest::Import {
        path: at(dir.path().join("tree")),
    });
    assert_eq!(call.answer(), FsAnswer::Opened);
    call.part(entry(b"", FsNode::Directory));
    call.part(entry(b"file", FsNode::File));
    // It has come so far when it gives the window back.
    assert!(matches!(call.answer(), FsAnswer::Consumed(_)));
    assert_eq!(names(dir.path()), 1);
    drop(call);
    let deadline = Instant::now() + Duration::from_secs(60);
    while names(dir.path()) > 0 {
        assert!(Instant::now() < deadline, "something is left");
        std::thread::yield_now();
    }
}

#[test]
fn work_that_has_nothing_to_say_shows_that_it_goes_on() {
    let dir = tempfile::tempdir().unwrap();
    let mut call = Call::open(FsRequest::Import {
        path: at(dir.path().join("tree")),
    });
    assert_eq!(call.answer(), FsAnswer::Opened);
    call.part(entry(b"", FsNode::Directory));
    assert!(matches!(call.answer(), FsAnswer::Consumed(_)));
    assert_eq!(call.answer(), FsAnswer::Working);
    call.part(FsPart::Leave);
    assert_eq!(call.finish(), FsAnswer::Done);
}

#[test]
fn only_files_and_directories_are_exported() {
    let kind = |path: &'static [u8]| {
        kind(FsRequest::Export {
            path: Bytes::from_static(path),
        })
    };
    assert_eq!(kind(b"/dev/zero"), FsFailureKind::NotSupported);
    assert_eq!(kind(b"/none"), FsFailureKind::NotFound);
}
