//! The tables, and how an older file becomes a current one.
//!
//! | table | since | key | value |
//! | --- | --- | --- | --- |
//! | `meta` | 1 | `application`, `schema_version`, `next_id` | a number |
//! | `sandboxes` | 1 | name | the record as JSON |
//! | `labels` | 2 | (label, value) | the names that have it |
//!
//! A migration is one step of one version in one write transaction, which also sets the version.
//! So a crash leaves the version before or the version after, and of two processes that migrate
//! at once the second finds nothing left to do. Every transaction looks at the version, for
//! another process may bring a newer library at any moment.

use std::collections::BTreeMap;

use redb::{
    Database, MultimapTableDefinition, ReadableDatabase, ReadableTable, TableDefinition,
    TableError, TableHandle, WriteTransaction,
};

use crate::error::Fault;

/// The schema this library writes.
pub const SCHEMA_VERSION: u32 = 2;

pub(crate) const META: TableDefinition<'_, &str, u64> = TableDefinition::new("meta");
pub(crate) const SANDBOXES: TableDefinition<'_, &str, &[u8]> = TableDefinition::new("sandboxes");
pub(crate) const LABELS: MultimapTableDefinition<'_, (&str, &str), &str> =
    MultimapTableDefinition::new("labels");

pub(crate) const NEXT_ID: &str = "next_id";
const APPLICATION: &str = "application";
const VERSION: &str = "schema_version";

/// Says that a redb file is ours and not another program's.
const OURS: u64 = u64::from_be_bytes(*b"msb-catl");

type Migration = fn(&WriteTransaction) -> Result<(), Fault>;

/// The step at index `n` makes version `n + 1` of version `n`. Version 0 is an empty file.
const MIGRATIONS: [Migration; SCHEMA_VERSION as usize] = [create, index_labels];

/// Makes the tables in a file that has none.
pub(crate) fn initialize(database: &Database) -> Result<(), Fault> {
    (0..SCHEMA_VERSION).try_for_each(|from| migrate_from(database, from))
}

/// Brings an existing catalog to the current schema, or says why that cannot be.
pub(crate) fn bring_up(database: &Database) -> Result<(), Fault> {
    loop {
        let found = version(database.begin_read()?.open_table(META))?;
        if found == SCHEMA_VERSION {
            return Ok(());
        }
        migrate_from(database, found)?;
    }
}

/// Checks that a transaction sees the current schema.
pub(crate) fn check<T>(meta: Result<T, TableError>) -> Result<(), Fault>
where
    T: ReadableTable<&'static str, u64>,
{
    match version(meta)? {
        SCHEMA_VERSION => Ok(()),
        // Somebody wrote an older file over the open one.
        older => Err(Fault::Damaged(format!("its schema went back to {older}"))),
    }
}

/// The schema version of a catalog, which is at least 1 and not newer than ours.
fn version<T>(meta: Result<T, TableError>) -> Result<u32, Fault>
where
    T: ReadableTable<&'static str, u64>,
{
    let meta = match meta {
        Err(TableError::TableDoesNotExist(_)) => {
            return Err(Fault::Foreign("it is a redb file of another kind"));
        }
        meta => meta?,
    };
    let number = |key| meta.get(key).map(|value| value.map(|value| value.value()));
    if number(APPLICATION)? != Some(OURS) {
        return Err(Fault::Foreign("another program made it"));
    }
    let found = number(VERSION)?.unwrap_or(0);
    match u32::try_from(found) {
        Ok(0) => Err(Fault::Damaged("it has no schema version".into())),
        Ok(found) if found <= SCHEMA_VERSION => Ok(found),
        _ => Err(Fault::Newer(found)),
    }
}

/// Makes the step from `from` to the next version, unless another process already has.
fn migrate_from(database: &Database, from: u32) -> Result<(), Fault> {
    let transaction = database.begin_write()?;
    let empty = !transaction
        .list_tables()?
        .any(|table| table.name() == META.name());
    let found = match empty {
        true => 0,
        false => version(transaction.open_table(META))?,
    };
    match MIGRATIONS.get(from as usize) {
        Some(step) if found == from => {
            step(&transaction)?;
            transaction
                .open_table(META)?
                .insert(VERSION, u64::from(from) + 1)?;
            Ok(transaction.commit()?)
        }
        _ => Ok(transaction.abort()?),
    }
}

/// 0 to 1: the tables `meta` and `sandboxes`.
fn create(transaction: &WriteTransaction) -> Result<(), Fault> {
    let mut meta = transaction.open_table(META)?;
    meta.insert(APPLICATION, OURS)?;
    meta.insert(NEXT_ID, 1)?;
    transaction.open_table(SANDBOXES)?;
    Ok(())
}

/// 1 to 2: the index of labels, so that a filtered list need not read every record.
fn index_labels(transaction: &WriteTransaction) -> Result<(), Fault> {
    /// Only what this step needs: it must go on working when the record has changed.
    #[derive(serde::Deserialize)]
    struct Labelled {
        #[serde(default)]
        labels: BTreeMap<String, String>,
    }
    let sandboxes = transaction.open_table(SANDBOXES)?;
    let mut index = transaction.open_multimap_table(LABELS)?;
    for entry in sandboxes.iter()? {
        let (name, bytes) = entry?;
        let name = name.value();
        let record: Labelled = serde_json::from_slice(bytes.value())
            .map_err(|error| Fault::Damaged(format!("the record of {name:?}: {error}")))?;
        for (key, value) in &record.labels {
            index.insert((key.as_str(), value.as_str()), name)?;
        }
    }
    Ok(())
}
