//! Reading and writing without waiting, on descriptors whose flags are not ours to change.
//!
//! The non-blocking flag belongs to the open file, which a shell, a parent or another program may
//! share: setting it on their terminal breaks them. A socket can be asked for one call that does not
//! wait. For everything else, poll(2) says whether there is something to read or room to write, and
//! the call that follows is kept as small as what poll promised:
//!
//! - a pipe with room takes `PIPE_BUF` bytes at once;
//! - a terminal with room has space for a few hundred, and newlines may double what is written;
//! - a regular file, or a device like `/dev/null`, does not wait for a reader.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::{FileType, OFlags};
use rustix::io::Errno;
use rustix::net::SendFlags;

use crate::iov::{self, Iovecs};

/// A descriptor, and how to use it without waiting.
#[derive(Debug)]
pub(super) struct Stream {
    fd: OwnedFd,
    kind: Kind,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Socket,
    /// Poll, then write at most this many bytes.
    Polled(usize),
    /// Never waits: a file, or its owner made it non-blocking.
    Plain,
}

impl Stream {
    /// Looks at what the descriptor is.
    pub(super) fn new(fd: OwnedFd) -> Self {
        let kind = match rustix::fs::fstat(&fd).map(|s| FileType::from_raw_mode(s.st_mode)) {
            Ok(FileType::Socket) => Kind::Socket,
            _ if rustix::fs::fcntl_getfl(&fd).is_ok_and(|f| f.contains(OFlags::NONBLOCK)) => {
                Kind::Plain
            }
            Ok(FileType::RegularFile) => Kind::Plain,
            Ok(FileType::Fifo) => Kind::Polled(rustix::pipe::PIPE_BUF),
            Ok(FileType::CharacterDevice) if !rustix::termios::isatty(&fd) => Kind::Plain,
            _ => Kind::Polled(128),
        };
        Self { fd, kind }
    }

    pub(super) fn fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }

    /// Reads into guest memory. `0` is the end of the stream.
    pub(super) fn read(&self, into: &Iovecs<'_>) -> io::Result<usize> {
        match self.kind {
            Kind::Socket => iov::recv(self.fd(), into),
            Kind::Polled(_) => {
                self.poll(PollFlags::IN)?;
                iov::read(self.fd(), into)
            }
            // A device that is no terminal may still make its readers wait.
            Kind::Plain => {
                self.poll(PollFlags::IN)?;
                iov::read(self.fd(), into)
            }
        }
    }

    /// Writes some of `bytes`.
    pub(super) fn write(&self, bytes: &[u8]) -> io::Result<usize> {
        let written = match self.kind {
            Kind::Socket => {
                let flags = SendFlags::DONTWAIT | SendFlags::NOSIGNAL;
                rustix::io::retry_on_intr(|| rustix::net::send(&self.fd, bytes, flags))
            }
            Kind::Polled(most) => {
                self.poll(PollFlags::OUT)?;
                let bytes = bytes.get(..most).unwrap_or(bytes);
                rustix::io::retry_on_intr(|| rustix::io::write(&self.fd, bytes))
            }
            Kind::Plain => rustix::io::retry_on_intr(|| rustix::io::write(&self.fd, bytes)),
        };
        Ok(written?)
    }

    /// Fails with "would block" unless a call of this direction returns at once.
    fn poll(&self, direction: PollFlags) -> io::Result<()> {
        let mut fds = [PollFd::new(&self.fd, direction)];
        let now = Timespec::default();
        match rustix::io::retry_on_intr(|| poll(&mut fds, Some(&now)))? {
            0 => Err(Errno::WOULDBLOCK.into()),
            _ => Ok(()),
        }
    }
}
