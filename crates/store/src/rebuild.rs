//! A damaged catalog is replaced by one made from what the sandboxes' directories say.
//!
//! Several processes may find the damage at once, and others still have the damaged
//! file open. So:
//!
//! - The file is looked at first. A catalog that can be read is left alone: somebody else
//!   was quicker, and what was added since must not be lost.
//! - The new file is made whole beside the old one. Under the exclusive lock, and only if
//!   the path still names the file that was found damaged, the old file gets a second name,
//!   `catalog.redb.damaged-<n>`, and the new one is renamed over it. There is no instant at which
//!   the path names nothing.
//! - A [`Catalog`](crate::Catalog) that has the old file open need do nothing: at its next
//!   operation it sees that the path names another file, and opens that. A write looks under the
//!   lock, so it never goes into the file that was put aside. Whoever opens the file by
//!   other means must do the same.

use std::fs;
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};

use redb::ReadableDatabase;

use crate::error::Fault;
use crate::file::{self, Identity, Placement};
use crate::worker::Ticket;
use crate::{Catalog, LabelFilter, OpenOptions, SandboxRecord, StoreError, ops, schema};

/// Damaged files that are kept. A disk that goes on damaging them wants replacing itself.
const MAX_DAMAGED: u32 = 99;

/// How often the file may change under a rebuild.
const MAX_LOOKS: usize = 16;

/// What a rebuild did.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Rebuilt {
    /// The catalog can be read: it was left as it is.
    Healthy,
    /// There was no catalog, and now there is.
    Created,
    /// The catalog was replaced.
    Replaced {
        /// Where the damaged one is.
        damaged: PathBuf,
    },
}

/// Replaces a catalog that cannot be read by one that holds `records`.
///
/// A record whose id is 0, or is also that of a record before it, gets a new one. New ids go on
/// above the largest; the catalog no longer knows which sandboxes were removed before it was
/// damaged, so an id above all of `records` may come again.
///
/// A catalog that is of a newer schema, or that this user may not use, is an error and is not
/// touched.
pub fn rebuild(
    path: &Path,
    records: impl IntoIterator<Item = SandboxRecord>,
    options: OpenOptions,
) -> Result<Rebuilt, StoreError> {
    let records: Vec<_> = records.into_iter().collect();
    let owned = path.to_owned();
    // Its thread is what is needed of it here; it is never opened.
    Catalog::start(path, &options)?.call(move |_, ticket| replace(&owned, records, ticket))
}

fn replace(
    path: &Path,
    records: Vec<SandboxRecord>,
    ticket: &Ticket,
) -> Result<Rebuilt, StoreError> {
    let io = |error| StoreError::io(path, error);
    let lock = file::open_lock(path)?;
    for _ in 0..MAX_LOOKS {
        let found = match look(path)? {
            Look::Healthy => return Ok(Rebuilt::Healthy),
            Look::Unreadable(identity) => Some(identity),
            Look::Missing => None,
        };
        let _place = Placement::replace(&lock).map_err(io)?;
        if file::identity(path)? != found {
            continue;
        }
        let new = file::prepare(path, |database| {
            let transaction = database.begin_write()?;
            ops::fill(&transaction, records.clone())?;
            Ok(transaction.commit()?)
        })?;
        if !ticket.begin_commit() {
            return Err(ticket.busy(path));
        }
        let damaged = match found {
            Some(_) => Some(put_aside(path).map_err(io)?),
            None => None,
        };
        file::put_in_place(&new, path)?;
        return Ok(match damaged {
            Some(damaged) => Rebuilt::Replaced { damaged },
            None => Rebuilt::Created,
        });
    }
    Err(ticket.busy(path))
}

enum Look {
    Missing,
    Healthy,
    Unreadable(Identity),
}

/// Reads all of the catalog.
fn look(path: &Path) -> Result<Look, StoreError> {
    let Some(identity) = file::identity(path)? else {
        return Ok(Look::Missing);
    };
    let read = catch_unwind(AssertUnwindSafe(|| {
        let Some((database, _)) = file::open(path)? else {
            return Ok(Look::Missing);
        };
        let read = || -> Result<(), Fault> {
            schema::bring_up(&database)?;
            let transaction = database.begin_read()?;
            ops::list(&transaction, &LabelFilter::all())?;
            ops::check(&transaction)
        };
        read().map_err(|fault| fault.at(path))?;
        Ok(Look::Healthy)
    }));
    match read {
        Ok(Err(StoreError::Damaged { .. } | StoreError::Foreign { .. })) | Err(_) => {
            Ok(Look::Unreadable(identity))
        }
        Ok(look) => look,
    }
}

/// Gives the file a second name, for what comes next takes the first from it.
fn put_aside(path: &Path) -> io::Result<PathBuf> {
    for number in 1..=MAX_DAMAGED {
        let aside = file::beside(path, &format!(".damaged-{number}"));
        match fs::hard_link(path, &aside) {
            Ok(()) => return Ok(aside),
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
            Err(error) => return Err(error),
        }
    }
    Err(io::Error::other(
        "there are 99 damaged catalogs beside it; remove them",
    ))
}
