//! The porter's own life.
//!
//! It keeps one end of the machine's connection, and standard input if that is a person's terminal. It has a
//! filter of system calls of its own, and ends when its errands do: with `Leave`, or when the machine's end of
//! the connection closes, however the machine went.
#![allow(unsafe_code)]

use std::ffi::OsString;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};

use rustix::io::Errno;
use rustix::net::{
    AddressFamily, RecvFlags, SocketAddrUnix, SocketFlags, SocketType, connect, recv, socket_with,
};
use rustix::process::{DumpableBehavior, set_dumpable_behavior};
use rustix::termios::{OptionalActions, Termios, tcgetattr, tcsetattr};

use super::Keys;
use super::errand::{ERRAND, Errand, What, answer};
use crate::jail::belongings::close_range;
use crate::jail::seccomp::{Denial, Filter, Process, Role};

/// Makes the second process. `ours` is what the first one keeps.
pub(super) fn split_off(keys: Keys, ours: &OwnedFd, theirs: OwnedFd) -> io::Result<()> {
    // SAFETY: there is one thread, so the child has all that the parent has: no lock that somebody else
    // holds, no state half changed.
    match unsafe { libc::fork() } {
        -1 => Err(io::Error::last_os_error()),
        0 => {
            let code = match serve(keys, ours, &theirs) {
                Ok(()) => 0,
                Err(_) => 1,
            };
            // SAFETY: it ends this process and nothing else; what is buffered or at-exit is the parent's.
            unsafe { libc::_exit(code) }
        }
        _ => {
            // They are the child's to remove.
            keys.sockets.into_iter().for_each(std::mem::forget);
            Ok(())
        }
    }
}

fn serve(keys: Keys, ours: &OwnedFd, socket: &OwnedFd) -> io::Result<()> {
    // The machine ends first, and has a word with its clients before; whatever it is that ends it.
    for signal in [
        libc::SIGTERM,
        libc::SIGINT,
        libc::SIGHUP,
        libc::SIGQUIT,
        libc::SIGTSTP,
        // Setting a terminal's modes from the background.
        libc::SIGTTOU,
        libc::SIGPIPE,
    ] {
        // SAFETY: to ignore a signal runs no code.
        unsafe { libc::signal(signal, libc::SIG_IGN) };
    }
    let terminal = keys
        .terminal
        .then(|| tcgetattr(rustix::stdio::stdin()).ok())
        .flatten();
    keep_only(socket, ours, terminal.is_some())?;
    let mut porter = At {
        socket: socket.as_fd(),
        vsock: keys.vsock,
        terminal,
    };
    rustix::thread::set_no_new_privs(true)?;
    set_dumpable_behavior(DumpableBehavior::NotDumpable)?;
    let process = Process::own();
    let filter = Filter::compile(
        Role::Porter,
        process,
        porter.terminal.is_some(),
        Denial::Kill,
    )
    .map_err(io::Error::other)?;
    filter.apply().map_err(io::Error::other)?;
    porter.work(keys.sockets)
}

/// Closes all descriptors but the machine's connection, and the terminal.
fn keep_only(socket: &OwnedFd, ours: &OwnedFd, stdin: bool) -> io::Result<()> {
    debug_assert_ne!(socket.as_raw_fd(), ours.as_raw_fd());
    let kept = socket.as_raw_fd().unsigned_abs();
    let first = u32::from(stdin);
    // This process was made with copies of another's descriptors, whose owners here are never dropped: it ends
    // by `_exit`.
    if first < kept {
        close_range(first, kept - 1)?;
    }
    close_range(kept + 1, u32::MAX)
}

struct At<'a> {
    socket: BorrowedFd<'a>,
    vsock: Option<PathBuf>,
    /// As it was before the machine.
    terminal: Option<Termios>,
}

impl At<'_> {
    fn work(&mut self, sockets: Vec<crate::blueprint::SocketFile>) -> io::Result<()> {
        let mut bytes = [0; ERRAND];
        let last = loop {
            let (_, len) = match recv(self.socket, &mut bytes, RecvFlags::empty()) {
                Err(Errno::INTR) => continue,
                // The machine went without a word.
                Ok((_, 0)) | Err(_) => break None,
                Ok(received) => received,
            };
            let Some(errand) = bytes.get(..len).and_then(Errand::decode) else {
                break None;
            };
            match errand.what {
                What::Connect(port) => {
                    let connection = self.connect(port);
                    let result = match &connection {
                        Ok(connection) => Ok(Some(connection.as_fd())),
                        Err(errno) => Err(*errno),
                    };
                    if answer(self.socket, errand.number, result).is_err() {
                        break None;
                    }
                }
                What::Leave => break Some(errand.number),
            }
        };
        drop(sockets);
        match (last, &self.terminal) {
            // It has made its terminal as it was.
            (Some(number), _) => answer(self.socket, number, Ok(None))?,
            (None, Some(before)) => {
                tcsetattr(rustix::stdio::stdin(), OptionalActions::Now, before)?
            }
            (None, None) => {}
        }
        Ok(())
    }

    fn connect(&self, port: u32) -> Result<OwnedFd, Errno> {
        let vsock = self.vsock.as_deref().ok_or(Errno::CONNREFUSED)?;
        let mut path = OsString::from(vsock);
        path.push(format!("_{port}"));
        let address = SocketAddrUnix::new(Path::new(&path))?;
        // Non-blocking: a listener whose queue is full refuses instead of holding up the machine.
        let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
        let socket = socket_with(AddressFamily::UNIX, SocketType::STREAM, flags, None)?;
        connect(&socket, &address)?;
        Ok(socket)
    }
}
