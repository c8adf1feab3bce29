//! The terminal of this side: where it is found, and how it is read and written.
//!
//! Standard input belongs to everyone who inherited it: the shell that started the program, the
//! other programs of a pipeline. Making it non-blocking would make theirs so too. The terminal
//! is therefore opened once more, by the descriptor's entry in /proc, which gives an open file of
//! our own. Reads then return at once, and a read that is given up has taken nothing: what is typed
//! later is there for whoever reads next.
//!
//! Where it cannot be opened again (it belongs to another user, as after `su`), the inherited
//! descriptors are used as they are. Each read is then preceded by a look at whether it would block, and what is
//! written goes byte by byte, since a terminal with room has room for one.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use msb_protocol::TerminalSize;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::{FileType, Mode, OFlags, fstat, major, minor, open};
use rustix::io::{Errno, fcntl_dupfd_cloexec};
use rustix::termios::{isatty, tcgetwinsize};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

use super::error::TerminalError;
use super::readiness::register;

/// Duplicates do not take the place of a standard stream that is closed.
const FIRST_FD: i32 = 3;

/// A terminal, to be read from and written to.
#[derive(Debug)]
pub(super) struct Terminal {
    input: AsyncFd<OwnedFd>,
    output: AsyncFd<OwnedFd>,
    /// Whether the descriptors are our own, and do not block.
    own: bool,
}

impl Terminal {
    /// The terminal that is standard input, or else the one that the program was started from.
    pub(super) fn find() -> Result<Self, TerminalError> {
        let stdin = io::stdin();
        if isatty(&stdin) {
            return Self::of(stdin.as_fd());
        }
        let fd = open("/dev/tty", flags(), Mode::empty()).map_err(|_| TerminalError::Missing)?;
        Self::new(fd, None, true)
    }

    /// The terminal behind a descriptor.
    pub(super) fn of(fd: BorrowedFd<'_>) -> Result<Self, TerminalError> {
        match reopen(fd) {
            Some(own) => Self::new(own, None, true),
            None => Self::inherited(fd),
        }
    }

    /// The terminal behind a descriptor that it shares with others.
    pub(super) fn inherited(fd: BorrowedFd<'_>) -> Result<Self, TerminalError> {
        let duplicate = |fd: BorrowedFd<'_>| {
            fcntl_dupfd_cloexec(fd, FIRST_FD)
                .map_err(|error| TerminalError::failed("opened")(error.into()))
        };
        // It may have been opened for reading alone; then the other standard streams may do.
        let (stdout, stderr) = (io::stdout(), io::stderr());
        let output = [fd, stdout.as_fd(), stderr.as_fd()]
            .into_iter()
            .find(|fd| isatty(fd) && writable(*fd))
            .ok_or(TerminalError::Missing)?;
        Self::new(duplicate(fd)?, Some(duplicate(output)?), false)
    }

    fn new(input: OwnedFd, output: Option<OwnedFd>, own: bool) -> Result<Self, TerminalError> {
        let failed = TerminalError::failed("opened");
        let output = match output {
            Some(output) => output,
            None => input.try_clone().map_err(&failed)?,
        };
        Ok(Self {
            input: register(input, Interest::READABLE).map_err(&failed)?,
            output: register(output, Interest::WRITABLE).map_err(&failed)?,
            own,
        })
    }

    /// Its size, unless it does not know.
    pub(super) fn size(&self) -> Option<TerminalSize> {
        let size = tcgetwinsize(&self.input).ok()?;
        (size.ws_row > 0 && size.ws_col > 0).then_some(TerminalSize {
            rows: size.ws_row,
            columns: size.ws_col,
        })
    }

    /// Waits until something was typed, and reads it; not more than `buffer` holds, and at least
    /// one byte. Cancel-safe.
    pub(super) async fn read(&self, buffer: &mut [u8]) -> Result<usize, TerminalError> {
        loop {
            let mut ready = self.input.readable().await.map_err(broken("read"))?;
            if let Ok(read) = ready.try_io(|fd| self.take(fd.as_fd(), buffer)) {
                return read.map_err(broken("read"));
            }
        }
    }

    /// Reads what was typed, if anything was.
    pub(super) fn read_now(&self, buffer: &mut [u8]) -> Result<Option<usize>, TerminalError> {
        let read = self
            .input
            .try_io(Interest::READABLE, |fd| self.take(fd.as_fd(), buffer));
        match read {
            Ok(read) => Ok(Some(read)),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(None),
            Err(error) => Err(broken("read")(error)),
        }
    }

    /// Writes all of it, however long the terminal takes.
    pub(super) async fn write_all(&self, mut bytes: &[u8]) -> Result<(), TerminalError> {
        while !bytes.is_empty() {
            let mut ready = self.output.writable().await.map_err(broken("written"))?;
            let Ok(written) = ready.try_io(|fd| self.put(fd.as_fd(), bytes)) else {
                continue;
            };
            let written = written.map_err(broken("written"))?;
            bytes = bytes.get(written..).unwrap_or_default();
        }
        Ok(())
    }

    fn take(&self, fd: BorrowedFd<'_>, buffer: &mut [u8]) -> io::Result<usize> {
        if !self.own && !ready(fd, PollFlags::IN)? {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        match again(|| rustix::io::read(fd, &mut *buffer))? {
            // The end that a user types while another program has set the modes is none for us.
            0 if !ready(fd, PollFlags::HUP)? => Err(io::ErrorKind::WouldBlock.into()),
            0 => Err(Errno::IO.into()),
            read => Ok(read),
        }
    }

    fn put(&self, fd: BorrowedFd<'_>, bytes: &[u8]) -> io::Result<usize> {
        let bytes = if self.own {
            bytes
        } else if ready(fd, PollFlags::OUT)? {
            bytes.get(..1).unwrap_or_default()
        } else {
            return Err(io::ErrorKind::WouldBlock.into());
        };
        Ok(again(|| rustix::io::write(fd, bytes))?)
    }
}

impl AsFd for Terminal {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.input.get_ref().as_fd()
    }
}

fn flags() -> OFlags {
    OFlags::RDWR | OFlags::NOCTTY | OFlags::NONBLOCK | OFlags::CLOEXEC
}

/// An open file of our own for the same terminal.
fn reopen(fd: BorrowedFd<'_>) -> Option<OwnedFd> {
    use std::os::fd::AsRawFd;

    // Opening the multiplexer makes a new terminal.
    let here = fstat(fd).ok()?;
    let multiplexer = (major(here.st_rdev), minor(here.st_rdev)) == (5, 2);
    if multiplexer || FileType::from_raw_mode(here.st_mode) != FileType::CharacterDevice {
        return None;
    }
    let path = format!("/proc/self/fd/{}", fd.as_raw_fd());
    let own = open(path, flags(), Mode::empty()).ok()?;
    let same = fstat(&own).is_ok_and(|own| own.st_rdev == here.st_rdev) && isatty(&own);
    same.then_some(own)
}

fn writable(fd: BorrowedFd<'_>) -> bool {
    rustix::fs::fcntl_getfl(fd).is_ok_and(|flags| {
        let access = flags & OFlags::ACCMODE;
        access == OFlags::RDWR || access == OFlags::WRONLY
    })
}

/// Whether one of these is true of it now.
fn ready(fd: BorrowedFd<'_>, wanted: PollFlags) -> io::Result<bool> {
    let mut fds = [PollFd::from_borrowed_fd(fd, wanted)];
    let now = Timespec::default();
    again(|| poll(&mut fds, Some(&now)))?;
    let [fd] = &fds;
    // A terminal that is gone does not block: the error is for the read or the write to find.
    Ok(fd
        .revents()
        .intersects(wanted | PollFlags::HUP | PollFlags::ERR))
}

/// A signal whose handler interrupted the call is no reason to give it up.
pub(super) fn again<T>(mut call: impl FnMut() -> Result<T, Errno>) -> Result<T, Errno> {
    loop {
        match call() {
            Err(Errno::INTR) => {}
            result => return result,
        }
    }
}

/// A terminal that was closed says EIO to everything.
fn broken(action: &'static str) -> impl Fn(io::Error) -> TerminalError {
    move |error| {
        if Errno::from_io_error(&error) == Some(Errno::IO) {
            TerminalError::HungUp
        } else {
            TerminalError::failed(action)(error)
        }
    }
}
