//! Sending them to other homes.

use super::*;

fn export(home: &Home, which: &str, export: Export) -> PathBuf {
    let out = home.path().join("archive");
    home.snapshots
        .export(which, &out, export, &mut always)
        .unwrap();
    out
}

fn import(home: &Home, archive: &Path, dest: Option<&Path>) -> Result<Found, SnapshotError> {
    home.snapshots.import(archive, dest, &mut always)
}

/// A home with a line of three snapshots.
fn line() -> Home {
    let home = Home::new();
    home.stopped(&config("a"));
    let mut last = home.named("a", "a");
    for name in ["b", "c"] {
        home.stopped(&child(name, &last));
        last = home.named(name, name);
    }
    home
}

#[test]
fn alone_or_with_those_that_it_comes_from() {
    let home = line();
    for (with_parents, expected) in [(false, &["c"][..]), (true, &["a", "b", "c"])] {
        for plain_tar in [false, true] {
            let archive = export(
                &home,
                "c",
                Export {
                    with_parents,
                    plain_tar,
                    ..Export::default()
                },
            );
            let other = Home::new();
            let found = import(&other, &archive, None).unwrap();
            assert_eq!(found.name.as_deref(), Some("c"));
            assert_eq!(other.names(), expected);
            for name in expected {
                let there = other.snapshots.find(name).unwrap();
                assert_eq!(word(&there.dir), *name);
                there.dir.verify(&mut always).unwrap();
                let here = home.snapshots.find(name).unwrap();
                assert_eq!(there.dir.sealed(), here.dir.sealed());
            }
            // Once more, and nothing is new.
            let again = import(&other, &archive, None).unwrap();
            assert_eq!(again.dir.sealed(), found.dir.sealed());
            assert_eq!(other.names(), expected);
            let left = fs::read_dir(other.snapshots.dir()).unwrap();
            assert_eq!(left.count(), expected.len());
        }
    }
}

#[test]
fn the_image_that_is_asked_for_has_to_be_here() {
    let home = line();
    let out = home.path().join("archive");
    let export = Export {
        with_image: true,
        ..Export::default()
    };
    let refused = home.snapshots.export("c", &out, export, &mut always);
    assert!(
        matches!(refused, Err(SnapshotError::ImageMissing { image: missing }) if missing == image())
    );
    assert!(!out.exists());
}

#[test]
fn what_has_the_name_already_stays() {
    let home = line();
    let archive = export(
        &home,
        "b",
        Export {
            with_parents: true,
            ..Export::default()
        },
    );
    // The one that is asked for keeps its name or does not come.
    let other = Home::new();
    other.stopped(&config("b"));
    let theirs = other.named("b", "b");
    let refused = import(&other, &archive, None);
    assert!(
        matches!(refused, Err(SnapshotError::Exists { .. })),
        "{refused:?}"
    );
    let there = other.snapshots.find("b").unwrap();
    assert_eq!(there.dir.sealed(), theirs.sealed());

    // One that comes along is called otherwise.
    let other = Home::new();
    other.stopped(&config("a"));
    other.named("a", "a");
    let found = import(&other, &archive, None).unwrap();
    let parent = found.dir.sealed().parent().unwrap();
    let along = other.snapshots.by_digest(&parent).unwrap().unwrap();
    assert_eq!(along.name, Some(parent.hex()));
    assert_eq!(other.names().len(), 3);
}

#[test]
fn to_another_directory() {
    let home = line();
    let archive = export(&home, "a", Export::default());
    let other = Home::new();
    let outside = tempfile::tempdir().unwrap();
    let dest = outside.path().join("snapshots");
    let found = import(&other, &archive, Some(&dest)).unwrap();
    assert_eq!(
        (found.name, found.dir.path()),
        (None, dest.join("a").as_path())
    );
    let digest = found.dir.sealed().digest();
    assert!(other.snapshots.by_digest(&digest).unwrap().is_some());
}

#[test]
fn what_is_no_archive_leaves_nothing() {
    let home = line();
    let archive = export(&home, "a", Export::default());
    let mut bytes = fs::read(&archive).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    fs::write(&archive, bytes).unwrap();
    let other = Home::new();
    for archive in [&archive, Path::new("/dev/null"), Path::new("/etc/passwd")] {
        let refused = import(&other, archive, None);
        assert!(
            matches!(refused, Err(SnapshotError::Archive { .. })),
            "{refused:?}"
        );
    }
    let gone = import(&other, Path::new("/no/such/archive"), None);
    assert!(matches!(gone, Err(SnapshotError::Io { .. })));
    assert_eq!(fs::read_dir(other.snapshots.dir()).unwrap().count(), 0);
}

#[test]
fn an_archive_is_whole_or_not_there() {
    let home = line();
    let dir = home.path().join("out");
    fs::create_dir(&dir).unwrap();
    let out = dir.join("a.tar.zst");
    fs::write(&out, "what was there").unwrap();
    let mut never = || Err(io::ErrorKind::Interrupted.into());
    let ended = home
        .snapshots
        .export("a", &out, Export::default(), &mut never);
    assert!(ended.is_err());
    assert_eq!(fs::read(&out).unwrap(), b"what was there");
    assert_eq!(fs::read_dir(&dir).unwrap().count(), 1);
    home.snapshots
        .export("a", &out, Export::default(), &mut always)
        .unwrap();
    assert_ne!(fs::read(&out).unwrap(), b"what was there");
    let missing = home
        .snapshots
        .export("x", &out, Export::default(), &mut always);
    assert!(matches!(missing, Err(SnapshotError::Missing { .. })));
}
