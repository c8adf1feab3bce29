//! What the supervisor process and its clients share.
//!
//! One supervisor (`msb-runtime`) runs for each sandbox. It holds all that must outlive
//! the program that asked for the sandbox: the VMM process, the lock that says
//! "alive", the sockets. This library is the part of it that the `microsandbox`
//! crate uses too: where a run's files are ([`rundir`]), how to tell the supervisor
//! things ([`control`]), how to talk with the guest's agent ([`conversation`]), and what it
//! leaves for them to read: output ([`logs`]) and measurements ([`metrics`]).

pub mod boot;
pub mod chain;
pub mod clock;
pub mod control;
pub mod conversation;
pub mod durable;
pub mod end;
pub mod images;
pub mod isolation;
pub mod jail;
pub mod kernel_config;
pub mod lines;
pub mod logs;
pub mod metrics;
pub mod registry;
pub mod rundir;
pub mod sandbox_dir;
pub mod snapshots;
pub mod upper;

/// What the VMM refused, for a program to match on.
pub use msb_vmapi::ErrorKind as VmErrorKind;
