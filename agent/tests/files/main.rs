//! Operations on files, as the host asks for them, on temporary directories.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

#[path = "../support/mod.rs"]
mod support;

mod hostile;
mod operations;
mod pipes;
mod talk;
mod trees;
