//! What an operation does to the tables, inside a transaction that somebody else begins and ends.
//!
//! The label index is changed only by [`put`], together with the record, so that the
//! two cannot disagree.

use std::any::Any;
use std::panic::{AssertUnwindSafe, catch_unwind};

use chrono::{DateTime, Utc};
use redb::{ReadTransaction, ReadableMultimapTable, ReadableTable, WriteTransaction};

use crate::error::Fault;
use crate::schema::{LABELS, META, NEXT_ID, SANDBOXES};
use crate::{LabelFilter, MAX_RECORD_BYTES, NewSandbox, SandboxRecord, StoreError};

/// What is to become of a write transaction.
pub(crate) enum Change<T> {
    /// Nothing was written; it is dropped.
    None(T),
    /// It is committed.
    Commit(T),
}

/// What came of a caller's closure.
pub(crate) enum Verdict<E> {
    /// It agreed.
    Done(Box<SandboxRecord>),
    /// It refused.
    Refused(E),
    /// It panicked. The panic goes on in the caller's thread, where it belongs.
    Panicked(Box<dyn Any + Send>),
}

pub(crate) fn get(
    transaction: &ReadTransaction,
    name: &str,
) -> Result<Option<SandboxRecord>, Fault> {
    read(&transaction.open_table(SANDBOXES)?, name)
}

pub(crate) fn list(
    transaction: &ReadTransaction,
    filter: &LabelFilter,
) -> Result<Vec<SandboxRecord>, Fault> {
    let sandboxes = transaction.open_table(SANDBOXES)?;
    let mut records = Vec::new();
    if let Some((key, value)) = filter.0.iter().next() {
        // The index finds those with the first label; the records say the rest.
        let index = transaction.open_multimap_table(LABELS)?;
        for name in index.get((key.as_str(), value.as_str()))? {
            let name = name?;
            let name = name.value();
            let record = read(&sandboxes, name)?.ok_or_else(|| {
                Fault::Damaged(format!("a label names {name:?}, which is not there"))
            })?;
            if filter.matches(&record.labels) {
                records.push(record);
            }
        }
    } else {
        for entry in sandboxes.iter()? {
            let (name, bytes) = entry?;
            records.push(decode(name.value(), bytes.value())?);
        }
    }
    records.sort_by(|a, b| (a.created_at, &a.name).cmp(&(b.created_at, &b.name)));
    Ok(records)
}

pub(crate) fn insert(
    transaction: &WriteTransaction,
    new: NewSandbox,
    now: DateTime<Utc>,
) -> Result<Change<SandboxRecord>, Fault> {
    msb_types::validate_sandbox_name(&new.name)?;
    if read(&transaction.open_table(SANDBOXES)?, &new.name)?.is_some() {
        return Err(StoreError::AlreadyExists { name: new.name }.into());
    }
    let record = SandboxRecord {
        id: take_id(transaction)?,
        name: new.name,
        status: new.status,
        config_json: new.config_json,
        labels: new.labels,
        ephemeral: new.ephemeral,
        created_at: now,
        updated_at: now,
        run: new.run,
    };
    put(transaction, &record.name, None, Some(&record))?;
    Ok(Change::Commit(record))
}

pub(crate) fn update<E>(
    transaction: &WriteTransaction,
    name: &str,
    now: DateTime<Utc>,
    change: impl FnOnce(&mut SandboxRecord) -> Result<(), E>,
) -> Result<Change<Verdict<E>>, Fault> {
    let before = existing(transaction, name)?;
    let mut after = before.clone();
    match catch_unwind(AssertUnwindSafe(|| change(&mut after))) {
        Ok(Ok(())) => {}
        Ok(Err(refusal)) => return Ok(Change::None(Verdict::Refused(refusal))),
        Err(panic) => return Ok(Change::None(Verdict::Panicked(panic))),
    }
    for (field, changed) in [
        ("id", after.id != before.id),
        ("name", after.name != before.name),
        ("creation time", after.created_at != before.created_at),
    ] {
        if changed {
            return Err(StoreError::Immutable { field }.into());
        }
    }
    after.updated_at = before.updated_at;
    if after == before {
        return Ok(Change::None(Verdict::Done(Box::new(after))));
    }
    // The clock may be set back; the record's own time does not go back.
    after.updated_at = now.max(before.updated_at);
    put(transaction, name, Some(&before), Some(&after))?;
    Ok(Change::Commit(Verdict::Done(Box::new(after))))
}

pub(crate) fn remove_if<E>(
    transaction: &WriteTransaction,
    name: &str,
    agree: impl FnOnce(&SandboxRecord) -> Result<(), E>,
) -> Result<Change<Verdict<E>>, Fault> {
    let record = existing(transaction, name)?;
    match catch_unwind(AssertUnwindSafe(|| agree(&record))) {
        Ok(Ok(())) => {}
        Ok(Err(refusal)) => return Ok(Change::None(Verdict::Refused(refusal))),
        Err(panic) => return Ok(Change::None(Verdict::Panicked(panic))),
    }
    put(transaction, name, Some(&record), None)?;
    Ok(Change::Commit(Verdict::Done(Box::new(record))))
}

/// Fills an empty catalog with records from elsewhere. A record without an id (0), or with one
/// that another has too, gets a new one; the ids to come are larger than all of them.
pub(crate) fn fill(
    transaction: &WriteTransaction,
    records: Vec<SandboxRecord>,
) -> Result<(), Fault> {
    let highest = records.iter().map(|record| record.id).max().unwrap_or(0);
    let next = highest.checked_add(1).ok_or_else(out_of_ids)?;
    transaction.open_table(META)?.insert(NEXT_ID, next)?;
    let mut seen = std::collections::HashSet::new();
    for mut record in records {
        msb_types::validate_sandbox_name(&record.name)?;
        if read(&transaction.open_table(SANDBOXES)?, &record.name)?.is_some() {
            return Err(StoreError::AlreadyExists { name: record.name }.into());
        }
        if record.id == 0 || !seen.insert(record.id) {
            record.id = take_id(transaction)?;
        }
        put(transaction, &record.name, None, Some(&record))?;
    }
    Ok(())
}

/// Checks what [`list`] does not see: the index and the next id.
pub(crate) fn check(transaction: &ReadTransaction) -> Result<(), Fault> {
    let sandboxes = transaction.open_table(SANDBOXES)?;
    let mut indexed = 0_usize;
    let mut labelled = 0_usize;
    for entry in transaction.open_multimap_table(LABELS)?.iter()? {
        let (label, names) = entry?;
        let (key, value) = label.value();
        for name in names {
            let name = name?;
            let name = name.value();
            let labels = read(&sandboxes, name)?.map(|record| record.labels);
            if labels.as_ref().and_then(|labels| labels.get(key)) != Some(&value.to_owned()) {
                return Err(Fault::Damaged(format!(
                    "{name:?} is not labelled {key}={value}"
                )));
            }
            indexed += 1;
        }
    }
    let next = transaction.open_table(META)?.get(NEXT_ID)?;
    let next = next.map_or(0, |next| next.value());
    for entry in sandboxes.iter()? {
        let (name, bytes) = entry?;
        let record = decode(name.value(), bytes.value())?;
        if record.id >= next {
            return Err(Fault::Damaged(format!(
                "its next id is {next}, which is taken"
            )));
        }
        labelled += record.labels.len();
    }
    if indexed == labelled {
        Ok(())
    } else {
        Err(Fault::Damaged("labels are missing from the index".into()))
    }
}

/// Puts `after` in the place of `before`, in the table and in the index.
fn put(
    transaction: &WriteTransaction,
    name: &str,
    before: Option<&SandboxRecord>,
    after: Option<&SandboxRecord>,
) -> Result<(), Fault> {
    let mut sandboxes = transaction.open_table(SANDBOXES)?;
    match after {
        Some(record) => {
            let bytes =
                serde_json::to_vec(record).map_err(|error| Fault::Damaged(error.to_string()))?;
            if bytes.len() > MAX_RECORD_BYTES {
                return Err(StoreError::TooLarge {
                    size: bytes.len(),
                    max: MAX_RECORD_BYTES,
                }
                .into());
            }
            sandboxes.insert(name, bytes.as_slice())?;
        }
        None => {
            sandboxes.remove(name)?;
        }
    }
    let labels = |record: Option<&SandboxRecord>| {
        record
            .map(|record| record.labels.clone())
            .unwrap_or_default()
    };
    let (old, new) = (labels(before), labels(after));
    if old != new {
        let mut index = transaction.open_multimap_table(LABELS)?;
        for (key, value) in &old {
            index.remove((key.as_str(), value.as_str()), name)?;
        }
        for (key, value) in &new {
            index.insert((key.as_str(), value.as_str()), name)?;
        }
    }
    Ok(())
}

fn existing(transaction: &WriteTransaction, name: &str) -> Result<SandboxRecord, Fault> {
    read(&transaction.open_table(SANDBOXES)?, name)?.ok_or_else(|| {
        StoreError::NotFound {
            name: name.to_owned(),
        }
        .into()
    })
}

fn read(
    sandboxes: &impl ReadableTable<&'static str, &'static [u8]>,
    name: &str,
) -> Result<Option<SandboxRecord>, Fault> {
    match sandboxes.get(name)? {
        Some(bytes) => decode(name, bytes.value()).map(Some),
        None => Ok(None),
    }
}

fn decode(name: &str, bytes: &[u8]) -> Result<SandboxRecord, Fault> {
    let record: SandboxRecord = serde_json::from_slice(bytes)
        .map_err(|error| Fault::Damaged(format!("the record of {name:?}: {error}")))?;
    if record.name == name {
        Ok(record)
    } else {
        Err(Fault::Damaged(format!(
            "the record of {name:?} is that of {:?}",
            record.name
        )))
    }
}

fn take_id(transaction: &WriteTransaction) -> Result<u64, Fault> {
    let mut meta = transaction.open_table(META)?;
    let id = meta.get(NEXT_ID)?.map(|id| id.value());
    let id = id.ok_or_else(|| Fault::Damaged("it does not know its next id".into()))?;
    meta.insert(NEXT_ID, id.checked_add(1).ok_or_else(out_of_ids)?)?;
    Ok(id)
}

fn out_of_ids() -> Fault {
    Fault::Damaged("it has no ids left".into())
}
