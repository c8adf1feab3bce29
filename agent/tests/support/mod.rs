//! An agent on a thread of this process, and a client that talks to it.
//!
//! The agent waits for every child of the process, so there is one for all tests of a
//! file, and no test may start a process by itself. The process is a subreaper, so that
//! orphans come to the agent as they do to PID 1.

#![allow(dead_code, reason = "each test file uses a part of it")]

pub(crate) mod sessions;

use std::io::{Read, Write};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::rc::Rc;
use std::sync::{LazyLock, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use msb_agent::shutdown::{Order, drain as drain_agent, end_processes};
use msb_agent::{Agent, Defaults, Stream};
use msb_protocol::*;
use tokio::runtime::{Builder, LocalOptions};
use tokio::sync::mpsc;

/// Far more than anything here takes; a test that would hang fails instead.
const PATIENCE: Duration = Duration::from_secs(60);

/// What the agent's thread is asked.
enum Ask {
    Accept(OwnedFd),
    Monitor(OwnedFd),
    Drain(Duration, std::sync::mpsc::Sender<()>),
    ShutDown(Duration, std::sync::mpsc::Sender<()>),
}

static AGENT: LazyLock<mpsc::UnboundedSender<Ask>> = LazyLock::new(|| {
    rustix::process::set_child_subreaper(Some(rustix::process::getpid())).unwrap();
    let (ask, mut asked) = mpsc::unbounded_channel();
    std::thread::spawn(move || {
        let runtime = Builder::new_current_thread()
            .enable_all()
            .build_local(LocalOptions::default())
            .unwrap();
        runtime.block_on(async move {
            let defaults = Defaults {
                env: vec![("FROM_BOOT".to_owned(), "boot".to_owned())],
                ..Defaults::default()
            };
            let agent = Agent::start(defaults).unwrap();
            while let Some(ask) = asked.recv().await {
                match ask {
                    Ask::Accept(fd) => agent.accept(Stream::new(fd).unwrap()),
                    Ask::Monitor(fd) => agent.monitor(Stream::new(fd).unwrap()),
                    Ask::Drain(grace, done) => {
                        let agent = Rc::clone(&agent);
                        tokio::task::spawn_local(async move {
                            let order = Order::default();
                            drain_agent(&agent, &order, grace).await;
                            order.given().await;
                            done.send(()).unwrap();
                        });
                    }
                    Ask::ShutDown(grace, done) => {
                        let agent = Rc::clone(&agent);
                        tokio::task::spawn_local(async move {
                            let order = Order::default();
                            order.give(grace);
                            end_processes(&agent, &order, false).await;
                            done.send(()).unwrap();
                        });
                    }
                }
            }
        });
    });
    ask
});

/// A connection to the agent, with nothing said yet.
pub(crate) fn connect() -> UnixStream {
    connect_as(Ask::Accept)
}

fn connect_as(ask: impl FnOnce(OwnedFd) -> Ask) -> UnixStream {
    let (ours, theirs) = UnixStream::pair().unwrap();
    ours.set_read_timeout(Some(PATIENCE)).unwrap();
    ours.set_write_timeout(Some(PATIENCE)).unwrap();
    assert!(AGENT.send(ask(theirs.into())).is_ok());
    ours
}

/// Lets the agent's sessions finish; the receiver hears when the guest would end.
pub(crate) fn drain(grace: Duration) -> std::sync::mpsc::Receiver<()> {
    let (done, ended) = std::sync::mpsc::channel();
    assert!(AGENT.send(Ask::Drain(grace, done)).is_ok());
    ended
}

/// The agent has one monitor at a time, and all tests of a file have one agent.
static MONITOR: Mutex<()> = Mutex::new(());

/// The right to monitor. It is for a test's whole time, or others would hear its sessions.
pub(crate) struct Turn {
    _held: MutexGuard<'static, ()>,
}

impl Turn {
    pub(crate) fn wait() -> Self {
        // A test that failed with it has left nothing behind.
        let held = MONITOR.lock().unwrap_or_else(PoisonError::into_inner);
        Self { _held: held }
    }

    /// Begins to monitor.
    pub(crate) fn monitor(&mut self) -> Monitor<'_> {
        Monitor {
            client: Client::on(connect_as(Ask::Monitor)),
            _turn: self,
        }
    }
}

/// The supervisor's end of the monitor conversation.
pub(crate) struct Monitor<'a> {
    pub(crate) client: Client,
    _turn: &'a mut Turn,
}

impl Drop for Monitor<'_> {
    fn drop(&mut self) {
        // The agent closes when it has let go of this monitor, so that the next may come.
        let stream = &mut self.client.stream;
        let _ = stream.shutdown(std::net::Shutdown::Write);
        let _ = std::io::copy(stream, &mut std::io::sink());
    }
}

/// A monitor's connection while there may be another.
pub(crate) fn another_monitor() -> UnixStream {
    connect_as(Ask::Monitor)
}

/// Ends the agent's sessions; the receiver hears when that is done.
pub(crate) fn shut_down(grace: Duration) -> std::sync::mpsc::Receiver<()> {
    let (done, ended) = std::sync::mpsc::channel();
    assert!(AGENT.send(Ask::ShutDown(grace, done)).is_ok());
    ended
}

/// A client that speaks the protocol.
pub(crate) struct Client {
    stream: UnixStream,
    decoder: Decoder,
}

/// What a command did, from its start to its end.
#[derive(Debug, Default)]
pub(crate) struct Seen {
    pub(crate) stdout: Vec<u8>,
    pub(crate) stderr: Vec<u8>,
    pub(crate) pid: Option<u32>,
    pub(crate) session: Option<u64>,
    pub(crate) stdin_closed: bool,
    pub(crate) exit: Option<Exit>,
    pub(crate) failed: Option<ExecFailure>,
    pub(crate) refused: Option<Refusal>,
}

impl Seen {
    pub(crate) fn text(&self) -> &str {
        std::str::from_utf8(&self.stdout).unwrap()
    }
}

impl Client {
    /// A connection on which both sides have greeted.
    pub(crate) fn new() -> Self {
        Self::on(connect())
    }

    fn on(stream: UnixStream) -> Self {
        let mut client = Self {
            stream,
            decoder: Decoder::new(),
        };
        client.send(&HostMessage::Hello(Hello::ours()));
        assert_eq!(client.receive(), GuestMessage::Hello(Hello::ours()));
        client
    }

    /// A connection on which `request` was made.
    pub(crate) fn exec(request: ExecRequest) -> Self {
        let mut client = Self::new();
        client.send(&HostMessage::Exec(request));
        client
    }

    pub(crate) fn send(&mut self, message: &HostMessage) {
        let mut frame = Vec::new();
        encode(message, &mut frame).unwrap();
        self.stream.write_all(&frame).unwrap();
    }

    pub(crate) fn signal(&mut self, signal: i32) {
        self.send(&HostMessage::Signal(signal));
    }

    pub(crate) fn input(&mut self, bytes: &[u8]) {
        self.send(&HostMessage::Stdin(Bytes::copy_from_slice(bytes)));
    }

    /// The next message; `None` at the end.
    pub(crate) fn next(&mut self) -> Option<GuestMessage> {
        loop {
            if let Some(message) = self.decoder.next_message().unwrap() {
                return Some(message);
            }
            let mut buffer = [0; 65536];
            let count = match self.stream.read(&mut buffer) {
                Ok(count) => count,
                // The agent closed with something of ours unread.
                Err(error) if error.kind() == std::io::ErrorKind::ConnectionReset => 0,
                // SIGCHLD, which a read with a timeout is not resumed after.
                Err(error) if error.kind() == std::io::ErrorKind::Interrupted => continue,
                Err(error) => panic!("the agent says nothing: {error}"),
            };
            if count == 0 {
                self.decoder.finish().unwrap();
                return None;
            }
            self.decoder.feed(&buffer[..count]);
        }
    }

    pub(crate) fn receive(&mut self) -> GuestMessage {
        self.next().expect("the agent closed the connection")
    }

    /// Reads until the command runs.
    pub(crate) fn started(&mut self) -> u32 {
        match self.receive() {
            GuestMessage::Started { pid, .. } => pid,
            other => panic!("not started: {other:?}"),
        }
    }

    /// Reads until standard output has said `marker`.
    pub(crate) fn until(&mut self, marker: &str) -> String {
        let mut text = String::new();
        while !text.contains(marker) {
            match self.receive() {
                GuestMessage::Stdout(bytes) => text.push_str(std::str::from_utf8(&bytes).unwrap()),
                GuestMessage::Started { .. } | GuestMessage::StdinConsumed(_) => {}
                other => panic!("{other:?} after {text:?}"),
            }
        }
        text
    }

    /// Reads to the end of the conversation.
    pub(crate) fn finish(&mut self) -> Seen {
        let mut seen = Seen::default();
        while let Some(message) = self.next() {
            assert!(
                seen.exit.is_none() && seen.failed.is_none() && seen.refused.is_none(),
                "{message:?} after the last message"
            );
            match message {
                GuestMessage::Started { pid, session } => {
                    seen.pid = Some(pid);
                    seen.session = Some(session);
                }
                GuestMessage::Stdout(bytes) => seen.stdout.extend(bytes),
                GuestMessage::Stderr(bytes) => seen.stderr.extend(bytes),
                GuestMessage::StdinConsumed(_) => {}
                GuestMessage::StdinClosed => seen.stdin_closed = true,
                GuestMessage::Exited(exit) => seen.exit = Some(exit),
                GuestMessage::ExecFailed(failure) => seen.failed = Some(failure),
                GuestMessage::Refused(refusal) => seen.refused = Some(refusal),
                other => panic!("{other:?} has no place here"),
            }
        }
        seen
    }

    /// The connection itself, for what the protocol does not foresee.
    pub(crate) fn stream(&mut self) -> &mut UnixStream {
        &mut self.stream
    }
}

/// A request to run `program`.
pub(crate) fn request(program: &str, args: &[&str]) -> ExecRequest {
    ExecRequest {
        program: program.to_owned(),
        args: args.iter().map(|&arg| arg.to_owned()).collect(),
        env: Vec::new(),
        cwd: None,
        user: None,
        stdin: Stdin::Null,
        terminal: None,
        limits: Vec::new(),
    }
}

/// The same request with a terminal of 24 lines.
pub(crate) fn on_terminal(mut exec: ExecRequest) -> ExecRequest {
    exec.stdin = Stdin::Pipe;
    exec.terminal = Some(TerminalSize {
        rows: 24,
        columns: 80,
    });
    exec
}

/// A request to run `script` in a shell.
pub(crate) fn shell(script: &str) -> ExecRequest {
    request("sh", &["-c", script])
}

/// Runs something that needs no input.
pub(crate) fn run(request: ExecRequest) -> Seen {
    Client::exec(request).finish()
}

/// Why something cannot be run.
pub(crate) fn failure(request: ExecRequest) -> ExecFailure {
    let seen = run(request);
    assert_eq!(seen.pid, None, "{seen:?}");
    seen.failed.expect("a failure")
}
