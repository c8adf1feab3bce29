//! `SandboxFs` against a guest that these tests play: an honest one, and many that are not.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test that cannot go on fails"
)]

mod guest;
mod honest;
mod hostile;
mod hostile_trees;
