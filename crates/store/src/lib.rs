//! The catalog of sandboxes: one file, any number of processes, no daemon.
//!
//! Every program that uses the library opens the same `catalog.redb`. It holds one record for
//! each sandbox and nothing hot: no metrics, no heartbeats, no logs. It is a table of contents
//! that can be made anew from the sandboxes' own directories ([`rebuild`]), so damage to it costs
//! a rebuild and never a sandbox.
//!
//! ```text
//!   caller ──request, deadline──> worker thread ──> redb (multi-writer) ──> catalog.redb
//!          <──── answer ───────   the only place that waits for a lock or the disk
//! ```
//!
//! - **Every operation ends by its deadline.** File locks have no time limit, so a
//!   thread of the [`Catalog`]'s own waits for them and the caller waits for the thread. What a
//!   caller has given up on is not carried out, except in the one case that
//!   [`StoreError::InDoubt`] names.
//! - **A process that dies holds nothing.** All locks belong to open files, and
//!   the kernel drops them with the process. A change is in the file wholly or not at all.
//! - **A catalog that is replaced is noticed.** See [`rebuild`].
//!
//! This is the only crate that knows redb, and none of redb's types leave it.

mod catalog;
mod error;
mod file;
mod ops;
mod rebuild;
mod record;
mod schema;
mod session;
mod worker;

#[cfg(test)]
mod tests;

pub use catalog::{Catalog, OpenOptions};
pub use error::StoreError;
pub use rebuild::{Rebuilt, rebuild};
pub use record::{LabelFilter, MAX_RECORD_BYTES, NewSandbox, RunEnd, RunRecord, SandboxRecord};
pub use schema::SCHEMA_VERSION;
