//! The smallest client of the agent, to try a guest by hand.
//!
//! ```text
//! talk exec VSOCK CMD ARGS...         run a command in a guest that is up; input from stdin
//! talk time VSOCK COUNT CMD ARGS...   run it so often, one after the other, and say how long that took
//! talk boot VSOCK [DEVICE]            be the supervisor: answer the guest's call, boot it, say how
//!                                     long that took and what its sessions do, and end it
//!                                     when stdin does
//! ```
//!
//! VSOCK is the Unix socket that was given to the VMM. A client connects to it and asks for
//! a port of the guest (`CONNECT 1024`); the guest's own calls arrive at `VSOCK_<port>`.

use std::error::Error;
use std::io::{Read, Write};
use std::os::unix::net::{UnixListener, UnixStream};

use bytes::Bytes;
use msb_protocol::*;

type Outcome<T> = Result<T, Box<dyn Error>>;

struct Connection {
    stream: UnixStream,
    decoder: Decoder,
}

impl Connection {
    /// Greets, and takes the agent's greeting.
    fn greet(stream: UnixStream) -> Outcome<Self> {
        let decoder = Decoder::new();
        let mut connection = Self { stream, decoder };
        connection.send(&HostMessage::Hello(Hello::ours()))?;
        match connection.receive()? {
            GuestMessage::Hello(theirs) => agree(&Hello::ours(), &theirs)?,
            other => return Err(format!("not a greeting: {other:?}").into()),
        };
        Ok(connection)
    }

    fn send(&mut self, message: &HostMessage) -> Outcome<()> {
        let mut frame = Vec::new();
        encode(message, &mut frame)?;
        Ok(self.stream.write_all(&frame)?)
    }

    fn receive(&mut self) -> Outcome<GuestMessage> {
        loop {
            if let Some(message) = self.decoder.next_message()? {
                return Ok(message);
            }
            let mut buffer = [0; 16384];
            let count = self.stream.read(&mut buffer)?;
            if count == 0 {
                return Err("the agent closed the connection".into());
            }
            self.decoder.feed(&buffer[..count]);
        }
    }
}

fn main() -> Outcome<()> {
    let arguments: Vec<_> = std::env::args().skip(1).collect();
    let arguments: Vec<_> = arguments.iter().map(String::as_str).collect();
    match arguments.as_slice() {
        ["exec", socket, program, args @ ..] => exec(socket, program, args),
        ["time", socket, count, program, args @ ..] => time(socket, count.parse()?, program, args),
        ["boot", socket] => boot(socket, "/dev/vda"),
        ["boot", socket, device] => boot(socket, device),
        _ => Err("usage: talk exec VSOCK CMD... | talk time VSOCK COUNT CMD... | talk boot VSOCK [DEVICE]".into()),
    }
}

/// A connection to the agent of a guest that is up.
fn connect(socket: &str) -> Outcome<Connection> {
    let mut stream = UnixStream::connect(socket)?;
    stream.write_all(format!("CONNECT {AGENT_PORT}\n").as_bytes())?;
    let mut answer = Vec::new();
    while answer.last() != Some(&b'\n') {
        let mut byte = [0];
        stream.read_exact(&mut byte)?;
        answer.extend(byte);
    }
    Connection::greet(stream)
}

fn request(program: &str, args: &[&str], stdin: Stdin) -> HostMessage {
    HostMessage::Exec(ExecRequest {
        program: program.to_owned(),
        args: args.iter().map(|&arg| arg.to_owned()).collect(),
        env: Vec::new(),
        cwd: None,
        user: None,
        stdin,
        terminal: None,
        limits: Vec::new(),
    })
}

fn time(socket: &str, count: u32, program: &str, args: &[&str]) -> Outcome<()> {
    let began = std::time::Instant::now();
    let mut bytes = 0;
    for _ in 0..count {
        let mut agent = connect(socket)?;
        agent.send(&request(program, args, Stdin::Null))?;
        loop {
            match agent.receive()? {
                GuestMessage::Exited(_) => break,
                GuestMessage::Stdout(chunk) => bytes += chunk.len(),
                GuestMessage::Stderr(_) | GuestMessage::Started { .. } => {}
                last => return Err(format!("{last:?}").into()),
            }
        }
    }
    let took = began.elapsed();
    let each = took / count.max(1);
    writeln!(
        std::io::stdout(),
        "{count} times in {took:?}, {each:?} each, {bytes} bytes"
    )?;
    Ok(())
}

fn exec(socket: &str, program: &str, args: &[&str]) -> Outcome<()> {
    let mut agent = connect(socket)?;
    agent.send(&request(program, args, Stdin::Pipe))?;
    let mut window = usize::try_from(INITIAL_STDIN_WINDOW)?;
    let mut input = Some(std::io::stdin().lock());
    loop {
        // Input goes first while the window is open: enough for a file, not for a person.
        if let Some(stdin) = &mut input
            && window > 0
        {
            let mut buffer = [0; MAX_CHUNK];
            let room = window.min(MAX_CHUNK);
            let count = stdin.read(&mut buffer[..room])?;
            if count == 0 {
                agent.send(&HostMessage::StdinEof)?;
                input = None;
            } else {
                window -= count;
                agent.send(&HostMessage::Stdin(Bytes::copy_from_slice(
                    &buffer[..count],
                )))?;
            }
            continue;
        }
        match agent.receive()? {
            GuestMessage::Stdout(bytes) => std::io::stdout().write_all(&bytes)?,
            GuestMessage::Stderr(bytes) => std::io::stderr().write_all(&bytes)?,
            GuestMessage::StdinConsumed(count) => window += usize::try_from(count)?,
            GuestMessage::StdinClosed => input = None,
            GuestMessage::Started { .. } => {}
            GuestMessage::Exited(Exit::Code(code)) => std::process::exit(code),
            last => return Err(format!("{last:?}").into()),
        }
    }
}

/// Says on standard error what the guest's sessions do, until it says no more.
fn monitor(listener: &UnixListener) -> Outcome<()> {
    let (stream, _) = listener.accept()?;
    let mut agent = Connection::greet(stream)?;
    let mut out = std::io::stderr();
    loop {
        match agent.receive()? {
            GuestMessage::SessionStarted {
                session,
                pid,
                program,
            } => writeln!(out, "session {session}: {program} runs, process {pid}")?,
            GuestMessage::SessionOutput {
                session,
                source,
                data,
            } => writeln!(out, "session {session}: {source:?}, {} bytes", data.len())?,
            GuestMessage::SessionEnded { session, exit } => {
                writeln!(out, "session {session}: {exit:?}")?;
            }
            other => writeln!(out, "{other:?}")?,
        }
    }
}

fn boot(socket: &str, device: &str) -> Outcome<()> {
    let calls = UnixListener::bind(format!("{socket}_{MONITOR_PORT}"))?;
    // The guest calls once, if at all. What ends the monitor ends nothing else.
    std::thread::spawn(move || monitor(&calls).ok());
    let listener = UnixListener::bind(format!("{socket}_{SUPERVISOR_PORT}"))?;
    let (stream, _) = listener.accept()?;
    let mut agent = Connection::greet(stream)?;
    agent.send(&HostMessage::Boot(BootRequest {
        root: Root::Disk {
            device: device.to_owned(),
            fstype: None,
            read_only: false,
        },
        hostname: Some("talk".to_owned()),
        env: vec![("BOOTED_BY".to_owned(), "talk".to_owned())],
    }))?;
    match agent.receive()? {
        GuestMessage::Ready(ready) => {
            let took = (ready.ready_ns - ready.init_ns) / 1_000;
            let kernel = ready.init_ns / 1_000;
            let mut out = std::io::stdout();
            writeln!(out, "ready: kernel {kernel} us, agent {took} us")?;
        }
        other => return Err(format!("{other:?}").into()),
    }
    std::io::copy(&mut std::io::stdin(), &mut std::io::sink())?;
    agent.send(&HostMessage::Shutdown { grace_ms: 2000 })?;
    while agent.receive().is_ok() {}
    Ok(())
}
