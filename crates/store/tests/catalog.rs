//! One process, one catalog: what each operation promises.
#![allow(clippy::unwrap_used)]

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::PathBuf;
use std::time::Duration;

use chrono::{TimeDelta, Utc};
use msb_store::{
    Catalog, LabelFilter, MAX_RECORD_BYTES, NewSandbox, OpenOptions, RunEnd, RunRecord, StoreError,
};
use msb_types::SandboxStatus;
use tempfile::TempDir;

fn catalog() -> (TempDir, PathBuf, Catalog) {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("home/db/catalog.redb");
    let catalog = Catalog::open(&path, OpenOptions::default()).unwrap();
    (dir, path, catalog)
}

fn labelled(name: &str, labels: &[(&str, &str)]) -> NewSandbox {
    let mut new = NewSandbox::new(name, "{}");
    new.labels = labels
        .iter()
        .map(|(key, value)| (key.to_string(), value.to_string()))
        .collect();
    new
}

fn names(catalog: &Catalog, filter: &[(&str, &str)]) -> Vec<String> {
    let filter = LabelFilter::from_iter(filter.iter().copied());
    let records = catalog.list(&filter).unwrap();
    records.into_iter().map(|record| record.name).collect()
}

fn nothing(_: &mut msb_store::SandboxRecord) -> Result<(), ()> {
    Ok(())
}

#[test]
fn what_is_inserted_is_read_back_by_everybody() {
    let (_dir, path, catalog) = catalog();
    let mut new = labelled("web-1", &[("tier", "front"), ("a=b", "c")]);
    new.config_json = "{ \"kept\":  \"as it was\\u0000\" }".into();
    new.ephemeral = true;
    let inserted = catalog.insert(new).unwrap();
    assert_eq!(inserted.id, 1);
    assert_eq!(inserted.status, SandboxStatus::Created);
    assert_eq!(inserted.created_at, inserted.updated_at);

    let run = RunRecord {
        id: u64::MAX,
        pid: Some(7),
        started_at: Utc::now(),
        ended: Some(RunEnd {
            at: Utc::now(),
            reason: "guest_crashed".into(),
            detail: Some("äöü".into()),
            exit_code: Some(-1),
            signal: Some(9),
            source: "exit_record".into(),
        }),
        isolation: None,
    };
    let wanted = run.clone();
    let updated = catalog
        .update("web-1", move |record| {
            record.status = SandboxStatus::Crashed;
            record.run = Some(run);
            Ok::<_, ()>(())
        })
        .unwrap()
        .unwrap();
    assert_eq!(updated.run, Some(wanted));
    assert!(updated.updated_at >= inserted.updated_at);

    let other = Catalog::open(&path, OpenOptions::default()).unwrap();
    for catalog in [&catalog, &other] {
        assert_eq!(catalog.get("web-1").unwrap().as_ref(), Some(&updated));
        assert_eq!(catalog.get("web-2").unwrap(), None);
    }
}

#[test]
fn a_name_is_taken_once_and_an_id_is_given_once() {
    let (_dir, _path, catalog) = catalog();
    assert_eq!(catalog.insert(NewSandbox::new("a", "{}")).unwrap().id, 1);
    assert!(matches!(
        catalog.insert(NewSandbox::new("a", "{}")),
        Err(StoreError::AlreadyExists { name }) if name == "a"
    ));
    catalog
        .remove_if("a", |_| Ok::<_, ()>(()))
        .unwrap()
        .unwrap();
    assert_eq!(catalog.get("a").unwrap(), None);
    assert_eq!(catalog.insert(NewSandbox::new("a", "{}")).unwrap().id, 2);
    assert!(matches!(
        catalog.insert(NewSandbox::new("../a", "{}")),
        Err(StoreError::InvalidName(_))
    ));
}

#[test]
fn a_refusal_and_a_panic_change_nothing() {
    let (_dir, _path, catalog) = catalog();
    let before = catalog.insert(NewSandbox::new("a", "{}")).unwrap();
    let refused = catalog.update("a", |record| {
        record.status = SandboxStatus::Running;
        Err("no")
    });
    assert_eq!(refused.unwrap(), Err("no"));
    assert_eq!(catalog.remove_if("a", |_| Err("no")).unwrap(), Err("no"));
    let panicked = catch_unwind(AssertUnwindSafe(|| {
        catalog.update("a", |record| -> Result<(), ()> {
            record.status = SandboxStatus::Running;
            std::panic::resume_unwind(Box::new("mine"))
        })
    }));
    assert_eq!(
        panicked.unwrap_err().downcast_ref::<&str>(),
        Some(&"mine"),
        "the panic must reach the caller"
    );
    assert_eq!(catalog.get("a").unwrap(), Some(before));
}

#[test]
fn an_update_without_a_change_keeps_the_time() {
    let (_dir, _path, catalog) = catalog();
    let before = catalog.insert(NewSandbox::new("a", "{}")).unwrap();
    let same = catalog.update("a", |record| {
        record.updated_at += TimeDelta::days(1);
        Ok::<_, ()>(())
    });
    assert_eq!(same.unwrap(), Ok(before));
}

#[test]
fn what_a_sandbox_is_cannot_be_changed() {
    let (_dir, _path, catalog) = catalog();
    let before = catalog.insert(NewSandbox::new("a", "{}")).unwrap();
    type Change = fn(&mut msb_store::SandboxRecord) -> Result<(), ()>;
    let changes: [Change; 3] = [
        |record| {
            record.id += 1;
            Ok(())
        },
        |record| {
            record.name = "b".into();
            Ok(())
        },
        |record| {
            record.created_at += TimeDelta::seconds(1);
            Ok(())
        },
    ];
    for change in changes {
        assert!(matches!(
            catalog.update("a", change),
            Err(StoreError::Immutable { .. })
        ));
    }
    assert_eq!(catalog.get("a").unwrap(), Some(before));
}

#[test]
fn what_is_not_there_is_not_found() {
    let (_dir, _path, catalog) = catalog();
    assert!(matches!(
        catalog.update("a", nothing),
        Err(StoreError::NotFound { name }) if name == "a"
    ));
    assert!(matches!(
        catalog.remove_if("a", |_| Ok::<_, ()>(())),
        Err(StoreError::NotFound { name }) if name == "a"
    ));
}

#[test]
fn labels_filter_and_follow_their_sandbox() {
    let (_dir, _path, catalog) = catalog();
    catalog
        .insert(labelled("a", &[("x", "1"), ("y", "1")]))
        .unwrap();
    catalog
        .insert(labelled("b", &[("x", "1"), ("y", "2")]))
        .unwrap();
    catalog.insert(labelled("c", &[])).unwrap();
    assert_eq!(names(&catalog, &[]), ["a", "b", "c"]);
    assert_eq!(names(&catalog, &[("x", "1")]), ["a", "b"]);
    assert_eq!(names(&catalog, &[("x", "1"), ("y", "2")]), ["b"]);
    assert!(names(&catalog, &[("x", "1"), ("z", "")]).is_empty());

    catalog
        .update("a", |record| {
            record.labels = BTreeMap::from([("y".into(), "2".into())]);
            Ok::<_, ()>(())
        })
        .unwrap()
        .unwrap();
    assert_eq!(names(&catalog, &[("x", "1")]), ["b"]);
    assert_eq!(names(&catalog, &[("y", "2")]), ["a", "b"]);
    catalog
        .remove_if("b", |_| Ok::<_, ()>(()))
        .unwrap()
        .unwrap();
    assert!(names(&catalog, &[("x", "1")]).is_empty());
}

#[test]
fn a_record_has_a_limit() {
    let (_dir, _path, catalog) = catalog();
    let long = "x".repeat(MAX_RECORD_BYTES);
    assert!(matches!(
        catalog.insert(NewSandbox::new("a", long.clone())),
        Err(StoreError::TooLarge { size, max }) if size > max
    ));
    assert_eq!(catalog.get("a").unwrap(), None);
    let nearly = long.get(..MAX_RECORD_BYTES - 1024).unwrap();
    catalog.insert(NewSandbox::new("a", nearly)).unwrap();
    assert_eq!(catalog.get("a").unwrap().unwrap().config_json, nearly);
}

#[test]
fn files_are_private_and_nothing_else_is_left() {
    let (_dir, path, catalog) = catalog();
    catalog.insert(NewSandbox::new("a", "{}")).unwrap();
    let mode = |path: &std::path::Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
    let db = path.parent().unwrap();
    assert_eq!(mode(db), 0o700);
    let mut files: Vec<_> = fs::read_dir(db)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .collect();
    files.sort();
    assert_eq!(files, [path.clone(), path.with_extension("redb.lock")]);
    for file in files {
        assert_eq!(mode(&file), 0o600, "{}", file.display());
    }
}

#[test]
fn the_deadline_holds_while_another_writes() {
    let (_dir, path, first) = catalog();
    first.insert(NewSandbox::new("a", "{}")).unwrap();
    let short = OpenOptions::with_deadline(Duration::from_millis(300));
    let second = Catalog::open(&path, short.clone()).unwrap();

    let (entered, is_in) = std::sync::mpsc::channel();
    let (release, released) = std::sync::mpsc::channel::<()>();
    let holder = {
        let first = first.clone();
        std::thread::spawn(move || {
            first.update("a", move |record| {
                entered.send(()).unwrap();
                released.recv().unwrap();
                record.config_json = "first".into();
                Ok::<_, ()>(())
            })
        })
    };
    is_in.recv().unwrap();

    // Neither a write nor an open can begin, and neither is carried out once it was given up.
    assert!(matches!(
        second.update("a", |record| {
            record.config_json.push_str(" second");
            Ok::<_, ()>(())
        }),
        Err(StoreError::Busy { waited, .. }) if waited >= Duration::from_millis(300)
    ));
    assert!(matches!(
        Catalog::open(&path, short),
        Err(StoreError::Busy { .. })
    ));
    release.send(()).unwrap();
    holder.join().unwrap().unwrap().unwrap();

    let patient = Catalog::open(&path, OpenOptions::default()).unwrap();
    let last = patient
        .update("a", |record| {
            record.config_json.push_str(" third");
            Ok::<_, ()>(())
        })
        .unwrap();
    assert_eq!(last.unwrap().config_json, "first third");
}

/// Root may do everything, so there this shows nothing.
#[test]
fn a_home_that_may_not_be_written_is_said() {
    if rustix::process::geteuid().is_root() {
        return;
    }
    let (dir, path, catalog) = catalog();
    drop(catalog);
    let denied = |path: &std::path::Path| {
        let result = Catalog::open(path, OpenOptions::default());
        assert!(
            matches!(result, Err(StoreError::Permission { .. })),
            "{result:?}"
        );
    };
    let allow = |path: &std::path::Path, mode| {
        fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
    };
    allow(&path, 0o400);
    denied(&path);
    allow(&path, 0o600);
    allow(dir.path(), 0o500);
    denied(&dir.path().join("other/catalog.redb"));
    allow(dir.path(), 0o700);
    Catalog::open(&path, OpenOptions::default()).unwrap();
}
