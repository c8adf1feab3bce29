//! A VMM that its guest owns, on this host's KVM: what the attacker gets, which is nothing. Built with the
//! feature `attacker` only: `cargo test -p msb-vmm --features attacker --test attacker`.
#![allow(clippy::unwrap_used, clippy::print_stdout, reason = "a test")]

#[path = "support/attack.rs"]
mod attack;
#[allow(dead_code, unreachable_pub)]
mod support;

use std::path::Path;

const ATTACKER: &str = env!("CARGO_BIN_EXE_msb-vmm-attacker");

#[test]
fn in_every_role_every_attempt_fails() {
    if support::system().is_some() {
        attack::every_attempt_fails(Path::new(ATTACKER));
    }
}

#[test]
fn without_filters_nothing_outside_is_reached() {
    if support::system().is_some() {
        attack::nothing_is_reached_without_filters(Path::new(ATTACKER));
    }
}

#[test]
fn the_first_attempt_is_the_last() {
    if support::system().is_some() {
        attack::the_first_attempt_is_the_last(Path::new(ATTACKER));
    }
}
