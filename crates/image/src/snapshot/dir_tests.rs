//! Directories of snapshots: made, found, changed by others, replaced and removed, and makers that are killed.

use std::fs::Permissions;
use std::io::Write;
use std::os::unix::fs::{FileExt, PermissionsExt, symlink};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use super::*;
use crate::snapshot::capture::Capture;
use crate::snapshot::manifest::{ImageRef, Manifest};
use crate::snapshot::{Staging, always, sweep};

/// Where the process that is killed makes its snapshots.
const DIR: &str = "MSB_TEST_SNAPSHOT_DIR";

fn disk(marker: u8) -> File {
    let disk = tempfile::tempfile().unwrap();
    disk.set_len(1 << 20).unwrap();
    disk.write_all_at(&[marker; 4096], 1 << 16).unwrap();
    disk
}

fn manifest() -> Manifest {
    let image = ImageRef {
        manifest_digest: Digest::of(b"image").to_string(),
        reference: "python:3.12".to_owned(),
    };
    Manifest::new(image, Some("web".to_owned()), 0)
}

fn capture(disk: &File) -> Capture<'_> {
    Capture {
        upper: disk,
        patch: None,
        manifest: manifest(),
        record_integrity: true,
    }
}

fn make(target: &Path, marker: u8, replace: bool) -> Result<SnapshotDir> {
    capture(&disk(marker)).make(target, replace, &mut always)
}

fn patched(target: &Path) -> SnapshotDir {
    let file = |bytes: &[u8]| {
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(bytes).unwrap();
        file
    };
    let disk = disk(1);
    let capture = Capture {
        patch: Some(PatchFiles {
            index: file(b"index"),
            data: file(&[5; 8192]),
        }),
        ..capture(&disk)
    };
    capture.make(target, false, &mut always).unwrap()
}

fn marker(snapshot: &SnapshotDir) -> u8 {
    let mut byte = [0];
    snapshot
        .upper()
        .unwrap()
        .read_exact_at(&mut byte, 1 << 16)
        .unwrap();
    byte[0]
}

fn names(dir: &Path) -> Vec<String> {
    let names = fs::read_dir(dir).unwrap();
    let mut names: Vec<_> = names
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    names
}

/// As somebody would who may write there.
fn scribble(path: &Path, bytes: &[u8]) {
    fs::set_permissions(path, Permissions::from_mode(0o600)).unwrap();
    fs::write(path, bytes).unwrap();
}

#[test]
fn what_is_made_is_there_whole_and_removed_leaves_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let target = dir.path().join("base");
    let made = make(&target, 7, false).unwrap();
    assert_eq!(names(&target), ["manifest.json", "upper.ext4"]);
    assert_eq!(names(dir.path()), ["base"]);
    let bytes = fs::read(target.join("manifest.json")).unwrap();
    assert_eq!(made.sealed().digest(), Digest::of(&bytes));
    let opened = SnapshotDir::open(&target).unwrap();
    assert_eq!(opened.sealed(), made.sealed());
    assert_eq!(marker(&opened), 7);
    let UpperState::Verified { algorithm, digest } = opened.verify(&mut always).unwrap() else {
        panic!("it was recorded");
    };
    assert_eq!(algorithm, "msb-sparse-sha256-v1");
    let recorded = opened.sealed().manifest().upper.integrity.clone().unwrap();
    assert_eq!(recorded.digest, digest.to_string());
    // It can be read while it is removed.
    let upper = opened.upper().unwrap();
    opened.remove().unwrap();
    assert!(names(dir.path()).is_empty());
    assert_eq!(upper.metadata().unwrap().len(), 1 << 20);
    assert!(matches!(
        SnapshotDir::open(&target),
        Err(SnapshotError::Missing { .. })
    ));
}

#[test]
fn patches_go_with_it() {
    let dir = tempfile::tempdir().unwrap();
    let target = dir.path().join("base");
    let made = patched(&target);
    let mut data = Vec::new();
    let mut files = made.patch().unwrap().unwrap();
    files.data.read_to_end(&mut data).unwrap();
    assert_eq!(data, [5; 8192]);
    made.verify(&mut always).unwrap();
    scribble(&target.join("patch/data"), &[6; 8192]);
    assert!(matches!(
        made.verify(&mut always),
        Err(SnapshotError::Damaged { .. })
    ));
    made.remove().unwrap();
    assert!(names(dir.path()).is_empty());
}

#[test]
fn what_changed_since_is_noticed() {
    let dir = tempfile::tempdir().unwrap();
    let target = dir.path().join("base");
    let made = make(&target, 7, false).unwrap();
    let mut bytes = fs::read(target.join("upper.ext4")).unwrap();
    bytes[9] = 1;
    scribble(&target.join("upper.ext4"), &bytes);
    // Reading all of it is for who asks for it.
    SnapshotDir::open(&target).unwrap();
    let damaged = |result: Result<SnapshotDir>| {
        assert!(
            matches!(&result, Err(SnapshotError::Damaged { .. })),
            "{result:?}"
        );
    };
    damaged(made.verify(&mut always).map(|_| made));
    scribble(&target.join("upper.ext4"), b"short");
    damaged(SnapshotDir::open(&target));
    fs::remove_file(target.join("upper.ext4")).unwrap();
    damaged(SnapshotDir::open(&target));
    // Nothing that is a link is followed.
    symlink("/etc/passwd", target.join("upper.ext4")).unwrap();
    assert!(SnapshotDir::open(&target).is_err());
    scribble(&target.join("manifest.json"), b"{}");
    assert!(matches!(
        SnapshotDir::look(&target),
        Err(SnapshotError::Manifest { .. })
    ));
}

#[test]
fn another_in_its_place_is_not_it() {
    let dir = tempfile::tempdir().unwrap();
    let target = dir.path().join("base");
    let made = make(&target, 7, false).unwrap();
    make(&target, 8, true).unwrap();
    assert!(matches!(
        made.verify(&mut always),
        Err(SnapshotError::Damaged { .. })
    ));
}

#[test]
fn one_that_is_damaged_can_be_removed_and_replaced() {
    let dir = tempfile::tempdir().unwrap();
    let target = dir.path().join("base");
    make(&target, 7, false).unwrap();
    scribble(&target.join("upper.ext4"), b"short");
    let replaced = make(&target, 8, true).unwrap();
    assert_eq!(marker(&replaced), 8);
    fs::remove_file(target.join("upper.ext4")).unwrap();
    SnapshotDir::look(&target).unwrap().remove().unwrap();
    assert!(names(dir.path()).is_empty());
}

#[test]
fn what_is_there_stays_unless_it_is_a_snapshot_and_may_go() {
    let dir = tempfile::tempdir().unwrap();
    let target = dir.path().join("base");
    make(&target, 7, false).unwrap();
    assert!(matches!(
        make(&target, 8, false),
        Err(SnapshotError::Exists { .. })
    ));
    assert_eq!(marker(&SnapshotDir::open(&target).unwrap()), 7);
    assert_eq!(marker(&make(&target, 8, true).unwrap()), 8);
    assert_eq!(names(dir.path()), ["base"]);

    // With something in it that no snapshot has, it may be anybody's.
    fs::write(target.join("thesis.txt"), "years of work").unwrap();
    assert!(matches!(
        make(&target, 9, true),
        Err(SnapshotError::Foreign { .. })
    ));
    assert!(matches!(
        SnapshotDir::open(&target).unwrap().remove(),
        Err(SnapshotError::Foreign { .. })
    ));
    assert_eq!(names(&target).len(), 3);

    let project = dir.path().join("project");
    fs::create_dir_all(project.join("src")).unwrap();
    let file = dir.path().join("file");
    fs::write(&file, "text").unwrap();
    let empty = dir.path().join("empty");
    fs::create_dir(&empty).unwrap();
    for other in [&project, &file, &empty] {
        for (replace, kind) in [(true, true), (false, false)] {
            let refused = make(other, 9, replace).unwrap_err();
            let is_foreign = matches!(refused, SnapshotError::Foreign { .. });
            assert_eq!(is_foreign, kind, "{refused:?}");
        }
        assert!(SnapshotDir::look(other).is_err());
    }
    assert_eq!(names(&project), ["src"]);
    assert_eq!(fs::read(&file).unwrap(), b"text");
    assert_eq!(names(dir.path()).len(), 4);
}

#[test]
fn links_lead_nobody_to_what_is_not_the_snapshots() {
    let dir = tempfile::tempdir().unwrap();
    let theirs = dir.path().join("theirs");
    fs::create_dir(&theirs).unwrap();
    fs::write(theirs.join("index"), "years of work").unwrap();
    let target = dir.path().join("base");
    let made = make(&target, 7, false).unwrap();
    symlink(&theirs, target.join("patch")).unwrap();
    assert!(matches!(made.remove(), Err(SnapshotError::Foreign { .. })));
    let replaced = make(&target, 8, true);
    assert!(matches!(replaced, Err(SnapshotError::Foreign { .. })));
    // Not even where it has the name of something that was given up.
    let left = dir.path().join(format!("{STAGING}left"));
    fs::create_dir(&left).unwrap();
    symlink(&theirs, left.join("patch")).unwrap();
    sweep(dir.path());
    assert_eq!(names(&theirs), ["index"]);
    assert_eq!(names(&left), ["patch"]);
}

#[test]
fn a_staging_given_up_is_deleted_and_one_in_use_is_left_alone() {
    let dir = tempfile::tempdir().unwrap();
    let staging = Staging::begin(dir.path()).unwrap();
    staging.upper().unwrap();
    staging.patch().unwrap();
    sweep(dir.path());
    assert_eq!(names(staging.path()), ["patch", "upper.ext4"]);
    drop(staging);
    assert!(names(dir.path()).is_empty());

    // As after a kill: the files stay, the lock does not.
    let left = dir.path().join(format!("{STAGING}left"));
    fs::create_dir_all(left.join("patch")).unwrap();
    fs::write(left.join("upper.ext4"), "half").unwrap();
    // And what somebody else called so keeps what is theirs.
    let theirs = dir.path().join(format!("{STAGING}theirs"));
    fs::create_dir(&theirs).unwrap();
    fs::write(theirs.join("thesis.txt"), "years of work").unwrap();
    let base = dir.path().join("base");
    make(&base, 1, false).unwrap();
    symlink(&base, dir.path().join(format!("{STAGING}link"))).unwrap();
    sweep(dir.path());
    assert!(!left.exists());
    assert_eq!(names(&theirs), ["thesis.txt"]);
    assert_eq!(names(&base), ["manifest.json", "upper.ext4"]);
}

#[test]
fn many_at_one_place_make_one() {
    let dir = tempfile::tempdir().unwrap();
    let target = dir.path().join("base");
    let made = std::thread::scope(|scope| {
        let makers: Vec<_> = (1..9)
            .map(|marker| {
                let target = &target;
                scope.spawn(move || make(target, marker, false).map(|made| self::marker(&made)))
            })
            .collect();
        let made = makers.into_iter().map(|maker| maker.join().unwrap());
        made.filter_map(|made| match made {
            Ok(marker) => Some(marker),
            Err(SnapshotError::Exists { .. }) => None,
            Err(error) => panic!("{error:?}"),
        })
        .collect::<Vec<_>>()
    });
    assert_eq!(made, [marker(&SnapshotDir::open(&target).unwrap())]);
    assert_eq!(names(dir.path()), ["base"]);
}

/// Not a test of its own: the process that the next one kills. It makes snapshots for ever, one in the
/// place of the other, and removes some.
#[test]
fn maker() {
    let Some(dir) = std::env::var_os(DIR) else {
        return;
    };
    let target = Path::new(&dir).join("base");
    for round in 1_u64.. {
        let marker = u8::try_from(round % 200).unwrap();
        make(&target, marker, true).unwrap();
        if round.is_multiple_of(3) {
            SnapshotDir::look(&target).unwrap().remove().unwrap();
        }
    }
}

#[test]
fn a_kill_at_any_moment_leaves_a_whole_one_or_none() {
    let dir = tempfile::tempdir().unwrap();
    let target = dir.path().join("base");
    let program = std::env::current_exe().unwrap();
    for round in 0..20 {
        let mut child = Command::new(&program)
            .args(["--exact", "snapshot::dir::tests::maker"])
            .env(DIR, dir.path())
            .stdout(Stdio::null())
            .spawn()
            .unwrap();
        // Until it has made some, and then at another moment each time.
        let deadline = Instant::now() + Duration::from_secs(60);
        let mut seen = 0;
        while seen < 20 + round * 7 {
            seen += u32::from(SnapshotDir::open(&target).is_ok());
            assert!(Instant::now() < deadline, "the maker makes nothing");
        }
        child.kill().unwrap();
        child.wait().unwrap();
        match SnapshotDir::open(&target) {
            Ok(whole) => assert!(matches!(
                whole.verify(&mut always),
                Ok(UpperState::Verified { .. })
            )),
            Err(SnapshotError::Missing { .. }) => {}
            Err(error) => panic!("{error:?}"),
        }
        sweep(dir.path());
        let left = names(dir.path());
        assert!(left.iter().all(|name| name == "base"), "{left:?}");
    }
}
