//! What each operation does, and each way it fails.

use std::ffi::OsStr;
use std::fs::{self, Permissions};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::Path;

use bytes::Bytes;
use msb_protocol::*;

use crate::talk::*;
use FsFailureKind as K;
use FsRequest as R;

#[test]
fn a_file_is_read_to_its_end_in_pieces() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("file");
    let data: Vec<u8> = (0..3_000_000u32).map(|n| n.to_le_bytes()[1]).collect();
    fs::write(&file, &data).unwrap();
    let (all, pieces) = read(&file);
    assert!(all == data && pieces >= 45, "{pieces} pieces");
    fs::write(&file, "").unwrap();
    assert_eq!(read(&file), (Vec::new(), 0));
    // One whose size is 0 to whoever asks.
    assert!(read("/proc/cpuinfo").0.starts_with(b"processor"));
}

#[test]
fn what_cannot_be_read_says_why() {
    let dir = tempfile::tempdir().unwrap();
    let read = |path: &Path| kind(R::Read { path: at(path) });
    assert_eq!(read(&dir.path().join("none")), K::NotFound);
    assert_eq!(read(dir.path()), K::IsADirectory);
    fs::write(dir.path().join("file"), "").unwrap();
    assert_eq!(read(&dir.path().join("file/x")), K::NotADirectory);
    symlink("loop", dir.path().join("loop")).unwrap();
    assert_eq!(read(&dir.path().join("loop")), K::Loop);
    assert_eq!(read(&dir.path().join("n".repeat(300))), K::NameTooLong);
    for (bad, kind) in [
        (Bytes::new(), K::InvalidName),
        (Bytes::from_static(b"/etc/\0passwd"), K::InvalidName),
        (Bytes::from(vec![b'x'; 5000]), K::NameTooLong),
    ] {
        assert_eq!(self::kind(R::Read { path: bad }), kind);
    }
    let _socket = std::os::unix::net::UnixListener::bind(dir.path().join("socket")).unwrap();
    assert_eq!(read(&dir.path().join("socket")), K::NotSupported);
}

#[test]
fn a_file_is_written_beyond_the_window_and_keeps_its_permissions() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("file");
    let data = vec![7; 2_000_000];
    assert_eq!(write(&file, &data), FsAnswer::Done);
    assert!(fs::read(&file).unwrap() == data);
    fs::set_permissions(&file, Permissions::from_mode(0o600)).unwrap();
    symlink("file", dir.path().join("link")).unwrap();
    assert_eq!(write(dir.path().join("link"), b"less"), FsAnswer::Done);
    assert_eq!(fs::read(&file).unwrap(), b"less");
    assert_eq!(file.metadata().unwrap().mode() & 0o777, 0o600);
}

#[test]
fn what_cannot_be_written_says_why() {
    let dir = tempfile::tempdir().unwrap();
    let write = |path: &Path| failed(write(path, &[0; 100_000]));
    assert_eq!(write(dir.path()), K::IsADirectory);
    assert_eq!(write(&dir.path().join("none/file")), K::NotFound);
    assert_eq!(write(Path::new("/dev/full")), K::NoSpace);
    assert_eq!(write(Path::new("/proc/self/cmdline/x")), K::NotADirectory);
}

#[test]
fn a_hole_has_no_place_in_what_is_written() {
    let dir = tempfile::tempdir().unwrap();
    let mut call = Call::open(R::Write {
        path: at(dir.path().join("file")),
        mode: 0o644,
    });
    assert_eq!(call.answer(), FsAnswer::Opened);
    call.part(FsPart::Hole(1 << 40));
    assert_eq!(failed(call.last()), K::BadTree);
}

#[test]
fn a_directory_is_listed_in_batches_whatever_its_names_are() {
    let dir = tempfile::tempdir().unwrap();
    for n in 0..5000 {
        fs::write(dir.path().join(format!("file-{n:05}")), "abc").unwrap();
    }
    fs::create_dir(dir.path().join("directory")).unwrap();
    symlink("nowhere", dir.path().join("link")).unwrap();
    fs::write(dir.path().join(OsStr::from_bytes(b"\xff\xfe")), "").unwrap();
    let mut answers = ask(R::List {
        path: at(dir.path()),
    });
    assert_eq!(answers.pop(), Some(FsAnswer::Done));
    assert!(answers.len() > 5, "{} batches", answers.len());
    let mut all = Vec::new();
    for answer in answers {
        match answer {
            FsAnswer::Entries(batch) => {
                let cost: usize = batch.iter().map(FsListed::cost).sum();
                assert!(!batch.is_empty() && cost <= MAX_LISTED_BATCH);
                all.extend(batch);
            }
            other => panic!("{other:?} is no batch"),
        }
    }
    all.sort_by(|a, b| a.name.cmp(&b.name));
    assert_eq!(all.len(), 5003);
    let of = |name: &[u8]| all.iter().find(|entry| entry.name == name).unwrap().stat;
    assert_eq!(of(b"directory").kind, FsKind::Directory);
    assert_eq!(of(b"link").kind, FsKind::Symlink);
    assert_eq!(of(b"\xff\xfe").kind, FsKind::File);
    assert_eq!(
        (of(b"file-00042").kind, of(b"file-00042").size),
        (FsKind::File, 3)
    );
}

#[test]
fn what_cannot_be_listed_says_why_and_an_empty_directory_is_none_of_that() {
    let dir = tempfile::tempdir().unwrap();
    done(R::List {
        path: at(dir.path()),
    });
    fs::write(dir.path().join("file"), "").unwrap();
    let list = |name| {
        kind(R::List {
            path: at(dir.path().join(name)),
        })
    };
    assert_eq!(list("file"), K::NotADirectory);
    assert_eq!(list("none"), K::NotFound);
}

#[test]
fn metadata_is_of_the_file_or_of_the_link() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("file");
    fs::write(&file, "abcd").unwrap();
    fs::set_permissions(&file, Permissions::from_mode(0o4711)).unwrap();
    symlink("file", dir.path().join("link")).unwrap();
    let seen = stat(dir.path().join("link"), true);
    let metadata = file.metadata().unwrap();
    assert_eq!((seen.kind, seen.size), (FsKind::File, 4));
    assert_eq!(seen.mode, 0o4711);
    assert_eq!((seen.uid, seen.gid), (metadata.uid(), metadata.gid()));
    assert_eq!(seen.modified.seconds, metadata.mtime());
    assert_eq!(i64::from(seen.modified.nanos), metadata.mtime_nsec());
    assert_eq!(stat(dir.path().join("link"), false).kind, FsKind::Symlink);
    assert_eq!(stat("/dev/null", true).kind, FsKind::Other);
    let path = at(dir.path().join("none"));
    assert_eq!(kind(R::Stat { path, follow: true }), K::NotFound);
}

fn set(path: &Path, follow: bool, attributes: FsAttributes) -> R {
    R::SetStat {
        path: at(path),
        follow,
        attributes,
    }
}

#[test]
fn metadata_is_changed_where_it_is_given() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("file");
    fs::write(&file, "abcd").unwrap();
    let before = stat(&file, true);
    let time = FsTime {
        seconds: -86_400,
        nanos: 7,
    };
    let attributes = FsAttributes {
        mode: Some(0o4750),
        size: Some(5 << 30),
        modified: Some(time),
        uid: Some(before.uid),
        gid: Some(before.gid),
        ..FsAttributes::default()
    };
    done(set(&file, true, attributes));
    let after = stat(&file, true);
    assert_eq!(
        (after.mode, after.size, after.modified),
        (0o4750, 5 << 30, time)
    );
    assert_eq!(after.accessed, before.accessed);
    done(set(&file, true, FsAttributes::default()));
    assert_eq!(stat(&file, true), after);

    symlink("file", dir.path().join("link")).unwrap();
    let times = FsAttributes {
        accessed: Some(time),
        modified: Some(time),
        ..FsAttributes::default()
    };
    done(set(&dir.path().join("link"), false, times));
    assert_eq!(stat(dir.path().join("link"), false).modified, time);
    assert_eq!(stat(&file, true).accessed, before.accessed);
}

#[test]
fn metadata_that_cannot_be_changed_says_why() {
    let dir = tempfile::tempdir().unwrap();
    let link = dir.path().join("link");
    symlink("/etc/passwd", &link).unwrap();
    let before = fs::metadata("/etc/passwd").unwrap().mode();
    let change = |path: &Path, follow, attributes| kind(set(path, follow, attributes));
    let mode = FsAttributes {
        mode: Some(0o777),
        ..FsAttributes::default()
    };
    assert_eq!(change(&link, false, mode), K::NotSupported);
    assert_eq!(fs::metadata("/etc/passwd").unwrap().mode(), before);
    assert_eq!(change(&dir.path().join("none"), true, mode), K::NotFound);
    let size = FsAttributes {
        size: Some(0),
        ..FsAttributes::default()
    };
    assert_eq!(change(dir.path(), true, size), K::IsADirectory);
    assert_eq!(
        change(Path::new("/dev/null"), true, size),
        K::InvalidArgument
    );
    let file = dir.path().join("file");
    fs::write(&file, "").unwrap();
    let huge = FsAttributes {
        size: Some(u64::MAX),
        ..FsAttributes::default()
    };
    assert_eq!(change(&file, true, huge), K::InvalidArgument);
    // What the kernel would take for "now" is no time.
    let time = FsTime {
        seconds: 0,
        nanos: (1 << 30) - 1,
    };
    let now = FsAttributes {
        modified: Some(time),
        ..FsAttributes::default()
    };
    assert_eq!(change(&file, true, now), K::InvalidArgument);
    let nobody = FsAttributes {
        uid: Some(u32::MAX),
        ..FsAttributes::default()
    };
    assert_eq!(change(&file, true, nobody), K::InvalidArgument);
}

#[test]
fn directories_are_made_with_those_above_them() {
    let dir = tempfile::tempdir().unwrap();
    let make = |name: &str| R::MakeDirectory {
        path: at(dir.path().join(name)),
    };
    done(make("a/b/c"));
    done(make("a/b/c"));
    assert!(dir.path().join("a/b/c").is_dir());
    fs::write(dir.path().join("file"), "").unwrap();
    assert_eq!(kind(make("file")), K::AlreadyExists);
    assert_eq!(kind(make("file/x")), K::NotADirectory);
}

#[test]
fn files_are_removed_singly_and_directories_with_all_in_them() {
    let dir = tempfile::tempdir().unwrap();
    let path = |name: &str| at(dir.path().join(name));
    fs::create_dir_all(dir.path().join("tree/a/b")).unwrap();
    fs::write(dir.path().join("tree/a/file"), "").unwrap();
    symlink("tree", dir.path().join("link")).unwrap();
    let remove = |name| R::Remove { path: path(name) };
    let remove_tree = |name| R::RemoveTree { path: path(name) };
    assert_eq!(kind(remove("tree")), K::IsADirectory);
    assert_eq!(kind(remove("none")), K::NotFound);
    assert_eq!(kind(remove_tree("none")), K::NotFound);
    assert_eq!(kind(remove_tree("tree/a/file")), K::NotADirectory);
    done(remove("link"));
    done(remove("tree/a/file"));
    done(remove_tree("tree"));
    assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 0);
    let root = R::RemoveTree {
        path: Bytes::from_static(b"/"),
    };
    assert_eq!(kind(root), K::InvalidArgument);
}

#[test]
fn a_rename_replaces_files_and_fails_as_the_kernel_says() {
    let dir = tempfile::tempdir().unwrap();
    let rename = |from: &str, to: &str| R::Rename {
        from: at(dir.path().join(from)),
        to: at(dir.path().join(to)),
    };
    fs::write(dir.path().join("a"), "a").unwrap();
    fs::write(dir.path().join("b"), "b").unwrap();
    fs::create_dir_all(dir.path().join("full/of")).unwrap();
    fs::create_dir(dir.path().join("empty")).unwrap();
    done(rename("a", "b"));
    assert_eq!(fs::read(dir.path().join("b")).unwrap(), b"a");
    assert_eq!(kind(rename("a", "c")), K::NotFound);
    assert_eq!(kind(rename("b", "full")), K::IsADirectory);
    assert_eq!(kind(rename("full", "b")), K::NotADirectory);
    assert_eq!(kind(rename("empty", "full")), K::NotEmpty);
    assert_eq!(kind(rename("full", "full/of/x")), K::InvalidArgument);
    let away = R::Rename {
        from: at(dir.path().join("b")),
        to: Bytes::from_static(b"/proc/b"),
    };
    assert_eq!(kind(away), K::CrossDevice);
}

#[test]
fn files_and_trees_are_copied_within_the_guest() {
    let dir = tempfile::tempdir().unwrap();
    let copy = |from: &str, to: &str| R::Copy {
        from: at(dir.path().join(from)),
        to: at(dir.path().join(to)),
    };
    fs::create_dir_all(dir.path().join("tree/a")).unwrap();
    fs::write(dir.path().join("tree/a/file"), "content").unwrap();
    fs::write(dir.path().join("other"), "other").unwrap();
    done(copy("tree/a/file", "other"));
    assert_eq!(fs::read(dir.path().join("other")).unwrap(), b"content");
    done(copy("tree", "copy"));
    assert_eq!(
        fs::read(dir.path().join("copy/a/file")).unwrap(),
        b"content"
    );
    assert_eq!(kind(copy("tree", "tree/a/copy")), K::InvalidArgument);
    assert_eq!(kind(copy("tree", "copy")), K::NotEmpty);
    assert_eq!(kind(copy("tree", "other")), K::NotADirectory);
    assert_eq!(kind(copy("other", "tree")), K::IsADirectory);
    assert_eq!(kind(copy("none", "x")), K::NotFound);
    // Nothing of what failed is left, visible or hidden.
    let mut names: Vec<_> = fs::read_dir(dir.path())
        .unwrap()
        .map(|entry| entry.unwrap().file_name())
        .collect();
    names.sort();
    assert_eq!(names, ["copy", "other", "tree"]);
}

#[test]
fn links_are_made_and_read_whatever_they_say() {
    let dir = tempfile::tempdir().unwrap();
    let link = dir.path().join("link");
    let make = |target: &'static [u8]| R::Symlink {
        target: Bytes::from_static(target),
        path: at(&link),
    };
    done(make(b"no/such/\xff"));
    let read = |path: &Path| R::ReadLink { path: at(path) };
    assert_eq!(
        ask(read(&link)),
        [FsAnswer::Target(Bytes::from_static(b"no/such/\xff"))]
    );
    assert_eq!(kind(make(b"x")), K::AlreadyExists);
    assert_eq!(kind(make(b"")), K::InvalidName);
    assert_eq!(kind(read(dir.path())), K::InvalidArgument);
    assert_eq!(kind(read(&dir.path().join("none"))), K::NotFound);
}
