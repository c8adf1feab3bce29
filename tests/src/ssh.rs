//! An ssh server in a guest, reached over vsock: what `cargo xtask bench exec` compares with.
//!
//! In the guest, socat listens on a vsock port and becomes `sshd -i` for each connection. On the
//! host, `ssh` asks a proxy for the connection: a mode of the benchmark's own program, which opens the
//! VMM's socket, says what port it wants, and hands the descriptor over. So on neither side is
//! there a process that copies bytes, and ssh is measured at its best. Keys are made for each run.

use std::ffi::OsString;
use std::fs;
use std::io::{IoSlice, Read, Write};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use microsandbox::{AgentClient, ExecEvent, ExecHandle, Sandbox};
use rustix::net::{SendAncillaryBuffer, SendAncillaryMessage, SendFlags, sendmsg};
use tempfile::TempDir;
use tokio::process::Command;
use tokio::task::JoinHandle;

use crate::within;

/// The mode of the program: `PROGRAM ssh-proxy SOCKET`, with a socket as standard output.
pub const PROXY: &str = "ssh-proxy";

/// Where the server listens.
const PORT: u32 = 2222;
/// The guest's name in known_hosts and on command lines. Nobody looks it up.
const HOST: &str = "guest";
/// In the guest.
const DIR: &str = "/root/ssh";
const CONFIG: &str = "HostKey /root/ssh/host_key\n\
                      AuthorizedKeysFile /root/ssh/authorized_keys\n\
                      PermitRootLogin prohibit-password\n\
                      UsePAM no\n";
/// The answer to `CONNECT` is shorter.
const LONGEST_ANSWER: usize = 64;
/// How long the VMM and the guest may take to answer.
const ANSWER: Duration = Duration::from_secs(60);

/// A server, and how to get at it. It ends when this is dropped.
#[derive(Debug)]
pub struct Server {
    dir: TempDir,
    socket: PathBuf,
    running: JoinHandle<()>,
}

impl Server {
    /// Starts the server in a sandbox with a Debian.
    pub async fn start(sandbox: &Sandbox) -> Result<Self> {
        let dir = tempfile::tempdir().context("no temporary directory")?;
        make_key(&dir.path().join("key")).await?;
        make_key(&dir.path().join("host_key")).await?;
        let public = fs::read_to_string(dir.path().join("host_key.pub"))?;
        fs::write(dir.path().join("known_hosts"), format!("{HOST} {public}"))?;

        let prepare = format!("umask 077; mkdir -p /run/sshd {DIR}");
        ensure!(sandbox.shell(prepare).await?.status().success);
        let files = sandbox.fs();
        files.write(&format!("{DIR}/config"), CONFIG).await?;
        // Copies keep the mode, and sshd wants a key that nobody else may read.
        for (from, to) in [("host_key", "host_key"), ("key.pub", "authorized_keys")] {
            let to = format!("{DIR}/{to}");
            files.copy_from_host(dir.path().join(from), &to).await?;
        }
        let mut handle = sandbox
            .exec_stream(
                "socat",
                [
                    "-d".to_owned(),
                    "-d".to_owned(),
                    format!("VSOCK-LISTEN:{PORT},fork"),
                    format!("EXEC:/usr/sbin/sshd -i -f {DIR}/config -E {DIR}/log,nofork"),
                ],
            )
            .await?;
        until_it_listens(&mut handle).await?;
        Ok(Self {
            dir,
            socket: AgentClient::socket_path(sandbox.name())?,
            // What it says later is read too, or it would have to wait with saying it.
            running: tokio::spawn(async move { while handle.recv().await.is_some() {} }),
        })
    }

    /// An ssh that opens a connection of its own. What it is to run is still to be added.
    pub fn connecting(&self) -> Result<Command> {
        let program = std::env::current_exe().context("cannot find our own program")?;
        let proxy = [program.as_path(), Path::new(PROXY), &self.socket].map(quoted);
        let mut command = self.ssh(&proxy.join(" "));
        command.arg("-o").arg("ProxyUseFdpass=yes").arg(HOST);
        Ok(command)
    }

    /// Opens a connection that others share from now on.
    pub async fn share(&self) -> Result<Shared<'_>> {
        let mut command = self.connecting()?;
        let control = self.dir.path().join("control");
        // It goes to the background when it is connected.
        command.args(["-M", "-N", "-f", "-S"]).arg(&control);
        let status = command.stdin(Stdio::null()).stdout(Stdio::null()).status();
        ensure!(status.await?.success(), "ssh cannot connect to the guest");
        Ok(Shared {
            server: self,
            control,
        })
    }

    fn ssh(&self, proxy: &str) -> Command {
        let mut command = Command::new("ssh");
        command.args(["-F", "none", "-T", "-l", "root"]);
        for option in [
            "BatchMode=yes",
            "GlobalKnownHostsFile=/dev/null",
            "IdentitiesOnly=yes",
            "IdentityAgent=none",
            "LogLevel=ERROR",
            "StrictHostKeyChecking=yes",
            &format!("ProxyCommand={proxy}"),
        ] {
            command.arg("-o").arg(option);
        }
        for (option, name) in [
            ("IdentityFile", "key"),
            ("UserKnownHostsFile", "known_hosts"),
        ] {
            let mut value = OsString::from(format!("{option}="));
            value.push(self.dir.path().join(name));
            command.arg("-o").arg(value);
        }
        command.kill_on_drop(true);
        command
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // With the task its handle is dropped, which ends the command.
        self.running.abort();
    }
}

/// A connection that is open and shared, until this is dropped.
#[derive(Debug)]
pub struct Shared<'a> {
    server: &'a Server,
    control: PathBuf,
}

impl Shared<'_> {
    /// An ssh that goes over the connection. What it is to run is still to be added.
    pub fn command(&self) -> Command {
        // Without the connection it must fail, and not open another one.
        let mut command = self.server.ssh("false");
        command.arg("-S").arg(&self.control).arg(HOST);
        command
    }
}

impl Drop for Shared<'_> {
    fn drop(&mut self) {
        let end = std::process::Command::new("ssh")
            .args(["-F", "none", "-O", "exit", "-S"])
            .arg(&self.control)
            .arg(HOST)
            .stderr(Stdio::null())
            .status();
        // Else it ends with the guest.
        drop(end);
    }
}

async fn make_key(path: &Path) -> Result<()> {
    let mut command = Command::new("ssh-keygen");
    command.args(["-q", "-t", "ed25519", "-N", "", "-C", "bench", "-f"]);
    let status = command.arg(path).status().await;
    let status = status.context("cannot run ssh-keygen; install the package openssh-client")?;
    ensure!(status.success(), "ssh-keygen failed: {status}");
    Ok(())
}

async fn until_it_listens(handle: &mut ExecHandle) -> Result<()> {
    let mut said = String::new();
    while !said.contains("listening on") {
        match within(handle.recv()).await {
            Some(ExecEvent::Started { .. }) => {}
            Some(ExecEvent::Stderr(bytes)) => said.push_str(&String::from_utf8_lossy(&bytes)),
            other => bail!("socat in the guest does not listen: {other:?} {said}"),
        }
    }
    Ok(())
}

/// A word of the command line that ssh gives to a shell, after it has replaced what begins with %.
fn quoted(word: impl AsRef<Path>) -> String {
    let word = word.as_ref().to_string_lossy();
    format!("'{}'", word.replace('\'', r"'\''").replace('%', "%%"))
}

/// Connects to the server through the VMM's socket, and hands the connection to the ssh that waits
/// for it at the other end of standard output.
pub fn hand_over(socket: &Path) -> Result<()> {
    let stream = UnixStream::connect(socket)
        .with_context(|| format!("cannot connect to {}", socket.display()))?;
    stream.set_read_timeout(Some(ANSWER))?;
    (&stream).write_all(format!("CONNECT {PORT}\n").as_bytes())?;
    // Byte by byte: what follows the line is not for us.
    let (mut answer, mut byte) = (Vec::new(), [0]);
    while byte != *b"\n" {
        (&stream)
            .read_exact(&mut byte)
            .context("nobody listens in the guest")?;
        ensure!(answer.len() < LONGEST_ANSWER, "that is no answer");
        answer.extend(byte);
    }
    ensure!(
        answer.starts_with(b"OK "),
        "the VMM said {:?}",
        String::from_utf8_lossy(&answer)
    );
    stream.set_read_timeout(None)?;
    send_descriptor(std::io::stdout().as_fd(), stream.as_fd())
}

/// The form that ssh expects: one byte, and the descriptor with it.
fn send_descriptor(to: BorrowedFd<'_>, descriptor: BorrowedFd<'_>) -> Result<()> {
    let descriptors = [descriptor];
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut message = SendAncillaryBuffer::new(&mut space);
    ensure!(
        message.push(SendAncillaryMessage::ScmRights(&descriptors)),
        "the descriptor does not fit"
    );
    sendmsg(to, &[IoSlice::new(&[0])], &mut message, SendFlags::empty())
        .context("standard output is not ssh's socket")?;
    Ok(())
}
