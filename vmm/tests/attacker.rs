//! A VMM that its guest owns, on this host's KVM: what the attacker gets, which is nothing. Built with the
//! feature `attacker` only: `cargo test -p msb-vmm --features attacker --test attacker`.
#![allow(clippy::unwrap_used, clippy::print_stdout, reason = "a test")]

#[allow(dead_code, unreachable_pub)]
mod support;

use std::net::TcpListener;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr, UnixListener};
use std::process::{Command, Output, Stdio};

use support::{Place, out, system};

const ROLES: [(&str, u8); 3] = [("main", 1), ("vcpu", 2), ("block", 3)];
const ALL: u16 = 0xffff;

/// A guest that asks for an attempt in a thread of this role, and then powers off.
fn guest(role: u8, attempt: u16) -> Vec<u8> {
    // mov dx, 0xa77a; mov eax, order; out dx, eax
    let mut code = vec![0x66, 0xba, 0x7a, 0xa7, 0xb8];
    code.extend(attempt.to_le_bytes());
    code.extend([role, 0, 0xef]);
    code.extend(out(0x600, 0x34));
    code
}

struct Victims {
    place: Place,
    _socket: UnixListener,
    _abstract: Option<UnixListener>,
    tcp: TcpListener,
}

impl Victims {
    fn new() -> Self {
        let place = Place::new(&[]);
        std::fs::write(place.path().join("disk"), [0; 4096]).unwrap();
        std::fs::write(place.path().join("victim"), "a secret").unwrap();
        let address = SocketAddr::from_abstract_name("msb-attacker-victim").unwrap();
        Self {
            _socket: UnixListener::bind(place.path().join("socket")).unwrap(),
            // Another test may have it.
            _abstract: UnixListener::bind_addr(&address).ok(),
            tcp: TcpListener::bind("127.0.0.1:0").unwrap(),
            place,
        }
    }

    fn attack(&self, mode: &str, role: u8, attempt: u16) -> Output {
        let dir = self.place.path();
        let kernel = support::kernel(&guest(role, attempt));
        std::fs::write(dir.join("kernel"), kernel).unwrap();
        let plan = format!(
            "mode={mode};file={};socket={};tcp={};pid={}",
            dir.join("victim").display(),
            dir.join("socket").display(),
            self.tcp.local_addr().unwrap().port(),
            std::process::id(),
        );
        Command::new(env!("CARGO_BIN_EXE_msb-vmm-attacker"))
            .env("MSB_ATTACKER", plan)
            .args(["--memory", "32M", "--kernel"])
            .arg(dir.join("kernel"))
            .arg("--disk")
            .arg(dir.join("disk"))
            .stdin(Stdio::null())
            .output()
            .unwrap()
    }
}

fn said(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

/// Every attempt of a run in which the thread goes on.
fn attempts(said: &str, role: &str) -> Vec<String> {
    let prefix = format!("msb-vmm: attack {role} ");
    let lines = said.lines().filter_map(|line| line.strip_prefix(&prefix));
    lines.map(str::to_owned).collect()
}

#[test]
fn in_every_role_every_attempt_fails() {
    if system().is_none() {
        return;
    }
    let victims = Victims::new();
    for (role, number) in ROLES {
        let output = victims.attack("list", number, ALL);
        let said = said(&output);
        println!("{said}");
        assert_eq!(output.status.code(), Some(0), "{said}");
        assert!(
            said.contains(&format!("attack {role}: over, 0 succeeded")),
            "{said}"
        );
        let attempts = attempts(&said, role);
        assert!(attempts.len() > 40, "{said}");
        for attempt in attempts {
            // By the filter, and not for another reason.
            assert!(attempt.contains("os error 18"), "{role} {attempt}");
        }
    }
}

#[test]
fn without_filters_nothing_outside_is_reached() {
    if system().is_none() {
        return;
    }
    let victims = Victims::new();
    for (role, number) in ROLES {
        let output = victims.attack("bare", number, ALL);
        let said = said(&output);
        println!("{said}");
        assert_eq!(output.status.code(), Some(0), "{said}");
        assert!(
            said.contains(&format!("attack {role}: over, 0 succeeded")),
            "{said}"
        );
    }
}

#[test]
fn the_first_attempt_is_the_last() {
    if system().is_none() {
        return;
    }
    let victims = Victims::new();
    for (role, number) in ROLES {
        for (attempt, call) in [(0, "openat"), (12, "ptrace"), (16, "execve"), (31, "fork")] {
            let output = victims.attack("kill", number, attempt);
            let said = said(&output);
            assert_eq!(output.status.code(), Some(13), "{said}");
            let word = format!("{role} thread called {call}, which the jail forbids");
            assert!(said.contains(&word), "{word}: {said}");
            assert!(attempts(&said, role).is_empty(), "{said}");
        }
    }
}
