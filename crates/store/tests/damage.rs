//! Files that are no catalogs, or were: an error that says which, never a panic, and a
//! rebuild that puts a good one in their place.
#![allow(clippy::unwrap_used)]

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::sync::OnceLock;
use std::sync::mpsc::channel;
use std::time::{Duration, Instant};

use msb_store::{
    Catalog, LabelFilter, NewSandbox, OpenOptions, Rebuilt, SandboxRecord, StoreError, rebuild,
};
use proptest::prelude::*;

/// The bytes of a catalog that holds some sandboxes.
fn good() -> &'static [u8] {
    static GOOD: OnceLock<Vec<u8>> = OnceLock::new();
    GOOD.get_or_init(|| {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("catalog.redb");
        let catalog = Catalog::open(&path, OpenOptions::default()).unwrap();
        for number in 0..20 {
            let mut new = NewSandbox::new(format!("box-{number}"), "c".repeat(200));
            new.labels.insert("number".into(), number.to_string());
            catalog.insert(new).unwrap();
        }
        let bytes = fs::read(&path).unwrap();
        drop(catalog);
        bytes
    })
}

fn records(names: &[&str]) -> Vec<SandboxRecord> {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("catalog.redb");
    let catalog = Catalog::open(&path, OpenOptions::default()).unwrap();
    names
        .iter()
        .map(|name| {
            let mut new = NewSandbox::new(*name, "{}");
            new.labels.insert("of".into(), name.to_string());
            catalog.insert(new).unwrap()
        })
        .collect()
}

/// Uses a file as a catalog in every way. The outcome must be a good answer or a typed error.
fn use_it(path: &Path) -> Result<(), StoreError> {
    let catalog = Catalog::open(path, OpenOptions::default())?;
    catalog.list(&LabelFilter::all())?;
    catalog.list(&LabelFilter::from_iter([("number", "3")]))?;
    catalog.get("box-3")?;
    catalog.insert(NewSandbox::new("new", "{}"))?;
    catalog
        .remove_if("box-3", |_| Ok::<_, ()>(()))
        .map(|_| ())?;
    Ok(())
}

fn is_said(result: &Result<(), StoreError>) -> bool {
    matches!(
        result,
        Ok(())
            | Err(StoreError::Damaged { .. }
                | StoreError::Foreign { .. }
                | StoreError::NotFound { .. }
                | StoreError::NewerSchema { .. })
    )
}

#[test]
fn files_of_other_kinds_are_named() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("catalog.redb");
    for (bytes, foreign) in [
        (b"SQLite format 3\0".as_slice(), true),
        (b"{}", true),
        (&[0; 100_000], true),
        (b"", false),
        (&good()[..5], false),
        (&good()[..100], false),
        (&good()[..5000], false),
        (&good()[..good().len() - 1], false),
    ] {
        fs::write(&path, bytes).unwrap();
        let error = Catalog::open(&path, OpenOptions::default()).unwrap_err();
        assert_eq!(
            matches!(error, StoreError::Foreign { .. }),
            foreign,
            "{} bytes: {error:?}",
            bytes.len()
        );
        assert_eq!(
            matches!(error, StoreError::Damaged { .. }),
            !foreign,
            "{} bytes: {error:?}",
            bytes.len()
        );
        assert_eq!(fs::read(&path).unwrap(), bytes, "it was touched");
    }
    fs::remove_file(&path).unwrap();
    fs::create_dir(&path).unwrap();
    Catalog::open(&path, OpenOptions::default()).unwrap_err();
    let below = dir.path().join("file/catalog.redb");
    fs::write(dir.path().join("file"), "").unwrap();
    Catalog::open(&below, OpenOptions::default()).unwrap_err();
}

#[test]
fn a_damaged_catalog_is_rebuilt_and_kept() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("catalog.redb");
    let wanted = records(&["a", "b"]);
    for round in 1..=2 {
        let garbage = format!("garbage {round}");
        fs::write(&path, &garbage).unwrap();
        let done = rebuild(&path, wanted.clone(), OpenOptions::default()).unwrap();
        let damaged = dir.path().join(format!("catalog.redb.damaged-{round}"));
        assert_eq!(
            done,
            Rebuilt::Replaced {
                damaged: damaged.clone()
            }
        );
        assert_eq!(fs::read_to_string(damaged).unwrap(), garbage);
        let catalog = Catalog::open(&path, OpenOptions::default()).unwrap();
        assert_eq!(catalog.list(&LabelFilter::all()).unwrap(), wanted);
        let some = LabelFilter::from_iter([("of", "b")]);
        assert_eq!(catalog.list(&some).unwrap().len(), 1);
        assert_eq!(catalog.insert(NewSandbox::new("c", "{}")).unwrap().id, 3);
        // Whoever comes second loses nothing of what came after the first.
        let again = rebuild(&path, [], OpenOptions::default()).unwrap();
        assert_eq!(again, Rebuilt::Healthy);
        assert_eq!(catalog.list(&LabelFilter::all()).unwrap().len(), 3);
    }
    let missing = dir.path().join("other/catalog.redb");
    assert_eq!(
        rebuild(&missing, wanted, OpenOptions::default()).unwrap(),
        Rebuilt::Created
    );
}

#[test]
fn ids_that_are_missing_or_double_are_given_anew() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("catalog.redb");
    let mut some = records(&["a", "b", "c"]);
    some[0].id = 0;
    some[2].id = 2;
    rebuild(&path, some.clone(), OpenOptions::default()).unwrap();
    let catalog = Catalog::open(&path, OpenOptions::default()).unwrap();
    let mut ids: Vec<_> = catalog
        .list(&LabelFilter::all())
        .unwrap()
        .iter()
        .map(|record| record.id)
        .collect();
    ids.sort_unstable();
    assert_eq!(ids, [2, 3, 4]);

    fs::write(&path, "garbage").unwrap();
    some[2].name = "a".into();
    assert!(matches!(
        rebuild(&path, some, OpenOptions::default()),
        Err(StoreError::AlreadyExists { name }) if name == "a"
    ));
    assert_eq!(fs::read_to_string(&path).unwrap(), "garbage");
}

#[test]
fn an_open_catalog_follows_a_replacement() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("catalog.redb");
    let open = Catalog::open(&path, OpenOptions::default()).unwrap();
    open.insert(NewSandbox::new("old", "{}")).unwrap();
    let old = fs::metadata(&path).unwrap().ino();

    // The open file is put aside the way a rebuild does it, and another takes its name.
    let other = dir.path().join("other.redb");
    rebuild(&other, records(&["a"]), OpenOptions::default()).unwrap();
    fs::hard_link(&path, dir.path().join("aside")).unwrap();
    fs::rename(&other, &path).unwrap();

    assert!(open.get("old").unwrap().is_none());
    open.insert(NewSandbox::new("new", "{}")).unwrap();
    let fresh = Catalog::open(&path, OpenOptions::default()).unwrap();
    assert!(fresh.get("new").unwrap().is_some());
    assert_ne!(fs::metadata(&path).unwrap().ino(), old);
    let aside = Catalog::open(&dir.path().join("aside"), OpenOptions::default()).unwrap();
    let names: Vec<_> = aside
        .list(&LabelFilter::all())
        .unwrap()
        .into_iter()
        .map(|record| record.name)
        .collect();
    assert_eq!(names, ["old"], "it was written to after it was put aside");

    // One that is deleted is made anew, and the open one goes there too.
    fs::remove_file(&path).unwrap();
    open.insert(NewSandbox::new("later", "{}")).unwrap();
    assert!(fresh.get("later").unwrap().is_some());
}

/// Waits until somebody waits for a lock on the file.
fn until_awaited(inode: u64) {
    let began = Instant::now();
    let of_it = format!(":{inode} ");
    while !fs::read_to_string("/proc/locks")
        .unwrap()
        .lines()
        .any(|line| line.contains("->") && line.contains(&of_it))
    {
        assert!(began.elapsed() < Duration::from_secs(60), "nobody waits");
        std::thread::yield_now();
    }
}

#[test]
fn a_write_that_waited_goes_into_the_file_that_is_there_now() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("catalog.redb");
    let [holder, waiter] = [(); 2].map(|()| Catalog::open(&path, OpenOptions::default()).unwrap());
    holder.insert(NewSandbox::new("a", "{}")).unwrap();
    let old = fs::metadata(&path).unwrap().ino();
    let other = dir.path().join("other.redb");
    rebuild(&other, records(&["a"]), OpenOptions::default()).unwrap();

    let (enter, entered) = channel();
    let (release, released) = channel::<()>();
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let refused = holder.update("a", move |_| {
                enter.send(()).unwrap();
                let _ = released.recv();
                Err(())
            });
            assert_eq!(refused.unwrap(), Err(()));
        });
        entered.recv().unwrap();
        scope.spawn(|| waiter.insert(NewSandbox::new("new", "{}")).unwrap());
        until_awaited(old);
        fs::hard_link(&path, dir.path().join("aside")).unwrap();
        fs::rename(&other, &path).unwrap();
        drop(release);
    });
    let has_it = |path: &Path| {
        let catalog = Catalog::open(path, OpenOptions::default()).unwrap();
        catalog.get("new").unwrap().is_some()
    };
    assert!(has_it(&path));
    assert!(!has_it(&dir.path().join("aside")));
}

#[test]
fn a_rebuild_waits_for_a_write_to_end() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("catalog.redb");
    let holder = Catalog::open(&path, OpenOptions::default()).unwrap();
    holder.insert(NewSandbox::new("a", "{}")).unwrap();
    let lock = fs::metadata(dir.path().join("catalog.redb.lock")).unwrap();

    let (enter, entered) = channel();
    let (release, released) = channel::<()>();
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let _ = holder.update("a", move |_| {
                enter.send(()).unwrap();
                let _ = released.recv();
                Err(())
            });
        });
        entered.recv().unwrap();
        // The path names a damaged file while a write is still in the old one.
        fs::write(dir.path().join("bad"), "garbage").unwrap();
        fs::rename(dir.path().join("bad"), &path).unwrap();
        let rebuilding =
            scope.spawn(|| rebuild(&path, records(&["b"]), OpenOptions::default()).unwrap());
        until_awaited(lock.ino());
        assert_eq!(fs::read_to_string(&path).unwrap(), "garbage");
        drop(release);
        assert!(matches!(
            rebuilding.join().unwrap(),
            Rebuilt::Replaced { .. }
        ));
    });
    assert!(holder.get("b").unwrap().is_some());
}

#[test]
fn rebuilders_do_not_collide() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("catalog.redb");
    fs::write(&path, "garbage").unwrap();
    let wanted = records(&["a", "b"]);
    let done: Vec<_> = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..8)
            .map(|number| {
                let (wanted, path) = (wanted.clone(), &path);
                scope.spawn(move || {
                    let done = rebuild(path, wanted, OpenOptions::default()).unwrap();
                    // What is added right after a rebuild stays, whoever else rebuilds.
                    let catalog = Catalog::open(path, OpenOptions::default()).unwrap();
                    let new = NewSandbox::new(format!("new-{number}"), "{}");
                    catalog.insert(new).unwrap();
                    done
                })
            })
            .collect();
        threads
            .into_iter()
            .map(|thread| thread.join().unwrap())
            .collect()
    });
    let replaced = done
        .iter()
        .filter(|done| matches!(done, Rebuilt::Replaced { .. }))
        .count();
    assert_eq!(replaced, 1);
    let catalog = Catalog::open(&path, OpenOptions::default()).unwrap();
    assert_eq!(catalog.list(&LabelFilter::all()).unwrap().len(), 2 + 8);
    assert!(!dir.path().join("catalog.redb.damaged-2").exists());
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// Bytes at random, with and without the beginning of a redb file.
    #[test]
    fn random_bytes_give_an_error(
        mut bytes in prop::collection::vec(any::<u8>(), 1..20_000),
        magic in 0..512_usize,
    ) {
        let head = magic.min(bytes.len());
        bytes[..head].copy_from_slice(&good()[..head]);
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("catalog.redb");
        fs::write(&path, &bytes).unwrap();
        let result = use_it(&path);
        prop_assert!(result.is_err());
        prop_assert!(is_said(&result), "{result:?}");
    }

    /// A good catalog with some bytes changed, or cut short, or both.
    #[test]
    fn damage_gives_a_right_answer_or_an_error(
        changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..40),
        near_start in any::<bool>(),
        cut in prop::option::of(any::<prop::sample::Index>()),
    ) {
        let mut bytes = good().to_vec();
        for (index, value) in changes {
            let range = if near_start { 4096 } else { bytes.len() };
            bytes[index.index(range)] = value;
        }
        if let Some(cut) = cut {
            bytes.truncate(cut.index(good().len()));
        }
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("catalog.redb");
        fs::write(&path, &bytes).unwrap();
        let result = use_it(&path);
        prop_assert!(is_said(&result), "{result:?}");
        // Whatever it was, a rebuild leaves a catalog that works.
        match rebuild(&path, records(&["a"]), OpenOptions::default()) {
            Ok(_) => {
                let catalog = Catalog::open(&path, OpenOptions::default()).unwrap();
                catalog.list(&LabelFilter::all()).unwrap();
                catalog.insert(NewSandbox::new("after", "{}")).unwrap();
            }
            Err(StoreError::NewerSchema { .. }) => {}
            Err(error) => prop_assert!(false, "{error:?}"),
        }
    }
}
