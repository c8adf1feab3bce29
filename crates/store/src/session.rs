//! An open catalog: begins a transaction, looks whether it may go on, ends it.
//!
//! Everything here may wait for a lock or the disk without limit and so runs on the worker
//! thread alone. A write goes through these steps, each of which may find that it must not go on:
//!
//! 1. the file is still the one that the path names; if not, it is opened anew;
//! 2. redb's write transaction begins, when no other process has one;
//! 3. the caller still waits;
//! 4. the catalog is kept in its place, and is still the one that the path names;
//! 5. the schema is ours;
//! 6. the tables are changed;
//! 7. the caller still waits, and from here on the change is made;
//! 8. commit.

use std::fs::File;
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};

use redb::{Database, ReadTransaction, ReadableDatabase, WriteTransaction};

use crate::StoreError;
use crate::error::Fault;
use crate::file::{self, Identity, Placement};
use crate::ops::Change;
use crate::schema;
use crate::worker::Ticket;

/// How often a catalog may be replaced under one operation before it is told that it is busy.
const MAX_REOPENS: usize = 16;

/// Where a database comes from: a file, or in tests a device that fails.
pub(crate) trait Source: Send + 'static {
    /// What error messages call it.
    fn path(&self) -> &Path;
    /// Opens it, with the current schema.
    fn open(&mut self) -> Result<Database, StoreError>;
    /// Whether what was opened is still in its place.
    fn is_current(&self) -> Result<bool, StoreError>;
    /// Keeps it in its place.
    fn keep(&self) -> Result<Option<Placement<'_>>, StoreError>;
}

/// The catalog at a path.
#[derive(Debug)]
pub(crate) struct FileSource {
    path: PathBuf,
    opened: Option<(File, Identity)>,
}

/// A catalog that is open, or will be.
pub(crate) struct Session {
    source: Box<dyn Source>,
    database: Option<Database>,
}

impl FileSource {
    pub(crate) fn new(path: PathBuf) -> Self {
        Self { path, opened: None }
    }

    /// Makes the catalog unless another process was first.
    fn create(&self, lock: &File) -> Result<(), StoreError> {
        let _place = Placement::replace(lock).map_err(|error| StoreError::io(&self.path, error))?;
        if file::identity(&self.path)?.is_some() {
            return Ok(());
        }
        let new = file::prepare(&self.path, |_| Ok(()))?;
        file::put_in_place(&new, &self.path)
    }
}

impl Source for FileSource {
    fn path(&self) -> &Path {
        &self.path
    }

    fn open(&mut self) -> Result<Database, StoreError> {
        self.opened = None;
        for _ in 0..MAX_REOPENS {
            let lock = file::open_lock(&self.path)?;
            match file::open(&self.path)? {
                Some((database, identity)) => {
                    schema::bring_up(&database).map_err(|fault| fault.at(&self.path))?;
                    self.opened = Some((lock, identity));
                    return Ok(database);
                }
                None => self.create(&lock)?,
            }
        }
        Err(vanishes(&self.path))
    }

    fn is_current(&self) -> Result<bool, StoreError> {
        let named = file::identity(&self.path)?;
        Ok(self
            .opened
            .as_ref()
            .is_some_and(|(_, opened)| Some(*opened) == named))
    }

    fn keep(&self) -> Result<Option<Placement<'_>>, StoreError> {
        let Some((lock, _)) = &self.opened else {
            return Ok(None);
        };
        Placement::keep(lock)
            .map(Some)
            .map_err(|error| StoreError::io(&self.path, error))
    }
}

impl Session {
    pub(crate) fn new(source: impl Source) -> Self {
        Self {
            source: Box::new(source),
            database: None,
        }
    }

    /// Opens the catalog now, to hear early if that fails.
    pub(crate) fn open(&mut self) -> Result<(), StoreError> {
        self.guard(|session| session.current().map(|_| ()))
    }

    /// Runs `body` in a read transaction.
    pub(crate) fn read<T>(
        &mut self,
        body: impl FnOnce(&ReadTransaction) -> Result<T, Fault>,
    ) -> Result<T, StoreError> {
        self.guard(|session| {
            let (source, database) = session.current()?;
            let work = || {
                let transaction = database.begin_read()?;
                schema::check(transaction.open_table(schema::META))?;
                body(&transaction)
            };
            work().map_err(|fault: Fault| fault.at(source.path()))
        })
    }

    /// Runs `body` in a write transaction. `body` runs at most once.
    pub(crate) fn write<T>(
        &mut self,
        ticket: &Ticket,
        body: impl FnOnce(&WriteTransaction) -> Result<Change<T>, Fault>,
    ) -> Result<T, StoreError> {
        self.guard(|session| {
            for _ in 0..MAX_REOPENS {
                let (source, database) = session.current()?;
                let path = source.path();
                let transaction = database
                    .begin_write()
                    .map_err(|error| Fault::from(error).at(path))?;
                if !ticket.is_wanted() {
                    return Err(ticket.busy(path));
                }
                let place = source.keep()?;
                if source.is_current()? {
                    let result = checked(&transaction, body).map_err(|fault| fault.at(path))?;
                    return match result {
                        Change::None(value) => Ok(value),
                        Change::Commit(_) if !ticket.begin_commit() => Err(ticket.busy(path)),
                        Change::Commit(value) => transaction
                            .commit()
                            .map(|()| value)
                            .map_err(|error| Fault::from(error).at(path)),
                    };
                }
                drop(place);
                drop(transaction);
            }
            Err(vanishes(session.source.path()))
        })
    }

    /// The open database, of the file that the path names now.
    fn current(&mut self) -> Result<(&dyn Source, &Database), StoreError> {
        if self.database.is_some() && !self.source.is_current()? {
            self.close();
        }
        let database = match self.database.take() {
            Some(database) => database,
            None => self.source.open()?,
        };
        Ok((&*self.source, self.database.insert(database)))
    }

    /// Runs an operation. After an error that leaves doubt about what is in memory the database is
    /// closed, and the next operation opens it anew.
    fn guard<T>(
        &mut self,
        body: impl FnOnce(&mut Self) -> Result<T, StoreError>,
    ) -> Result<T, StoreError> {
        // The file was checked when it was opened. If somebody alters it afterwards, redb may find
        // that out by a panic, which must not take the thread with it.
        let result = catch_unwind(AssertUnwindSafe(|| body(self))).unwrap_or_else(|panic| {
            let detail = panic
                .downcast_ref::<String>()
                .map(String::as_str)
                .or_else(|| panic.downcast_ref::<&str>().copied())
                .unwrap_or("reading it failed");
            Err(StoreError::Damaged {
                path: self.source.path().to_owned(),
                detail: detail.to_owned(),
            })
        });
        if result.as_ref().is_err_and(StoreError::spoils_the_database) {
            self.close();
        }
        result
    }

    fn close(&mut self) {
        let database = self.database.take();
        // Closing writes, and may find the same damage.
        let _ = catch_unwind(AssertUnwindSafe(|| drop(database)));
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        self.close();
    }
}

fn checked<T>(
    transaction: &WriteTransaction,
    body: impl FnOnce(&WriteTransaction) -> Result<Change<T>, Fault>,
) -> Result<Change<T>, Fault> {
    schema::check(transaction.open_table(schema::META))?;
    body(transaction)
}

fn vanishes(path: &Path) -> StoreError {
    StoreError::Io {
        path: path.to_owned(),
        source: io::Error::other("another process goes on replacing it"),
    }
}
