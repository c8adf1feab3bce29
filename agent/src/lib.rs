//! The guest's half of a sandbox: PID 1.
//!
//! It has three duties. It brings the guest up ([`boot`]): mounts, the root, the settings
//! that the supervisor sends. It runs commands ([`Agent`]), each in a session that one connection
//! views or none; of all of them it tells the supervisor (the monitor). It works on files for the
//! host, one operation for each connection. And it is the parent
//! of every orphan (the reaper). It ends when the
//! supervisor, the power button or the loss of the supervisor says so ([`shutdown`]), and
//! never because of what a peer sent.
//!
//! One thread does it all but the work on files, of which each piece has a thread of its own since it
//! may block. Nothing else here blocks on a peer or a command: every wait is on a
//! descriptor in one event loop and, where a peer must do something first, has a deadline.
//!
//! This is a library only so that its commands can be tested without a machine; the
//! program is `main.rs`.

mod agent;
pub mod boot;
mod channel;
mod clock;
mod conversation;
mod devices;
mod exec;
mod fs;
pub mod log;
mod monitor;
mod reaper;
mod session;
pub mod shutdown;
mod stream;
mod sys;

pub use agent::{Agent, MAX_SESSIONS};
pub use exec::Defaults;
pub use stream::Stream;
