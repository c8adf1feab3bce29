//! Files that earlier versions of the schema left are read, and files of later ones are refused.
//!
//! The writers here are frozen: they say what the tables of a version were, whatever the library
//! has become since.
#![allow(clippy::unwrap_used)]

use std::path::Path;

use msb_store::{Catalog, LabelFilter, OpenOptions, SCHEMA_VERSION, StoreError};
use redb::{ConcurrencyMode, Database, ReadableDatabase, TableDefinition};

const META: TableDefinition<'_, &str, u64> = TableDefinition::new("meta");
const SANDBOXES: TableDefinition<'_, &str, &[u8]> = TableDefinition::new("sandboxes");
const OURS: u64 = 0x6d73_622d_6361_746c;

/// Two sandboxes as version 1 wrote them.
const VERSION_1: [(&str, &str); 2] = [
    (
        "web",
        r#"{"id":3,"name":"web","status":"crashed","config_json":"{ \"image\": \"nginx\" }",
            "labels":{"tier":"front","owner":"me"},"ephemeral":true,
            "created_at":"2026-11-01T10:00:00.123456789Z","updated_at":"2026-11-02T10:00:00Z",
            "run":{"id":18446744073709551615,"pid":4242,"started_at":"2026-11-01T10:00:01Z",
                   "ended":{"at":"2026-11-02T10:00:00Z","reason":"vmm_lost","detail":null,
                            "exit_code":null,"signal":9,"source":"lock"}}}"#,
    ),
    (
        "db",
        r#"{"id":5,"name":"db","status":"created","config_json":"","labels":{"owner":"me"},
            "ephemeral":false,"created_at":"2026-10-01T10:00:00Z",
            "updated_at":"2026-10-01T10:00:00Z","run":null}"#,
    ),
];

fn write(path: &Path, version: u64, application: u64) {
    let database = Database::builder()
        .set_concurrency_mode(ConcurrencyMode::MultiWriter)
        .create(path)
        .unwrap();
    let transaction = database.begin_write().unwrap();
    {
        let mut meta = transaction.open_table(META).unwrap();
        meta.insert("application", application).unwrap();
        meta.insert("schema_version", version).unwrap();
        meta.insert("next_id", 9).unwrap();
        let mut sandboxes = transaction.open_table(SANDBOXES).unwrap();
        for (name, record) in VERSION_1 {
            sandboxes.insert(name, record.as_bytes()).unwrap();
        }
    }
    transaction.commit().unwrap();
}

fn names(catalog: &Catalog, labels: &[(&str, &str)]) -> Vec<String> {
    let filter = LabelFilter::from_iter(labels.iter().copied());
    let records = catalog.list(&filter).unwrap();
    records.into_iter().map(|record| record.name).collect()
}

#[test]
fn version_1_is_brought_up_to_date() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("catalog.redb");
    write(&path, 1, OURS);
    // Twice: the second finds it current.
    for _ in 0..2 {
        let catalog = Catalog::open(&path, OpenOptions::default()).unwrap();
        assert_eq!(names(&catalog, &[]), ["db", "web"]);
        assert_eq!(names(&catalog, &[("owner", "me")]), ["db", "web"]);
        assert_eq!(names(&catalog, &[("tier", "front")]), ["web"]);
        let web = catalog.get("web").unwrap().unwrap();
        assert_eq!(web.id, 3);
        assert_eq!(web.config_json, "{ \"image\": \"nginx\" }");
        assert!(web.ephemeral);
        assert_eq!(web.created_at.timestamp_subsec_nanos(), 123_456_789);
        let end = web.run.unwrap().ended.unwrap();
        assert_eq!((end.signal, end.source.as_str()), (Some(9), "lock"));
    }
    let catalog = Catalog::open(&path, OpenOptions::default()).unwrap();
    let new = msb_store::NewSandbox::new("new", "{}");
    assert_eq!(catalog.insert(new).unwrap().id, 9);
}

#[test]
fn many_may_migrate_at_once() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("catalog.redb");
    write(&path, 1, OURS);
    std::thread::scope(|scope| {
        for _ in 0..8 {
            scope.spawn(|| {
                let catalog = Catalog::open(&path, OpenOptions::default()).unwrap();
                assert_eq!(names(&catalog, &[("owner", "me")]), ["db", "web"]);
            });
        }
    });
}

#[test]
fn a_newer_schema_is_refused_and_not_touched() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("catalog.redb");
    let newer = u64::from(SCHEMA_VERSION) + 1;
    write(&path, newer, OURS);
    let before = std::fs::read(&path).unwrap();
    let refused = |result| {
        assert!(
            matches!(&result, Err(StoreError::NewerSchema { found, supported, .. })
                if *found == newer && *supported == SCHEMA_VERSION),
            "{result:?}"
        );
    };
    refused(Catalog::open(&path, OpenOptions::default()).map(|_| ()));
    refused(msb_store::rebuild(&path, [], OpenOptions::default()).map(|_| ()));
    let tables = |bytes: &[u8]| {
        let copy = dir.path().join("copy");
        std::fs::write(&copy, bytes).unwrap();
        let database = Database::open(&copy).unwrap();
        let transaction = database.begin_read().unwrap();
        let meta = transaction.open_table(META).unwrap();
        (
            transaction.list_tables().unwrap().count(),
            meta.get("schema_version").unwrap().unwrap().value(),
        )
    };
    assert_eq!(tables(&before), tables(&std::fs::read(&path).unwrap()));
}

#[test]
fn a_schema_that_gets_newer_while_it_is_open_is_noticed() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("catalog.redb");
    let catalog = Catalog::open(&path, OpenOptions::default()).unwrap();
    catalog
        .insert(msb_store::NewSandbox::new("a", "{}"))
        .unwrap();
    write(&path, u64::from(SCHEMA_VERSION) + 1, OURS);
    assert!(matches!(
        catalog.get("a"),
        Err(StoreError::NewerSchema { .. })
    ));
    assert!(matches!(
        catalog.insert(msb_store::NewSandbox::new("b", "{}")),
        Err(StoreError::NewerSchema { .. })
    ));
}

#[test]
fn another_programs_redb_is_foreign() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("catalog.redb");
    write(&path, 1, 0);
    assert!(matches!(
        Catalog::open(&path, OpenOptions::default()),
        Err(StoreError::Foreign { .. })
    ));
}
