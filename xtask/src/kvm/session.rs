//! The host's side of a command in the nested machine: starts the machine, hands over the command,
//! and carries bytes and signals until it ends, the deadline passes, or the machine dies.

use std::fs::File;
use std::io::{self, ErrorKind, Read, Write};
use std::os::fd::AsFd;
use std::os::unix::net::UnixStream;
use std::sync::mpsc::{self, RecvTimeoutError, SyncSender};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::thread;
use std::time::Instant;

use anyhow::{Context, Result, bail};

use super::frame::{CHUNK, Frame, STDIN_WINDOW, Stream};
use super::machine::Machine;
use super::{Call, Options, Outcome, direct, signals};

/// Where sandboxes live inside: neither sockets nor locks work across the host's file system.
const MSB_HOME: &str = "/run/microsandbox";

enum Event {
    Ready,
    Signal(i32),
    Ended(Outcome),
    Lost(Option<io::Error>),
}

/// Runs the command in a nested machine.
pub(super) fn run(options: &Options, mut call: Call, streams: Streams) -> Result<Outcome> {
    let deadline = Instant::now() + options.timeout();
    if !call.env.iter().any(|(name, _)| name == "MSB_HOME") {
        call.set("MSB_HOME", MSB_HOME);
    }
    let (events, receiver) = mpsc::sync_channel(16);
    signals::forward(events.clone(), Event::Signal)?;

    let (machine, stream) = Machine::start(options)?;
    let link = Link::new(&stream)?;
    let Streams {
        mut stdin,
        stdout,
        stderr,
    } = streams;
    read_frames(stream, link.clone(), events, stdout, stderr);

    let mut started = false;
    loop {
        let left = deadline.saturating_duration_since(Instant::now());
        match receiver.recv_timeout(left) {
            Ok(Event::Ready) => {
                link.send(&Frame::Start(call.clone()))
                    .context("cannot hand over the command")?;
                started = true;
                send_stdin(link.clone(), stdin.take());
            }
            Ok(Event::Signal(signal)) if started => {
                // A machine that is gone shows in the reader as well.
                let _ = link.send(&Frame::Signal(signal));
            }
            // Nothing has begun that could want to tidy up.
            Ok(Event::Signal(signal)) => return Ok(Outcome::Killed(signal)),
            Ok(Event::Ended(outcome)) => return Ok(outcome),
            Ok(Event::Lost(why)) => {
                let console = machine.end();
                let why = why.map_or_else(String::new, |error| format!(" ({error})"));
                bail!("the nested machine ended before the command did{why}; it wrote:\n{console}");
            }
            Err(RecvTimeoutError::Timeout) => {
                let console = machine.end();
                if !console.is_empty() {
                    eprintln!("xtask kvm: the nested machine's console:\n{console}");
                }
                return Ok(Outcome::TimedOut(options.timeout()));
            }
            Err(RecvTimeoutError::Disconnected) => bail!("the nested machine's reader is gone"),
        }
    }
}

/// The writing side of the stream, and how much standard input may still go.
#[derive(Clone)]
struct Link {
    writer: Arc<Mutex<UnixStream>>,
    window: Arc<(Mutex<usize>, Condvar)>,
}

impl Link {
    fn new(stream: &UnixStream) -> Result<Self> {
        let writer = stream.try_clone().context("cannot copy a socket")?;
        Ok(Self {
            writer: Arc::new(Mutex::new(writer)),
            window: Arc::new((Mutex::new(STDIN_WINDOW), Condvar::new())),
        })
    }

    fn send(&self, frame: &Frame) -> io::Result<()> {
        let writer = self.writer.lock().unwrap_or_else(PoisonError::into_inner);
        frame.write_to(&*writer)
    }

    /// Waits until some standard input may go, and says how much.
    fn allowance(&self) -> usize {
        let (window, changed) = &*self.window;
        let window = window.lock().unwrap_or_else(PoisonError::into_inner);
        let window = changed
            .wait_while(window, |left| *left == 0)
            .unwrap_or_else(PoisonError::into_inner);
        (*window).min(CHUNK)
    }

    fn adjust(&self, change: impl FnOnce(usize) -> usize) {
        let (window, changed) = &*self.window;
        let mut window = window.lock().unwrap_or_else(PoisonError::into_inner);
        *window = change(*window);
        changed.notify_all();
    }
}

/// Carries standard input into the machine, no faster than the command takes it.
fn send_stdin(link: Link, stdin: Option<File>) {
    thread::spawn(move || {
        let Some(mut stdin) = stdin else {
            let _ = link.send(&Frame::Stdin(Vec::new()));
            return;
        };
        let mut buffer = vec![0; CHUNK];
        loop {
            let allowed = link.allowance();
            let count = match stdin.read(&mut buffer[..allowed]) {
                Ok(count) => count,
                Err(error) if error.kind() == ErrorKind::Interrupted => continue,
                Err(_) => 0,
            };
            let frame = Frame::Stdin(buffer[..count].to_vec());
            link.adjust(|left| left - count);
            if link.send(&frame).is_err() || count == 0 {
                break;
            }
        }
    });
}

/// Carries the command's output out, and tells what else the runner says.
fn read_frames(
    mut stream: UnixStream,
    link: Link,
    events: SyncSender<Event>,
    stdout: File,
    stderr: File,
) {
    let mut stdout = Sink::new(stdout, Stream::Out);
    let mut stderr = Sink::new(stderr, Stream::Err);
    thread::spawn(move || {
        let last = loop {
            match Frame::read_from(&mut stream) {
                Ok(Some(Frame::Ready)) => {
                    if events.send(Event::Ready).is_err() {
                        return;
                    }
                }
                Ok(Some(Frame::Output(Stream::Out, bytes))) => stdout.write(&bytes, &link),
                Ok(Some(Frame::Output(Stream::Err, bytes))) => stderr.write(&bytes, &link),
                Ok(Some(Frame::StdinTaken(count))) => {
                    let count = usize::try_from(count).unwrap_or(0);
                    link.adjust(|left| (left + count).min(STDIN_WINDOW));
                }
                Ok(Some(Frame::Exited(code))) => {
                    break Event::Ended(Outcome::Exited(direct::exit_code(code)));
                }
                Ok(Some(Frame::Killed(signal))) => break Event::Ended(Outcome::Killed(signal)),
                Ok(Some(Frame::Failed(errno, text))) => {
                    let code = if errno == libc::ENOENT { 127 } else { 126 };
                    break Event::Ended(Outcome::NotStarted(code, text));
                }
                Ok(Some(other)) => {
                    break Event::Lost(Some(io::Error::other(format!("it sent {other:?}"))));
                }
                Ok(None) => break Event::Lost(None),
                Err(error) => break Event::Lost(Some(error)),
            }
        };
        // The streams end before the outcome is known: whoever reads them has it all by then.
        drop((stdout, stderr));
        let _ = events.send(last);
    });
}

/// One of the output streams. When its reader is gone, so is the command's.
struct Sink {
    file: Option<File>,
    stream: Stream,
}

impl Sink {
    fn new(file: File, stream: Stream) -> Self {
        Self {
            file: Some(file),
            stream,
        }
    }

    fn write(&mut self, bytes: &[u8], link: &Link) {
        if let Some(file) = &mut self.file
            && file.write_all(bytes).is_err()
        {
            self.file = None;
            let _ = link.send(&Frame::Closed(self.stream));
        }
    }
}

/// Where the command's streams lead on our side.
#[derive(Debug)]
pub(crate) struct Streams {
    /// Nothing is an empty one.
    pub(crate) stdin: Option<File>,
    pub(crate) stdout: File,
    pub(crate) stderr: File,
}

impl Streams {
    /// Our own.
    pub(super) fn inherited() -> Result<Self> {
        Ok(Self {
            stdin: Some(unbuffered(io::stdin().as_fd())?),
            stdout: unbuffered(io::stdout().as_fd())?,
            stderr: unbuffered(io::stderr().as_fd())?,
        })
    }
}

/// A standard stream without the library's buffer in between: what is written is out.
fn unbuffered(fd: std::os::fd::BorrowedFd<'_>) -> Result<File> {
    let fd = fd
        .try_clone_to_owned()
        .context("a standard stream is closed")?;
    Ok(File::from(fd))
}
