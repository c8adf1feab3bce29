//! What each thread may ask of the kernel, call by call, and why.
//!
//! ```text
//! main  = every + main            (+ terminal, while a person's terminal is raw)
//! vcpu  = every + thread + vcpu
//! block = every + thread + block
//! porter = its own
//! ```
//!
//! What is not here is not there: nothing that takes a path, makes a socket of a network, starts a
//! process or thread, changes what memory is for, or looks at another process. Memory is never made
//! executable: `mmap` is allowed with one set of arguments only, and `mprotect` not at all.
//!
//! A rule that no ordinary life makes use of is marked, with the reason. All others are made use of in
//! the test that traces a whole life (`tests/e2e/jail/strace.rs`), which fails for one that is not.
//!
//! Numbers and calls that differ between processors are in `arch`.

mod arch;
mod block;
mod every;
mod main;
mod porter;
mod vcpu;

use super::Role;
use super::rule::Rule;

/// The tables of a role. `terminal`: a person's terminal is raw, and must be made as it was.
pub(super) fn of(role: Role, terminal: bool) -> Vec<&'static [Rule]> {
    let mut tables = match role {
        Role::Main => vec![every::RULES, main::RULES],
        Role::Vcpu => vec![every::RULES, every::THREAD, vcpu::RULES],
        Role::Block => vec![every::RULES, every::THREAD, block::RULES],
        Role::Porter => vec![porter::RULES],
    };
    if terminal {
        tables.push(every::TERMINAL);
    }
    tables
}
