//! The filters beside what the threads really call: no rule too many, none too few.
//!
//! Two lives are traced. One is of a machine that stands alone: its guest, of a few instructions, has every device
//! do all that it can, and programs of the host talk to it. The other is of a sandbox, with a root that
//! others may share and a writable layer: boot, commands, pause, resume, stop.

use std::fs::{self, Permissions};
use std::io::{Read, Write};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use msb_tests::trace::{self, Rules, Trace};
use msb_tests::{Fixture, PATIENCE, erofs, in_time};
use rustix::net::{
    AddressFamily, RecvFlags, SendFlags, SocketAddrUnix, SocketType, connect, recv, send, socket,
};

use super::super::standalone::variable;
use super::support::guest::driver::{self, Program};
use super::support::guest::kernel;

/// Each call costs two stops, where all is emulated anyhow.
const TRACED: Duration = Duration::from_secs(600);

const PORT: u32 = 1024;

fn strace() -> Result<PathBuf> {
    let path = PathBuf::from("/usr/bin/strace");
    ensure!(path.exists(), "install strace");
    Ok(path)
}

/// A machine that stands alone, traced.
fn alone(fixture: &Fixture, trace: &Path) -> Result<()> {
    let dir = fixture.path();
    let mut program = Program::default();
    driver::use_devices(&mut program);
    driver::connect(&mut program, PORT);
    fs::write(dir.join("kernel"), kernel(&program.stay()))?;
    fs::write(dir.join("disk"), [0; 8192])?;
    let service = UnixListener::bind(dir.join(format!("vsock_{PORT}")))?;
    let mut vmm = Command::new(strace()?)
        .args(trace::OPTIONS)
        .arg("-o")
        .arg(trace)
        .arg(variable("MSB_VMM_PATH")?)
        .args(["--memory", "32M", "--cpus", "2", "--kernel"])
        .arg(dir.join("kernel"))
        .arg("--disk")
        .arg(dir.join("disk"))
        .arg("--vsock")
        .arg(dir.join("vsock"))
        .arg("--control")
        .arg(dir.join("control"))
        .arg("--console")
        .arg(dir.join("console"))
        .stdin(Stdio::null())
        .spawn()?;
    let (mut guest, _) = service.accept()?;
    let mut heard = [1; 4];
    guest.read_exact(&mut heard)?;
    ensure!(heard == [0; 4], "it said {heard:?}");

    let control = socket(AddressFamily::UNIX, SocketType::SEQPACKET, None)?;
    connect(&control, &SocketAddrUnix::new(dir.join("control"))?)?;
    for request in ["state", "pause", "counters", "resume"] {
        ask(&control, request)?;
    }
    guest.write_all(b"word")?;
    // The guest ends its connection.
    ensure!(guest.read(&mut heard)? == 0, "it said more");

    // Programs of the host: one that asks for a port on which nobody answers, one that makes no sense.
    let mut program = UnixStream::connect(dir.join("vsock"))?;
    program.write_all(b"CONNECT 5\n")?;
    UnixStream::connect(dir.join("vsock"))?.write_all(b"nonsense\n")?;
    // By then both were read.
    ask(&control, "state")?;
    ask(&control, "kill")?;
    ensure!(ended(&mut vmm)?.code() == Some(12), "another end");
    ensure!(
        fs::read(dir.join("console"))? == b"yes\n",
        "nothing on the console"
    );
    Ok(())
}

/// Asks, and waits for the answer.
fn ask(control: &std::os::fd::OwnedFd, request: &str) -> Result<()> {
    let datagram = format!(r#"{{"id":7,"request":"{request}"}}"#);
    send(control, datagram.as_bytes(), SendFlags::NOSIGNAL)?;
    let mut buffer = vec![0; 1 << 16];
    loop {
        let (_, length) = recv(control, &mut buffer[..], RecvFlags::empty())?;
        let message: serde_json::Value = serde_json::from_slice(&buffer[..length])?;
        if message["reply"]["id"] == 7 {
            let refused = &message["reply"]["reply"]["error"];
            ensure!(refused.is_null(), "{request}: {message}");
            return Ok(());
        }
    }
}

fn ended(vmm: &mut Child) -> Result<std::process::ExitStatus> {
    let end = Instant::now() + PATIENCE;
    loop {
        if let Some(status) = vmm.try_wait()? {
            return Ok(status);
        }
        if Instant::now() > end {
            vmm.kill()?;
            anyhow::bail!("the VMM did not end");
        }
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// A sandbox's life, its VMM traced.
async fn sandbox(fixture: &Fixture, trace: &Path) -> Result<()> {
    let wrapper = fixture.path().join("msb-vmm");
    // As a grandchild, strace leaves the VMM the process that the supervisor has started.
    let script = format!(
        "#!/bin/sh\nexec {} -D {} -o {} {} \"$@\"\n",
        strace()?.display(),
        trace::OPTIONS.map(|option| format!("'{option}'")).join(" "),
        trace.display(),
        variable("MSB_VMM_PATH")?.display(),
    );
    fs::write(&wrapper, script)?;
    fs::set_permissions(&wrapper, Permissions::from_mode(0o755))?;
    let disk = erofs::make(&fixture.path().join("root.erofs"), |_| Ok(()))?;
    let mut program = tokio::process::Command::new(env!("CARGO_BIN_EXE_msb-test-traced"));
    program
        .arg("traced")
        .arg(disk)
        .env("MSB_VMM_PATH", wrapper)
        .stdin(Stdio::null())
        .kill_on_drop(true);
    let output = in_time(TRACED, program.output()).await?;
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    ensure!(output.status.success(), "{said}");
    Ok(())
}

#[test]
fn traces_are_read_as_they_are_written() {
    trace::self_test();
}

#[tokio::test]
async fn each_rule_is_made_use_of_and_each_call_has_one() -> Result<()> {
    let fixture = Fixture::new()?;
    let (first, second) = (fixture.path().join("alone"), fixture.path().join("sandbox"));
    alone(&fixture, &first)?;
    sandbox(&fixture, &second).await?;
    let traces = [Trace::read(&first)?, Trace::read(&second)?];
    let roles: Vec<&str> = traces.iter().flat_map(Trace::roles).collect();
    for role in ["main", "vcpu", "block"] {
        let times = roles.iter().filter(|seen| **seen == role).count();
        ensure!(times == 2, "{role} was seen {times} times: {roles:?}");
    }
    ensure!(roles.contains(&"porter"), "{roles:?}");
    let rules = Rules::of(&variable("MSB_VMM_PATH")?)?;
    let wrong = rules.compare(&traces);
    ensure!(wrong.is_empty(), "{}", wrong.join("\n"));
    Ok(())
}

/// The half of it that needs no guest kernel, for trying filters out.
#[test]
#[ignore = "the test above does more"]
fn a_machine_that_stands_alone() -> Result<()> {
    let dir = tempfile::tempdir().context("no directory")?;
    let fixture = Fixture::new()?;
    let trace = dir.path().join("trace");
    alone(&fixture, &trace)?;
    let rules = Rules::of(&variable("MSB_VMM_PATH")?)?;
    for wrong in rules.compare(&[Trace::read(&trace)?]) {
        println!("{wrong}");
    }
    Ok(())
}
