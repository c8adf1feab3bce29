//! The control socket of a VMM that stands alone.

use std::os::fd::OwnedFd;
use std::path::Path;

use anyhow::{Context, Result};
use msb_tests::Fixture;
use rustix::net::{
    AddressFamily, RecvFlags, SendFlags, SocketAddrUnix, SocketType, connect, recv, send, socket,
    sockopt,
};
use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt, BufReader, Lines};
use tokio::process::{Child, ChildStdout};

use super::{KILLED, POWER_OFF, initramfs, kernel, vmm};

struct Machine {
    child: Child,
    /// Its console: closed, its output would have nowhere to go.
    _console: Lines<BufReader<ChildStdout>>,
    control: OwnedFd,
}

/// Boots `script` with a control socket, and waits until it has said `up`.
async fn boot(fixture: &Fixture, script: &str) -> Result<Machine> {
    let path = fixture.path().join("control.sock");
    let mut command = vmm(["--console", "stdio", "--memory", "128M"])?;
    command
        .arg("--kernel")
        .arg(kernel()?)
        .arg("--control")
        .arg(&path);
    command
        .arg("--initrd")
        .arg(initramfs(fixture.path(), script)?);
    let mut child = command.spawn()?;
    let mut lines = BufReader::new(child.stdout.take().context("piped")?).lines();
    while let Some(line) = msb_tests::within(lines.next_line()).await? {
        if line.contains("up") {
            return Ok(Machine {
                child,
                control: dial(&path)?,
                _console: lines,
            });
        }
    }
    anyhow::bail!("the machine did not come up")
}

fn dial(path: &Path) -> Result<OwnedFd> {
    let control = socket(AddressFamily::UNIX, SocketType::SEQPACKET, None)?;
    connect(&control, &SocketAddrUnix::new(path)?)?;
    sockopt::set_socket_timeout(&control, sockopt::Timeout::Recv, Some(msb_tests::PATIENCE))?;
    Ok(control)
}

fn ask(control: &OwnedFd, datagram: &[u8]) -> Result<Value> {
    send(control, datagram, SendFlags::NOSIGNAL)?;
    hear(control)
}

fn hear(control: &OwnedFd) -> Result<Value> {
    let mut buffer = vec![0; 65_536];
    let (_, length) = recv(control, &mut buffer, RecvFlags::empty())?;
    Ok(serde_json::from_slice(&buffer[..length])?)
}

async fn exit_code(machine: &mut Machine) -> Result<Option<i32>> {
    Ok(msb_tests::within(machine.child.wait()).await?.code())
}

#[tokio::test]
async fn the_state_and_the_kill() -> Result<()> {
    let fixture = Fixture::new()?;
    let mut machine = boot(&fixture, "echo up; sleep 1000").await?;
    let answer = ask(&machine.control, br#"{"id": 7, "request": "state"}"#)?;
    assert_eq!(
        answer,
        json!({"reply": {"id": 7, "reply": {"state": "running"}}})
    );

    // Nonsense is answered, and hurts nobody.
    let answer = ask(&machine.control, b"hello?")?;
    assert_eq!(
        answer["reply"]["reply"]["error"]["kind"], "malformed",
        "{answer}"
    );

    let other = dial(&fixture.path().join("control.sock"))?;
    let answer = ask(&other, br#"{"id": 1, "request": "kill"}"#)?;
    assert_eq!(answer["reply"]["id"], 1, "{answer}");
    assert_eq!(
        hear(&machine.control)?,
        json!({"event": {"ended": "killed"}})
    );
    assert_eq!(exit_code(&mut machine).await?, Some(KILLED));
    assert!(
        !fixture.path().join("control.sock").exists(),
        "the socket was left behind"
    );
    Ok(())
}

#[tokio::test]
async fn the_power_button_is_the_guests_to_answer() -> Result<()> {
    let fixture = Fixture::new()?;
    let script = "trap 'echo pressed; poweroff -f' 38; echo up; while :; do sleep 0.1; done";
    let mut machine = boot(&fixture, script).await?;
    let answer = ask(&machine.control, br#"{"id": 2, "request": "power_button"}"#)?;
    assert_eq!(answer, json!({"reply": {"id": 2, "reply": "done"}}));
    assert_eq!(
        hear(&machine.control)?,
        json!({"event": {"ended": "power_off"}})
    );
    assert_eq!(exit_code(&mut machine).await?, Some(POWER_OFF));
    Ok(())
}
