//! The runner: PID 1 of the nested machine once it has entered the host's root. It starts one
//! command, carries its streams and signals over the serial port, and reports how it ended.
//!
//! Like any PID 1 it reaps orphans. When the command has ended, everything else in the machine is
//! ended too, for the machine goes away; only then are the pipes read to their end, so that nothing
//! that was written is lost.

use std::fs::File;
use std::io::{self, ErrorKind, Read, Write};
use std::os::fd::AsFd;
use std::path::Path;
use std::process::{Child, ChildStdin, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{self, Receiver, SyncSender};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use rustix::event::{PollFd, PollFlags};
use rustix::fs::inotify;
use rustix::process::{Pid, Signal, WaitOptions, WaitStatus};
use rustix::system::RebootCommand;

use super::frame::{CHUNK, Call, Frame, STDIN_WINDOW, Stream};
use super::{hidden, steady};
use crate::sys;

/// The device node of the machine's only serial port is `vport<device>p<port>`.
const PORT: &str = "vport";
/// Where the machine's init puts this program.
pub(super) const OWN_PROGRAM: &str = "/run/xtask";
/// How long the port may take to appear.
const PORT_DEADLINE: Duration = Duration::from_secs(60);

/// Runs as PID 1. Whatever happens, the machine is off at the end.
pub(crate) fn main() -> Result<()> {
    if !rustix::process::getpid().is_init() {
        bail!("`kvm-runner` is for the nested machine; use `cargo xtask kvm -- CMD...`");
    }
    if let Err(error) = serve() {
        eprintln!("xtask kvm runner: {error:#}");
    }
    rustix::fs::sync();
    rustix::system::reboot(RebootCommand::PowerOff).context("cannot power off")
}

fn serve() -> Result<()> {
    let mut port = open_port()?;
    let link = Link(Arc::new(Mutex::new(port.try_clone()?)));
    // Waits until the host's side is connected, which reading would not.
    link.send(&Frame::Ready)?;
    let Some(Frame::Start(call)) = Frame::read_from(&mut port)? else {
        bail!("the host sent no command");
    };
    bring_back(&call);
    let _steady = steady::hold();
    match start(&call) {
        Ok(child) => run(child, port, &link)?,
        Err(error) => {
            let program = call.argv.first().cloned().unwrap_or_default();
            let mut text = format!("cannot start {}: {error}", program.display());
            if !Path::new(&call.cwd).is_dir() {
                text = format!("no working directory {} in the machine", call.cwd.display());
            }
            link.send(&Frame::Failed(
                error.raw_os_error().unwrap_or(libc::EIO),
                text,
            ))?;
        }
    }
    // The host ends the machine now. If it does not, it is gone, and so is the port.
    thread::park_timeout(PORT_DEADLINE);
    Ok(())
}

/// The serial port, as soon as its driver has made it.
fn open_port() -> Result<File> {
    let watch = inotify::init(inotify::CreateFlags::CLOEXEC)?;
    inotify::add_watch(&watch, "/dev", inotify::WatchFlags::CREATE)?;
    let timeout = rustix::event::Timespec::try_from(PORT_DEADLINE)?;
    loop {
        for entry in std::fs::read_dir("/dev")?.filter_map(Result::ok) {
            if entry.file_name().to_string_lossy().starts_with(PORT) {
                let port = File::options().read(true).write(true).open(entry.path());
                return port.context("cannot open the serial port");
            }
        }
        let mut polled = [PollFd::new(&watch, PollFlags::IN)];
        if rustix::event::poll(&mut polled, Some(&timeout))? == 0 {
            bail!("no serial port appeared in /dev");
        }
        let mut events = [std::mem::MaybeUninit::uninit(); 4096];
        inotify::Reader::new(watch.as_fd(), &mut events).next()?;
    }
}

/// Puts back what the command was told of and a tmpfs hides.
fn bring_back(call: &Call) {
    for path in hidden::tops(call) {
        let Ok(relative) = path.strip_prefix("/") else {
            continue;
        };
        let source = Path::new("/run/host").join(relative);
        if path.exists() || !source.exists() {
            continue;
        }
        // A mount needs something of the same kind to go over.
        let ready = if source.is_dir() {
            std::fs::create_dir(&path)
        } else {
            File::create_new(&path).map(drop)
        };
        if ready.is_ok() {
            let _ = rustix::mount::mount_bind(&source, &path);
        }
    }
}

fn start(call: &Call) -> io::Result<Child> {
    use std::os::unix::process::CommandExt;
    call.command()
        .process_group(0)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
}

fn run(mut child: Child, port: File, link: &Link) -> Result<()> {
    let group = Pid::from_child(&child);
    let (stdin, queue) = mpsc::sync_channel(STDIN_WINDOW);
    if let Some(pipe) = child.stdin.take() {
        let link = link.clone();
        thread::spawn(move || feed(pipe, &queue, &link));
    }
    let closed = [
        Arc::new(AtomicBool::new(false)),
        Arc::new(AtomicBool::new(false)),
    ];
    let pumps = [
        child
            .stdout
            .take()
            .map(|pipe| pump(pipe, Stream::Out, &closed[0], link)),
        child
            .stderr
            .take()
            .map(|pipe| pump(pipe, Stream::Err, &closed[1], link)),
    ];
    thread::spawn(move || obey(port, group, &stdin, &closed));

    let status = reap_until(group)?;
    sys::kill_all();
    while rustix::process::wait(WaitOptions::empty()).is_ok() {}
    for pump in pumps.into_iter().flatten() {
        let _ = pump.join();
    }
    // Pages that were written through mappings are on the host before the caller reads them.
    rustix::fs::sync();
    link.send(&match (status.exit_status(), status.terminating_signal()) {
        (_, Some(signal)) => Frame::Killed(signal),
        (code, None) => Frame::Exited(code.unwrap_or(0)),
    })?;
    Ok(())
}

/// Waits for every child of PID 1 until it is this one.
fn reap_until(wanted: Pid) -> Result<WaitStatus> {
    loop {
        match rustix::process::wait(WaitOptions::empty()) {
            Ok(Some((pid, status))) if pid == wanted => return Ok(status),
            Ok(_) | Err(rustix::io::Errno::INTR) => {}
            Err(error) => return Err(error).context("cannot wait for the command"),
        }
    }
}

/// Does what the host says, until it says no more.
fn obey(mut port: File, group: Pid, stdin: &SyncSender<Vec<u8>>, closed: &[Arc<AtomicBool>; 2]) {
    while let Ok(Some(frame)) = Frame::read_from(&mut port) {
        match frame {
            // The host's window bounds this queue, so sending never blocks.
            Frame::Stdin(bytes) => {
                let _ = stdin.try_send(bytes);
            }
            Frame::Signal(number) => {
                if let Some(signal) = Signal::from_named_raw(number) {
                    let _ = rustix::process::kill_process_group(group, signal);
                }
            }
            Frame::Closed(Stream::Out) => closed[0].store(true, Ordering::Relaxed),
            Frame::Closed(Stream::Err) => closed[1].store(true, Ordering::Relaxed),
            _ => break,
        }
    }
}

/// Writes standard input to the command; what it does not want is dropped, and acknowledged.
fn feed(pipe: ChildStdin, queue: &Receiver<Vec<u8>>, link: &Link) {
    let mut pipe = Some(pipe);
    while let Ok(bytes) = queue.recv() {
        if bytes.is_empty() {
            return;
        }
        if let Some(writer) = &mut pipe
            && writer.write_all(&bytes).is_err()
        {
            pipe = None;
        }
        let count = u32::try_from(bytes.len()).unwrap_or(0);
        if link.send(&Frame::StdinTaken(count)).is_err() {
            return;
        }
    }
}

/// Carries one output stream to the host, until its end or until nobody wants it: then the pipe is
/// closed, and the command learns of it by SIGPIPE as it would have outside.
fn pump(
    mut pipe: impl Read + Send + 'static,
    stream: Stream,
    closed: &Arc<AtomicBool>,
    link: &Link,
) -> JoinHandle<()> {
    let (closed, link) = (closed.clone(), link.clone());
    thread::spawn(move || {
        let mut buffer = vec![0; CHUNK];
        loop {
            let count = match pipe.read(&mut buffer) {
                Ok(count) => count,
                Err(error) if error.kind() == ErrorKind::Interrupted => continue,
                Err(_) => break,
            };
            if count == 0 || closed.load(Ordering::Relaxed) {
                break;
            }
            if link
                .send(&Frame::Output(stream, buffer[..count].to_vec()))
                .is_err()
            {
                break;
            }
        }
    })
}

/// The writing side of the port.
#[derive(Clone)]
struct Link(Arc<Mutex<File>>);

impl Link {
    fn send(&self, frame: &Frame) -> io::Result<()> {
        let port = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        frame.write_to(&*port)
    }
}
