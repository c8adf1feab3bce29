//! Machines of a few instructions in the jail. Any KVM will do, an interpreting one too.
//!
//! The jail is for a whole process, and for good: each machine runs in a process that the test splits off.
#![allow(
    unsafe_code,
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "a test"
)]

#[allow(dead_code, unreachable_pub)]
#[path = "../support/mod.rs"]
mod support;

mod devices;
mod inside;
mod outside;
