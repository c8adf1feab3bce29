//! The few system calls that no safe wrapper covers.
//!
//! Everything `unsafe` of this crate is below here, one concept a file; the rest of the
//! agent reaches the kernel through `rustix`.

pub(crate) mod handoff;
#[cfg(test)]
pub(crate) mod private;
pub(crate) mod process;
pub(crate) mod readiness;
pub(crate) mod resize;
pub(crate) mod restrict;
pub(crate) mod signal;
pub(crate) mod vsock;
