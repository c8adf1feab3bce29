//! The program, from outside: exit codes, messages, nothing left behind.
#![allow(clippy::unwrap_used, clippy::print_stdout, reason = "a test")]

#[path = "../src/test_support.rs"]
#[allow(dead_code, unreachable_pub)]
mod test_support;

use std::os::fd::OwnedFd;
use std::path::Path;
use std::process::{Command, Output, Stdio};

use msb_vmapi::{ErrorKind, FromVmm, Reply};
use rustix::net::{AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType, socketpair};
use tempfile::TempDir;
use test_support::TinyKernel;

/// `mov dx, 0x600; mov al, 0x34; out dx, al; hlt`: powers off.
const POWER_OFF: &[u8] = &[0x66, 0xba, 0x00, 0x06, 0xb0, 0x34, 0xee, 0xf4];
/// `cli; hlt; jmp`: for ever.
const SLEEP: &[u8] = &[0xfa, 0xf4, 0xeb, 0xfc];

fn vmm() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_msb-vmm"));
    command.stdin(Stdio::null());
    command
}

fn hardware() -> bool {
    let there = msb_vmm::kvm::System::open().is_ok();
    if !there {
        println!("skipped: no KVM with hardware virtualization");
    }
    there
}

fn kernel(dir: &Path, code: &[u8]) -> std::path::PathBuf {
    let path = dir.join("kernel");
    std::fs::write(&path, TinyKernel::new(code).build()).unwrap();
    path
}

fn said(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

#[test]
fn help_says_what_there_is() {
    let output = vmm().arg("--help").output().unwrap();
    assert!(output.status.success());
    let text = String::from_utf8(output.stdout).unwrap();
    for word in [
        "--kernel",
        "--initrd",
        "--cmdline",
        "--cpus",
        "--memory",
        "--disk",
        "--vsock",
        "--console",
        "--serial",
        "--control",
        "--config",
        "--control-fd",
        "--check",
        "--no-jail",
        "--system-calls",
        "--isolation",
        "Ctrl-A x",
        "Exit codes",
        "CONNECT",
    ] {
        assert!(text.contains(word), "{word}");
    }
}

#[test]
fn usage_errors_are_refusals() {
    for args in [
        &[][..],
        &["--kernel"],
        &["--nonsense"],
        &["--kernel", "k", "--memory", "x"],
    ] {
        let output = vmm().args(args).output().unwrap();
        assert_eq!(output.status.code(), Some(2), "{args:?}");
        assert!(!output.stderr.is_empty());
    }
    let output = vmm().args(["--config", "/no/such"]).output().unwrap();
    assert_eq!(output.status.code(), Some(2));
    assert!(said(&output).contains("No such file"));
}

#[test]
fn what_the_filters_allow_is_listed() {
    let output = vmm().arg("--system-calls").output().unwrap();
    assert!(output.status.success());
    let text = String::from_utf8(output.stdout).unwrap();
    for role in ["main", "vcpu", "block", "porter"] {
        assert!(text.contains(&format!(r#""role":"{role}""#)), "{role}");
    }
}

#[test]
fn how_far_the_jail_comes_is_said_from_inside() {
    let output = vmm().arg("--isolation").output().unwrap();
    assert!(output.status.success(), "{}", said(&output));
    let text = String::from_utf8(output.stdout).unwrap();
    let layers: Vec<serde_json::Value> = text
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    for layer in ["no_new_privileges", "seccomp"] {
        let report = layers.iter().find(|report| report["layer"] == layer);
        assert_eq!(report.unwrap()["strength"], "full", "{layer}");
    }
    for report in &layers {
        let lacking = report["strength"] != "full";
        assert_eq!(report["advice"].is_string(), lacking, "{report}");
    }
}

#[test]
fn what_is_required_of_the_jail_is_refused_outside_of_it() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("machine.json");
    let config = r#"{"kernel":"/no/such","require":[{"layer":"seccomp","strength":"full"}]}"#;
    std::fs::write(&file, config).unwrap();
    let output = vmm()
        .arg("--no-jail")
        .arg("--config")
        .arg(&file)
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(2), "{}", said(&output));
    let said = said(&output);
    assert!(
        said.contains("weaker") && said.contains("seccomp missing"),
        "{said}"
    );
}

#[test]
fn outside_of_the_jail_it_shouts() {
    let output = vmm()
        .args(["--no-jail", "--kernel", "/no/such"])
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(2));
    assert!(
        said(&output).contains("NO JAIL: A GUEST"),
        "{}",
        said(&output)
    );
}

#[test]
fn a_control_descriptor_that_is_not_open() {
    for fd in ["-1", "77", "1000000"] {
        let output = vmm().arg(format!("--control-fd={fd}")).output().unwrap();
        assert_eq!(output.status.code(), Some(2), "{}", said(&output));
    }
}

#[test]
fn a_supervisor_that_hangs_up_at_once() {
    let flags = SocketFlags::CLOEXEC;
    let (ours, theirs) =
        socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, flags, None).unwrap();
    let child = vmm()
        .args(["--control-fd", "0"])
        .stdin(Stdio::from(theirs))
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    drop::<OwnedFd>(ours);
    let output = child.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(1));
    assert!(said(&output).contains("hung up"));
}

#[test]
fn what_needs_a_machine_is_refused_before_there_is_one() {
    let flags = SocketFlags::CLOEXEC;
    let (ours, theirs) =
        socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, flags, None).unwrap();
    let child = vmm()
        .args(["--control-fd", "0"])
        .stdin(Stdio::from(theirs))
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    for request in ["pause", "resume", "counters", "power_button"] {
        let datagram = format!(r#"{{"id":5,"request":"{request}"}}"#);
        rustix::net::send(&ours, datagram.as_bytes(), SendFlags::NOSIGNAL).unwrap();
        let mut buffer = vec![0; 4096];
        let (_, length) = rustix::net::recv(&ours, &mut buffer[..], RecvFlags::empty()).unwrap();
        match serde_json::from_slice(&buffer[..length]).unwrap() {
            FromVmm::Reply {
                id: 5,
                reply: Reply::Error(error),
            } => assert_eq!(error.kind, ErrorKind::State, "{request}"),
            other => panic!("{request}: {other:?}"),
        }
    }
    drop::<OwnedFd>(ours);
    child.wait_with_output().unwrap();
}

#[test]
fn without_virtualization_it_says_so() {
    if msb_vmm::kvm::System::open().is_ok() {
        println!("skipped: this host has virtualization");
        return;
    }
    let dir = TempDir::new().unwrap();
    let output = vmm()
        .arg("--kernel")
        .arg(kernel(dir.path(), POWER_OFF))
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(2));
    assert!(said(&output).contains("/dev/kvm"), "{}", said(&output));
    let output = vmm().arg("--check").output().unwrap();
    assert_eq!(output.status.code(), Some(1));
    assert!(said(&output).contains("/dev/kvm"), "{}", said(&output));
}

#[test]
fn bad_input_is_refused_and_leaves_nothing() {
    if !hardware() {
        return;
    }
    let dir = TempDir::new().unwrap();
    let kernel = kernel(dir.path(), POWER_OFF);
    for (args, says) in [
        (&["--memory", "0"][..], "at least 32M"),
        (&["--cpus", "0"], "give 1 to"),
        (&["--cpus", "65"], "give 1 to 64"),
        (&["--memory", "4096G"], "the host has"),
        (&["--initrd", "missing"], "No such file"),
        (&["--disk", "missing"], "No such file"),
        (&["--disk", "."], "not a regular file"),
    ] {
        let output = vmm()
            .current_dir(dir.path())
            .arg("--kernel")
            .arg(&kernel)
            .args(["--vsock", "v", "--control", "c"])
            .args(args)
            .output()
            .unwrap();
        assert_eq!(output.status.code(), Some(2), "{args:?}");
        assert!(said(&output).contains(says), "{}", said(&output));
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 1);
    }
}

#[test]
fn a_machine_that_powers_off() {
    if !hardware() {
        return;
    }
    let dir = TempDir::new().unwrap();
    let output = vmm()
        .arg("--kernel")
        .arg(kernel(dir.path(), POWER_OFF))
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(0), "{}", said(&output));
    assert!(said(&output).is_empty());
    let output = vmm().arg("--check").output().unwrap();
    assert_eq!(output.status.code(), Some(0), "{}", said(&output));
}

#[test]
fn sigterm_ends_it_and_removes_its_sockets() {
    if !hardware() {
        return;
    }
    let dir = TempDir::new().unwrap();
    let child = vmm()
        .current_dir(dir.path())
        .arg("--kernel")
        .arg(kernel(dir.path(), SLEEP))
        .args(["--vsock", "v", "--control", "c", "--log", "info"])
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let pid = rustix::process::Pid::from_child(&child);
    // It says when the guest is entered.
    let mut child = child;
    let mut line = String::new();
    let mut said = std::io::BufReader::new(child.stderr.take().unwrap());
    // What of the jail is in force, it says before.
    while !line.contains("enters the guest") {
        line.clear();
        let read = std::io::BufRead::read_line(&mut said, &mut line).unwrap();
        assert!(read > 0, "it ended");
    }
    assert!(dir.path().join("v").exists());
    rustix::process::kill_process(pid, rustix::process::Signal::TERM).unwrap();
    assert_eq!(child.wait().unwrap().code(), Some(12));
    assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 1);
}
