//! The porter: a small process outside of the jail, for a machine that stands alone.
//!
//! Three things need a path, or rights, while such a machine runs or after it: a guest's connection to the
//! host goes to the Unix socket `<vsock socket>_<port>`; the machine's own sockets are removed when it ends;
//! and a person's terminal is made as it was, even when the VMM was killed. The VMM in its jail can do none
//! of them. So before it goes there it splits off a process that can do these three and nothing else, and
//! asks it over a socket.
//!
//! A machine under a supervisor needs no porter: the supervisor does all that.
//!
//! What a guest that owns the VMM gets out of it: connections to `<vsock socket>_<port>`, for any port. Those
//! it may have anyhow. The porter reads twelve bytes at a time and nothing of them but two numbers.

mod errand;
mod process;

use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::net::{AddressFamily, SendFlags, SocketFlags, SocketType, send, socketpair};

use crate::blueprint::SocketFile;
use errand::{Answer, Errand, What};

/// How long the main loop waits for an errand. Each is one or two system calls that do not wait.
const PATIENCE: Timespec = Timespec {
    tv_sec: 2,
    tv_nsec: 0,
};

/// What the porter keeps for the machine.
#[derive(Debug, Default)]
pub struct Keys {
    /// The machine's vsock socket: port P of the host is at this path, `_` and P.
    pub vsock: Option<PathBuf>,
    /// Sockets to be removed in the end.
    pub sockets: Vec<SocketFile>,
    /// Standard input is a person's terminal, which is to be made as it is now.
    pub terminal: bool,
}

impl Keys {
    /// Whether there is anything that a machine would need a porter for.
    pub fn are_needed(&self) -> bool {
        self.vsock.is_some() || !self.sockets.is_empty() || self.terminal
    }
}

/// The machine's end of the connection with its porter; clones share it. When the last one is dropped, the
/// machine's sockets are removed, and the porter ends.
#[derive(Clone, Debug)]
pub struct Porter(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    socket: OwnedFd,
    /// The number of the last errand.
    last: Mutex<u32>,
}

impl Porter {
    /// Splits it off. The process must have one thread.
    pub fn start(keys: Keys) -> io::Result<Self> {
        let flags = SocketFlags::CLOEXEC;
        let (ours, theirs) = socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, flags, None)?;
        process::split_off(keys, &ours, theirs)?;
        Ok(Self(Arc::new(Inner {
            socket: ours,
            last: Mutex::new(0),
        })))
    }

    /// Connects to whoever serves that port of the host.
    pub fn connect(&self, port: u32) -> io::Result<UnixStream> {
        match self.0.run(What::Connect(port))? {
            Some(connection) => Ok(connection.into()),
            None => Err(io::ErrorKind::ConnectionRefused.into()),
        }
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        // A porter that is gone, or does not answer, does it when the connection closes.
        let _ = self.run(What::Leave);
    }
}

impl Inner {
    fn run(&self, what: What) -> io::Result<Option<OwnedFd>> {
        let number = {
            let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
            *last = last.wrapping_add(1);
            *last
        };
        let errand = Errand { number, what };
        let flags = SendFlags::NOSIGNAL | SendFlags::DONTWAIT;
        rustix::io::retry_on_intr(|| send(&self.socket, &errand.encode(), flags))?;
        loop {
            let mut fds = [PollFd::new(&self.socket, PollFlags::IN)];
            match poll(&mut fds, Some(&PATIENCE)) {
                Ok(0) => return Err(io::ErrorKind::TimedOut.into()),
                Ok(_) => {}
                Err(rustix::io::Errno::INTR) => continue,
                Err(errno) => return Err(errno.into()),
            }
            let answer = Answer::receive(&self.socket)?;
            // One that comes late belongs to an errand that was given up.
            if answer.number == number {
                return answer.result;
            }
        }
    }
}

#[cfg(test)]
mod tests;
