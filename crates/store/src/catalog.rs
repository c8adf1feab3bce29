//! The catalog as programs see it.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use chrono::Utc;

use crate::ops::{self, Verdict};
use crate::session::{FileSource, Session};
use crate::worker::Worker;
use crate::{LabelFilter, NewSandbox, SandboxRecord, StoreError};

/// Catalogs of one process that may be in the middle of being opened. An open that waits for a
/// stopped process keeps its thread after its caller gave up, and a caller that tries
/// again and again must not collect threads without end.
const MAX_OPENING: usize = 64;

static OPENING: AtomicUsize = AtomicUsize::new(0);

/// How a catalog is opened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OpenOptions {
    /// The longest that opening it and each operation may take.
    pub deadline: Duration,
}

/// The catalog of sandboxes. Clones share one open file and one thread, which ends with the last.
///
/// All methods block, for at most the deadline, and may be called from any thread. The closures
/// of [`update`](Self::update) and [`remove_if`](Self::remove_if) run on the catalog's
/// thread while no other process can write: they decide, and do nothing else. In particular they
/// must not call the catalog.
///
/// The requests of one catalog are carried out one after another: a read that is asked for behind
/// a write that waits for another process waits with it.
///
/// What one process has committed, every other process reads at once.
#[derive(Clone, Debug)]
pub struct Catalog {
    path: Arc<Path>,
    deadline: Duration,
    worker: Arc<Worker>,
}

/// Counts an open that is going on.
struct Opening;

impl Opening {
    fn begin() -> Option<Self> {
        OPENING
            .fetch_update(Ordering::AcqRel, Ordering::Acquire, |count| {
                (count < MAX_OPENING).then_some(count + 1)
            })
            .ok()
            .map(|_| Self)
    }
}

impl Drop for Opening {
    fn drop(&mut self) {
        OPENING.fetch_sub(1, Ordering::AcqRel);
    }
}

impl Default for OpenOptions {
    fn default() -> Self {
        Self {
            deadline: Duration::from_secs(10),
        }
    }
}

impl OpenOptions {
    /// Another deadline than the default of ten seconds.
    pub fn with_deadline(deadline: Duration) -> Self {
        Self { deadline }
    }
}

impl Catalog {
    /// Opens the catalog at `path`. Its directory (mode 0700) and the file (mode 0600) are made if
    /// they are not there, and a file of an older schema is brought up to date. Any number of
    /// processes may do so at once. All of an existing file is checked, so that damage is an error
    /// here and not a surprise later.
    ///
    /// No table of a catalog with a newer schema is changed.
    pub fn open(path: &Path, options: OpenOptions) -> Result<Self, StoreError> {
        let busy = || StoreError::Busy {
            path: path.to_owned(),
            waited: Duration::ZERO,
        };
        let opening = Opening::begin().ok_or_else(busy)?;
        let catalog = Self::start(path, &options)?;
        catalog
            .worker
            .call(path, options.deadline, move |session, _| {
                let _opening = opening;
                session.open()
            })?;
        Ok(catalog)
    }

    /// A catalog with its thread, not open yet.
    pub(crate) fn start(path: &Path, options: &OpenOptions) -> Result<Self, StoreError> {
        let source = FileSource::new(PathBuf::from(path));
        let worker =
            Worker::spawn(Session::new(source)).map_err(|error| StoreError::io(path, error))?;
        Ok(Self {
            path: path.into(),
            deadline: options.deadline,
            worker: Arc::new(worker),
        })
    }

    /// Does something in its thread: what each thread can only do to itself.
    pub fn in_its_thread(&self, what: impl FnOnce() + Send + 'static) -> Result<(), StoreError> {
        self.call(move |_, _| {
            what();
            Ok(())
        })
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The longest that an operation takes.
    pub fn deadline(&self) -> Duration {
        self.deadline
    }

    /// Adds a sandbox.
    pub fn insert(&self, new: NewSandbox) -> Result<SandboxRecord, StoreError> {
        self.call(move |session, ticket| {
            session.write(ticket, |transaction| {
                ops::insert(transaction, new, Utc::now())
            })
        })
    }

    /// The sandbox named `name`, if there is one.
    pub fn get(&self, name: &str) -> Result<Option<SandboxRecord>, StoreError> {
        let name = name.to_owned();
        self.call(move |session, _| session.read(|transaction| ops::get(transaction, &name)))
    }

    /// The sandboxes that `filter` lets pass, the oldest first, and those of the same
    /// moment by name.
    pub fn list(&self, filter: &LabelFilter) -> Result<Vec<SandboxRecord>, StoreError> {
        let filter = filter.clone();
        self.call(move |session, _| session.read(|transaction| ops::list(transaction, &filter)))
    }

    /// Changes a sandbox in one transaction: nobody else changes it between what `change` sees and
    /// what it leaves. If `change` refuses, its refusal is the inner error and the record stays
    /// as it was. Identity, name and creation time cannot be changed, and `updated_at` is set here.
    pub fn update<E: Send + 'static>(
        &self,
        name: &str,
        change: impl FnOnce(&mut SandboxRecord) -> Result<(), E> + Send + 'static,
    ) -> Result<Result<SandboxRecord, E>, StoreError> {
        let name = name.to_owned();
        self.call(move |session, ticket| {
            session.write(ticket, |transaction| {
                ops::update(transaction, &name, Utc::now(), change)
            })
        })
        .map(Self::judge)
    }

    /// Removes a sandbox if `agree` does, in one transaction, and returns what was removed.
    pub fn remove_if<E: Send + 'static>(
        &self,
        name: &str,
        agree: impl FnOnce(&SandboxRecord) -> Result<(), E> + Send + 'static,
    ) -> Result<Result<SandboxRecord, E>, StoreError> {
        let name = name.to_owned();
        self.call(move |session, ticket| {
            session.write(ticket, |transaction| {
                ops::remove_if(transaction, &name, agree)
            })
        })
        .map(Self::judge)
    }

    pub(crate) fn call<T: Send + 'static>(
        &self,
        operation: impl FnOnce(&mut Session, &crate::worker::Ticket) -> Result<T, StoreError>
        + Send
        + 'static,
    ) -> Result<T, StoreError> {
        self.worker.call(&self.path, self.deadline, operation)
    }

    fn judge<E>(verdict: Verdict<E>) -> Result<SandboxRecord, E> {
        match verdict {
            Verdict::Done(record) => Ok(*record),
            Verdict::Refused(refusal) => Err(refusal),
            Verdict::Panicked(panic) => std::panic::resume_unwind(panic),
        }
    }
}
