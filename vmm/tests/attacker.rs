//! A VMM that its guest owns, on this host's KVM: what the attacker gets, which is nothing. Built with the
//! feature `attacker` only: `cargo test -p msb-vmm --features attacker --test attacker`.
#![allow(clippy::unwrap_used, clippy::print_stdout, reason = "a test")]

#[path = "support/attack.rs"]
mod attack;
#[allow(dead_code, unreachable_pub)]
mod support;

use std::path::Path;
use std::process::{Command, Stdio};

use msb_vmapi::{Event, FromVmm, Outcome, Request, ThreadRole, Violation, VmConfig};

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

#[test]
fn a_supervisor_hears_which_call_it_was() {
    if support::system().is_none() {
        return;
    }
    let (supervisor, theirs) = support::Supervisor::pair();
    let dir = tempfile::TempDir::new().unwrap();
    let kernel = dir.path().join("kernel");
    std::fs::write(&kernel, attack::kernel_that_asks(1, 0)).unwrap();
    let mut vmm = Command::new(ATTACKER)
        .args(["--control-fd", "0"])
        .env("MSB_ATTACKER", "mode=kill")
        .stdin(Stdio::from(theirs))
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    supervisor.ask(1, Request::Configure(Box::new(VmConfig::new(kernel))));
    let violation = Violation {
        thread: ThreadRole::Main,
        syscall: "openat".to_owned(),
    };
    let last = FromVmm::Event(Event::Ended(Outcome::Violation(violation)));
    let mut heard = Vec::new();
    while let Some(message) = supervisor.hear() {
        heard.push(message);
    }
    assert_eq!(heard.last(), Some(&last), "{heard:?}");
    assert_eq!(vmm.wait().unwrap().code(), Some(13));
}
