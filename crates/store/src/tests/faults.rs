//! The power fails, or the disk refuses, at every step of every operation. What is found
//! afterwards is the state before or the state after, and never one between.

use std::io::ErrorKind;
use std::path::Path;
use std::time::Duration;

use redb::{Database, ReadableDatabase};

use super::disk::Disk;
use crate::error::Fault;
use crate::file::Placement;
use crate::session::{Session, Source};
use crate::worker::Ticket;
use crate::{LabelFilter, NewSandbox, SandboxRecord, StoreError, file, ops, schema};

struct DiskSource {
    disk: Disk,
}

impl Source for DiskSource {
    fn path(&self) -> &Path {
        Path::new("disk")
    }

    fn open(&mut self) -> Result<Database, StoreError> {
        let open = || {
            let database = file::open_backend(self.disk.clone())?;
            schema::bring_up(&database)?;
            Ok(database)
        };
        open().map_err(|fault: Fault| fault.at(self.path()))
    }

    fn is_current(&self) -> Result<bool, StoreError> {
        Ok(true)
    }

    fn keep(&self) -> Result<Option<Placement<'_>>, StoreError> {
        Ok(None)
    }
}

fn session(disk: &Disk) -> Session {
    Session::new(DiskSource { disk: disk.clone() })
}

fn ticket() -> Ticket {
    Ticket::new(Duration::from_secs(600))
}

/// All of the catalog, after a check of all of the file and of the index.
fn contents(bytes: Vec<u8>) -> Vec<SandboxRecord> {
    let mut session = session(&Disk::holding(bytes));
    session
        .read(|transaction| {
            ops::check(transaction)?;
            ops::list(transaction, &LabelFilter::all())
        })
        .unwrap()
}

/// A catalog with some sandboxes, enough for a tree with branches.
fn some_catalog() -> Vec<u8> {
    let disk = Disk::default();
    let database = file::open_backend(disk.clone()).unwrap();
    schema::initialize(&database).unwrap();
    drop(database);
    let mut session = session(&disk);
    for number in 0..40 {
        let new = sandbox(&format!("box-{number}"));
        session
            .write(&ticket(), |transaction| {
                ops::insert(transaction, new, chrono::Utc::now())
            })
            .unwrap();
    }
    drop(session);
    disk.seen()
}

fn sandbox(name: &str) -> NewSandbox {
    let mut new = NewSandbox::new(name, "c".repeat(300));
    new.labels = [
        ("owner".to_owned(), "me".to_owned()),
        (name.to_owned(), String::new()),
    ]
    .into();
    new
}

type Operation = fn(&mut Session) -> Result<(), StoreError>;

const OPERATIONS: [(&str, Operation); 4] = [
    ("insert", |session| {
        session
            .write(&ticket(), |transaction| {
                ops::insert(transaction, sandbox("new"), chrono::Utc::now())
            })
            .map(|_| ())
    }),
    ("update", |session| {
        session
            .write(&ticket(), |transaction| {
                ops::update(transaction, "box-7", chrono::Utc::now(), |record| {
                    record.labels = [("other".to_owned(), "label".to_owned())].into();
                    record.config_json = "d".repeat(20_000);
                    Ok::<_, ()>(())
                })
            })
            .map(|_| ())
    }),
    ("remove", |session| {
        session
            .write(&ticket(), |transaction| {
                ops::remove_if(transaction, "box-7", |_| Ok::<_, ()>(()))
            })
            .map(|_| ())
    }),
    ("open", |session| session.open()),
];

/// What distinguishes two states, without the times.
fn essence(records: &[SandboxRecord]) -> Vec<(u64, String, String, usize)> {
    records
        .iter()
        .map(|record| {
            (
                record.id,
                record.name.clone(),
                record.config_json.clone(),
                record.labels.len(),
            )
        })
        .collect()
}

#[test]
fn a_power_failure_leaves_before_or_after() {
    let start = some_catalog();
    let before = essence(&contents(start.clone()));
    let mut random = fastrand::Rng::with_seed(20);
    for (name, operation) in OPERATIONS {
        let whole = Disk::holding(start.clone());
        operation(&mut session(&whole)).unwrap();
        let after = essence(&contents(whole.seen()));

        let (mut befores, mut afters) = (0, 0);
        for step in 0.. {
            let disk = Disk::holding(start.clone());
            disk.fail_at(step, ErrorKind::Other);
            let result = {
                let mut session = session(&disk);
                operation(&mut session)
            };
            if !disk.has_failed() {
                assert!(step > 3, "{name} took only {step} steps");
                break;
            }
            // Several ways to lose power at this step.
            for _ in 0..6 {
                let found = essence(&contents(disk.after_power_failure(&mut random)));
                if result.is_ok() {
                    assert_eq!(found, after, "{name} was reported and lost at step {step}");
                }
                if found == before {
                    befores += 1;
                } else if found == after {
                    afters += 1;
                } else {
                    panic!("{name}, step {step}: neither before nor after");
                }
            }
        }
        if name != "open" {
            assert!(befores > 0 && afters > 0, "{name}: {befores}, {afters}");
        }
    }
}

#[test]
fn a_full_disk_is_said_and_passes() {
    let start = some_catalog();
    let before = essence(&contents(start.clone()));
    for (name, operation) in OPERATIONS {
        for step in 0.. {
            let disk = Disk::holding(start.clone());
            let mut session = session(&disk);
            disk.fail_at(step, ErrorKind::StorageFull);
            let result = operation(&mut session);
            let failed = disk.has_failed();
            disk.repair();
            match result {
                Ok(()) if !failed => break,
                // What failed came after the commit.
                Ok(()) => {}
                Err(StoreError::NoSpace { .. }) => {}
                Err(error) => panic!("{name}, step {step}: {error:?}"),
            }
            // The same session goes on, and it reads what a fresh one does.
            let mine = session
                .read(|transaction| ops::list(transaction, &LabelFilter::all()))
                .unwrap();
            session
                .write(&ticket(), |transaction| {
                    ops::insert(transaction, sandbox("after"), chrono::Utc::now())
                })
                .unwrap();
            drop(session);
            let mut fresh = contents(disk.seen());
            fresh.retain(|record| record.name != "after");
            assert_eq!(mine, fresh, "{name}, step {step}");
            assert!(mine.len().abs_diff(before.len()) <= 1);
        }
    }
}

#[test]
fn a_migration_happens_wholly_or_not_at_all() {
    let start = {
        let disk = Disk::holding(some_catalog());
        let database = file::open_backend(disk.clone()).unwrap();
        let transaction = database.begin_write().unwrap();
        transaction.delete_multimap_table(schema::LABELS).unwrap();
        let mut meta = transaction.open_table(schema::META).unwrap();
        meta.insert("schema_version", 1).unwrap();
        drop(meta);
        transaction.commit().unwrap();
        drop(database);
        disk.seen()
    };
    let mut random = fastrand::Rng::with_seed(20);
    let expected = essence(&contents(start.clone()));
    assert_eq!(expected.len(), 40);
    let (mut old, mut new) = (0, 0);
    for step in 0.. {
        let disk = Disk::holding(start.clone());
        disk.fail_at(step, ErrorKind::Other);
        let _ = session(&disk).open();
        if !disk.has_failed() {
            break;
        }
        for _ in 0..6 {
            let left = disk.after_power_failure(&mut random);
            {
                let database = file::open_backend(Disk::holding(left.clone())).unwrap();
                let transaction = database.begin_read().unwrap();
                let indexed = transaction.open_multimap_table(schema::LABELS).is_ok();
                let current = schema::check(transaction.open_table(schema::META)).is_ok();
                assert_eq!(indexed, current, "step {step}");
                *(if current { &mut new } else { &mut old }) += 1;
            }
            assert_eq!(essence(&contents(left)), expected, "step {step}");
        }
    }
    assert!(old > 0 && new > 0, "{old}, {new}");
}
