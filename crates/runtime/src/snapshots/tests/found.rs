//! Finding and removing them.

use super::*;

fn missing<T: std::fmt::Debug>(result: Result<T, SnapshotError>) {
    assert!(
        matches!(result, Err(SnapshotError::Missing { .. })),
        "{result:?}"
    );
}

#[test]
fn by_name_digest_or_path() {
    let home = Home::new();
    home.stopped(&config("web"));
    let base = home.named("web", "base");
    let digest = base.sealed().digest().to_string();
    let path = base.path().to_str().unwrap();
    for which in ["base", &digest, path] {
        let found = home.snapshots.find(which).unwrap();
        assert_eq!(found.name.as_deref(), Some("base"), "{which}");
        assert_eq!(found.dir.sealed().digest(), base.sealed().digest());
    }
    for which in [
        "other",
        "",
        "../snapshots/base/x",
        "sha256:0",
        ".elsewhere",
        "a b",
    ] {
        missing(home.snapshots.find(which));
    }
    missing(home.snapshots.find(&image().to_string()));
    // Something that is no snapshot is none.
    let foreign = home.snapshots.find(home.path().to_str().unwrap());
    assert!(matches!(foreign, Err(SnapshotError::Foreign { .. })));
}

#[test]
fn a_home_without_any_has_none() {
    let home = Home::new();
    assert_eq!(home.names(), [""; 0]);
    assert!(home.snapshots.images_in_use().unwrap().is_empty());
    assert_eq!(home.snapshots.reindex(home.path()).unwrap(), 0);
    missing(home.snapshots.find("base"));
}

#[test]
fn one_that_cannot_be_read_hides_no_other() {
    let home = Home::new();
    home.stopped(&config("web"));
    home.named("web", "first");
    let broken = home.named("web", "broken");
    home.named("web", "last");
    scribble(&broken.path().join("manifest.json"), b"{");
    fs::write(home.snapshots.dir().join("notes.txt"), "mine").unwrap();
    fs::create_dir(home.snapshots.dir().join("empty")).unwrap();
    assert_eq!(home.names(), ["first", "last"]);
    assert!(matches!(
        home.snapshots.find("broken"),
        Err(SnapshotError::Manifest { .. })
    ));
    // Nobody knows which image that one needs, so nobody may say that it is free.
    assert!(home.snapshots.images_in_use().is_err());
    fs::remove_file(broken.path().join("manifest.json")).unwrap();
    let used = home.snapshots.images_in_use().unwrap();
    assert_eq!(used, BTreeSet::from([image()]));
}

#[test]
fn elsewhere() {
    let home = Home::new();
    let outside = tempfile::tempdir().unwrap();
    let place = outside.path().join("disk/base");
    home.stopped(&config("web"));
    let taken = home.take("web", Target::Path(place.clone())).unwrap();
    let digest = taken.sealed().digest().to_string();
    let found = home.snapshots.find(&digest).unwrap();
    assert_eq!((found.name, found.dir.path()), (None, place.as_path()));
    assert_eq!(home.snapshots.list().unwrap().len(), 1);
    assert!(home.snapshots.images_in_use().unwrap().contains(&image()));

    // Not there just now: its image is still needed.
    let away = outside.path().join("away");
    fs::rename(outside.path().join("disk"), &away).unwrap();
    missing(home.snapshots.find(&digest));
    assert!(home.snapshots.list().unwrap().is_empty());
    assert!(home.snapshots.images_in_use().unwrap().contains(&image()));
    // Found again where it is now.
    assert_eq!(home.snapshots.reindex(&away).unwrap(), 1);
    let found = home.snapshots.find(&digest).unwrap();
    assert_eq!(found.dir.path(), away.join("base"));

    // Deleted by hand: its place is there, and it is not.
    fs::remove_dir_all(away.join("base")).unwrap();
    missing(home.snapshots.find(&digest));
    assert!(home.snapshots.images_in_use().unwrap().is_empty());
    let signposts = home.snapshots.dir().join(".elsewhere");
    assert_eq!(fs::read_dir(&signposts).unwrap().count(), 1);
    assert_eq!(home.snapshots.reindex(&away).unwrap(), 0);
    assert_eq!(fs::read_dir(&signposts).unwrap().count(), 0);
}

#[test]
fn a_signpost_is_believed_as_far_as_it_leads_to_what_it_says() {
    let home = Home::new();
    let outside = tempfile::tempdir().unwrap();
    let place = outside.path().join("base");
    home.stopped(&config("web"));
    let first = home.take("web", Target::Path(place.clone())).unwrap();
    let digest = first.sealed().digest().to_string();
    first.remove().unwrap();
    // Another took its place, by another home's hand.
    let other = Home::new();
    other.stopped(&config("web"));
    other.take("web", Target::Path(place.clone())).unwrap();
    missing(home.snapshots.find(&digest));
    assert!(home.snapshots.list().unwrap().is_empty());
    // Others lie there that are none.
    let signposts = home.snapshots.dir().join(".elsewhere");
    fs::write(signposts.join("x"), "x").unwrap();
    std::os::unix::fs::symlink("/", signposts.join("0.0")).unwrap();
    assert!(home.snapshots.list().unwrap().is_empty());
    home.snapshots.images_in_use().unwrap();
}

#[test]
fn removed_it_is_gone_and_what_comes_from_it_stays() {
    let home = Home::new();
    home.stopped(&config("web"));
    let base = home.named("web", "base");
    home.stopped(&child("next", &base));
    home.named("next", "next");
    let refused = home.snapshots.remove("base", false);
    let Err(RemoveSnapshotError::HasChildren { child }) = refused else {
        panic!("{refused:?}");
    };
    assert_eq!(child, home.snapshots.dir().join("next"));
    home.snapshots
        .remove(&base.sealed().digest().to_string(), true)
        .unwrap();
    assert_eq!(home.names(), ["next"]);
    let left = home.snapshots.find("next").unwrap();
    left.dir.verify(&mut always).unwrap();
    home.snapshots.remove("next", false).unwrap();
    assert_eq!(home.names(), [""; 0]);
    assert!(matches!(
        home.snapshots.remove("next", true),
        Err(RemoveSnapshotError::Snapshot(SnapshotError::Missing { .. }))
    ));
    assert!(home.snapshots.images_in_use().unwrap().is_empty());
    assert_eq!(fs::read_dir(home.snapshots.dir()).unwrap().count(), 0);
}

#[test]
fn removing_what_is_no_snapshot_removes_nothing() {
    let home = Home::new();
    home.stopped(&config("web"));
    let base = home.named("web", "base");
    let stray = base.path().join("thesis.txt");
    fs::write(&stray, "years of work").unwrap();
    for which in ["base", home.path().to_str().unwrap(), "/", "/etc"] {
        assert!(home.snapshots.remove(which, true).is_err(), "{which}");
    }
    assert!(stray.exists() && home.path().join("db").exists());
    // One elsewhere goes, and its signpost with it.
    let outside = tempfile::tempdir().unwrap();
    let place = outside.path().join("base");
    home.take("web", Target::Path(place.clone())).unwrap();
    home.snapshots
        .remove(place.to_str().unwrap(), false)
        .unwrap();
    assert!(!place.exists());
    let signposts = home.snapshots.dir().join(".elsewhere");
    assert_eq!(fs::read_dir(signposts).unwrap().count(), 0);
}
