//! Attacks by a VMM that its guest owns, and what must come of them.

use std::net::TcpListener;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr, UnixListener};
use std::path::Path;
use std::process::{Command, Output, Stdio};

use tempfile::TempDir;

use super::support::guest::{kernel, out};

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

/// The file of a kernel that asks for an attempt in a thread of this role.
pub(super) fn kernel_that_asks(role: u8, attempt: u16) -> Vec<u8> {
    kernel(&guest(role, attempt))
}

struct Victims {
    dir: TempDir,
    _socket: UnixListener,
    _abstract: Option<UnixListener>,
    tcp: TcpListener,
}

impl Victims {
    fn new() -> Self {
        let dir = TempDir::new().unwrap();
        std::fs::write(dir.path().join("disk"), [0; 4096]).unwrap();
        std::fs::write(dir.path().join("victim"), "a secret").unwrap();
        let address = SocketAddr::from_abstract_name("msb-attacker-victim").unwrap();
        Self {
            _socket: UnixListener::bind(dir.path().join("socket")).unwrap(),
            // Another test may have it.
            _abstract: UnixListener::bind_addr(&address).ok(),
            tcp: TcpListener::bind("127.0.0.1:0").unwrap(),
            dir,
        }
    }

    fn attack(&self, attacker: &Path, mode: &str, role: u8, attempt: u16) -> Output {
        let dir = self.dir.path();
        std::fs::write(dir.join("kernel"), kernel_that_asks(role, attempt)).unwrap();
        let plan = format!(
            "mode={mode};file={};socket={};tcp={};pid={}",
            dir.join("victim").display(),
            dir.join("socket").display(),
            self.tcp.local_addr().unwrap().port(),
            std::process::id(),
        );
        Command::new(attacker)
            .env("MSB_ATTACKER", plan)
            .args(["--memory", "32M", "--kernel"])
            .arg(dir.join("kernel"))
            .arg("--disk")
            .arg(dir.join("disk"))
            .stdin(Stdio::null())
            .output()
            .unwrap()
    }

    /// Lets a thread make every attempt, none of which may succeed, and returns what is said of them.
    fn hold_out(&self, attacker: &Path, how: &str, role: &str, number: u8) -> String {
        let output = self.attack(attacker, how, number, ALL);
        let said = said(&output);
        println!("{said}");
        assert_eq!(output.status.code(), Some(0), "{said}");
        assert!(
            said.contains(&format!("attack {role}: over, 0 succeeded")),
            "{said}"
        );
        said
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

pub(super) fn every_attempt_fails(attacker: &Path) {
    let victims = Victims::new();
    for (role, number) in ROLES {
        let said = victims.hold_out(attacker, "list", role, number);
        let attempts = attempts(&said, role);
        assert!(attempts.len() > 40, "{said}");
        for attempt in attempts {
            // By the filter, and not for another reason.
            assert!(attempt.contains("os error 18"), "{role} {attempt}");
        }
    }
}

pub(super) fn nothing_is_reached_without_filters(attacker: &Path) {
    let victims = Victims::new();
    for (role, number) in ROLES {
        victims.hold_out(attacker, "bare", role, number);
    }
}

pub(super) fn the_first_attempt_is_the_last(attacker: &Path) {
    let victims = Victims::new();
    for (role, number) in ROLES {
        for attempt in 0.. {
            let output = victims.attack(attacker, "kill", number, attempt);
            let said = said(&output);
            if said.contains("over, 0 succeeded") {
                // There are no more.
                assert!(attempt > 40, "{said}");
                break;
            }
            assert_eq!(output.status.code(), Some(13), "{said}");
            assert!(attempts(&said, role).is_empty(), "{said}");
            let call = [(0, "openat"), (12, "ptrace"), (16, "execve"), (31, "fork")]
                .into_iter()
                .find_map(|(number, call)| (number == attempt).then_some(call))
                .unwrap_or_default();
            let word = format!("{role} thread called {call}");
            assert!(said.contains(&word), "{attempt} {word}: {said}");
        }
    }
}
