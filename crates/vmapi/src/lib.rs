//! Wire form of a machine, and the conversation with the process that runs it.
//!
//! A VMM process is told what to build by one [`VmConfig`], and then answers
//! [`Request`]s and tells [`Event`]s over its control socket. This crate holds
//! those three as plain data: no validation beyond their shape (that is the
//! VMM's `Blueprint`), no I/O.
//!
//! The control socket is a Unix `SOCK_SEQPACKET` socket. Each datagram is one
//! JSON object of at most [`MAX_DATAGRAM`] bytes; file descriptors ride beside
//! it as `SCM_RIGHTS`. JSON, because a person with `socat` is one of its users.

mod config;
mod control;
mod counters;
mod disk;
mod exit;
mod isolation;
mod pmem;
mod size;

pub use config::{ConsoleTarget, Source, VmConfig, VsockConfig};
pub use control::{
    CrashCause, ErrorKind, Event, FromVmm, MAX_DATAGRAM, MAX_DESCRIPTORS, Outcome, Reply, Request,
    ThreadRole, ToVmm, Violation, VmError, VmState,
};
pub use counters::{Counters, DiskCounters};
pub use disk::{DiskConfig, DiskContent, DiskExtent};
pub use exit::ExitCode;
pub use isolation::{Isolation, Layer, LayerReport, Requirement, Strength};
pub use pmem::PmemConfig;
pub use size::{MemorySize, ParseSizeError};
