//! Descriptors that are waited for: sockets, pipes and terminals alike.
//!
//! All of the agent runs on one thread, so all reading shares one scratch buffer: bytes
//! are in it only between the read and the closure that takes them. An idle connection
//! therefore holds no buffer at all.

use std::cell::RefCell;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::fs::{OFlags, fcntl_getfl, fcntl_setfl};
use rustix::io::Errno;
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

use crate::sys::readiness::register;

/// The most one read takes.
pub(crate) const READ_MAX: usize = 64 * 1024;

thread_local! {
    static SCRATCH: RefCell<[u8; READ_MAX]> = const { RefCell::new([0; READ_MAX]) };
}

/// A descriptor in non-blocking mode, registered with the event loop.
#[derive(Debug)]
pub struct Stream {
    fd: AsyncFd<OwnedFd>,
}

impl Stream {
    /// Takes over `fd`: a socket, either end of a pipe, or a terminal.
    pub fn new(fd: OwnedFd) -> io::Result<Self> {
        Self::with_interest(fd, Interest::READABLE | Interest::WRITABLE)
    }

    /// The reading end of something.
    pub(crate) fn reader(fd: OwnedFd) -> io::Result<Self> {
        Self::with_interest(fd, Interest::READABLE)
    }

    /// The writing end of something.
    pub(crate) fn writer(fd: OwnedFd) -> io::Result<Self> {
        Self::with_interest(fd, Interest::WRITABLE)
    }

    fn with_interest(fd: OwnedFd, interest: Interest) -> io::Result<Self> {
        fcntl_setfl(&fd, fcntl_getfl(&fd)? | OFlags::NONBLOCK)?;
        Ok(Self {
            fd: register(fd, interest)?,
        })
    }

    /// Waits until something can be read, reads up to `limit` bytes of it, and gives them
    /// to `take`. An empty slice is the end.
    pub(crate) async fn read<T>(
        &self,
        limit: usize,
        mut take: impl FnMut(&[u8]) -> T,
    ) -> io::Result<T> {
        loop {
            let mut guard = self.fd.readable().await?;
            let attempt = guard.try_io(|fd| Ok(read_once(fd.as_fd(), limit, &mut take)?));
            if let Ok(result) = attempt {
                return result;
            }
        }
    }

    /// Reads what is there now; `None` if nothing is.
    pub(crate) fn read_now<T>(
        &self,
        limit: usize,
        mut take: impl FnMut(&[u8]) -> T,
    ) -> io::Result<Option<T>> {
        match read_once(self.fd.get_ref().as_fd(), limit, &mut take) {
            Ok(taken) => Ok(Some(taken)),
            Err(Errno::AGAIN) => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    /// Writes some of `bytes`, waiting until that is possible.
    pub(crate) async fn write(&self, bytes: &[u8]) -> io::Result<usize> {
        loop {
            let mut guard = self.fd.writable().await?;
            let attempt =
                guard.try_io(|fd| Ok(rustix::io::retry_on_intr(|| rustix::io::write(fd, bytes))?));
            if let Ok(result) = attempt {
                return result;
            }
        }
    }

    /// Writes all of `bytes`.
    pub(crate) async fn write_all(&self, mut bytes: &[u8]) -> io::Result<()> {
        while !bytes.is_empty() {
            match self.write(bytes).await? {
                0 => return Err(io::ErrorKind::WriteZero.into()),
                written => bytes = bytes.get(written..).unwrap_or_default(),
            }
        }
        Ok(())
    }

    /// Waits until the descriptor can be written: for a socket that connects, until it is
    /// decided whether it could.
    pub(crate) async fn writable(&self) -> io::Result<()> {
        self.fd.writable().await?.retain_ready();
        Ok(())
    }

    /// Waits for readiness and then does `attempt` until it does not say "would block".
    pub(crate) async fn when_readable<T>(
        &self,
        mut attempt: impl FnMut(BorrowedFd<'_>) -> io::Result<T>,
    ) -> io::Result<T> {
        loop {
            let mut guard = self.fd.readable().await?;
            if let Ok(result) = guard.try_io(|fd| attempt(fd.as_fd())) {
                return result;
            }
        }
    }
}

impl AsFd for Stream {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.get_ref().as_fd()
    }
}

fn read_once<T>(
    fd: BorrowedFd<'_>,
    limit: usize,
    take: &mut impl FnMut(&[u8]) -> T,
) -> Result<T, Errno> {
    SCRATCH.with_borrow_mut(|scratch| {
        let buffer = &mut scratch[..limit.min(READ_MAX)];
        let count = rustix::io::retry_on_intr(|| rustix::io::read(fd, &mut *buffer))?;
        Ok(take(&buffer[..count]))
    })
}
