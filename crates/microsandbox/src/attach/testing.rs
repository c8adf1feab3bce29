//! For tests: a terminal with a test in the place of its user, and a command that is a script.

use std::os::fd::{AsFd, OwnedFd};
use std::time::Duration;

use msb_protocol::TerminalSize;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::pty::{OpenptFlags, grantpt, ioctl_tiocgptpeer, openpt, unlockpt};
use rustix::termios::{LocalModes, OptionalActions, Winsize, tcgetattr, tcsetattr, tcsetwinsize};
use tokio::sync::{Mutex, mpsc};

use super::pump::{Controls, Events};
use crate::error::MicrosandboxResult;
use crate::exec::ExecEvent;

/// Held by tests that use what a program has once.
pub(super) static TURN: Mutex<()> = Mutex::const_new(());

/// How long anything may take before a test calls it hung.
pub(super) const PATIENCE: Duration = Duration::from_secs(60);

/// Fails a future that does not end in time.
pub(super) async fn within<T>(future: impl Future<Output = T>) -> T {
    tokio::time::timeout(PATIENCE, future)
        .await
        .expect("it does not end")
}

/// Both ends of a terminal.
#[derive(Debug)]
pub(super) struct Pty {
    /// Where its user is.
    pub(super) user: OwnedFd,
    /// Where programs are.
    pub(super) program: OwnedFd,
}

impl Pty {
    /// A terminal of 24 lines and 80 columns, whose modes no terminal has of itself.
    pub(super) fn new() -> Self {
        let flags = OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC;
        let user = openpt(flags).unwrap();
        grantpt(&user).unwrap();
        unlockpt(&user).unwrap();
        let program = ioctl_tiocgptpeer(&user, flags).unwrap();
        let mut modes = tcgetattr(&program).unwrap();
        modes.local_modes ^= LocalModes::ECHOK | LocalModes::NOFLSH;
        tcsetattr(&program, OptionalActions::Now, &modes).unwrap();
        let pty = Self { user, program };
        pty.resize(24, 80);
        pty
    }

    /// All its modes, to be compared.
    pub(super) fn modes(&self) -> String {
        format!("{:?}", tcgetattr(&self.user).unwrap())
    }

    pub(super) fn is_raw(&self) -> bool {
        let modes = tcgetattr(&self.user).unwrap().local_modes;
        !modes.intersects(LocalModes::ICANON | LocalModes::ECHO | LocalModes::ISIG)
    }

    pub(super) fn resize(&self, rows: u16, columns: u16) {
        let size = Winsize {
            ws_row: rows,
            ws_col: columns,
            ws_xpixel: 0,
            ws_ypixel: 0,
        };
        tcsetwinsize(&self.user, size).unwrap();
    }

    /// Types; short texts only.
    pub(super) fn type_in(&self, bytes: &[u8]) {
        assert_eq!(rustix::io::write(&self.user, bytes).unwrap(), bytes.len());
    }

    /// What is on the screen that was not seen yet, `count` bytes of it.
    pub(super) async fn seen(&self, count: usize) -> Vec<u8> {
        let user = self.user.try_clone().unwrap();
        within(tokio::task::spawn_blocking(move || exactly(&user, count)))
            .await
            .unwrap()
    }

    /// What the next program reads, as one that edits lines itself.
    pub(super) fn left(&self, count: usize) -> Vec<u8> {
        let mut modes = tcgetattr(&self.program).unwrap();
        modes.make_raw();
        tcsetattr(&self.program, OptionalActions::Now, &modes).unwrap();
        exactly(&self.program, count)
    }
}

/// Reads so many bytes.
fn exactly(fd: &OwnedFd, count: usize) -> Vec<u8> {
    let (mut bytes, mut buffer) = (Vec::new(), [0; 4096]);
    let patience = Timespec::try_from(PATIENCE).unwrap();
    while bytes.len() < count {
        let mut fds = [PollFd::from_borrowed_fd(fd.as_fd(), PollFlags::IN)];
        assert_eq!(poll(&mut fds, Some(&patience)).unwrap(), 1, "no more comes");
        let most = buffer.len().min(count - bytes.len());
        let read = rustix::io::read(fd, &mut buffer[..most]).unwrap();
        bytes.extend_from_slice(&buffer[..read]);
    }
    bytes
}

/// What a command tells: whatever the test sends.
#[derive(Debug)]
pub(super) struct Script(pub(super) mpsc::Receiver<ExecEvent>);

impl Events for Script {
    async fn next(&mut self) -> MicrosandboxResult<Option<ExecEvent>> {
        Ok(self.0.recv().await)
    }
}

/// What a command was told.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Told {
    Typed(Vec<u8>),
    Size(u16, u16),
}

/// A command that passes on what it is told.
#[derive(Debug)]
pub(super) struct Ear {
    pub(super) told: mpsc::UnboundedSender<Told>,
    /// Whether it reads its input.
    pub(super) reads: bool,
}

impl Controls for Ear {
    async fn write(&self, bytes: &[u8]) -> MicrosandboxResult<()> {
        if !self.reads {
            std::future::pending::<()>().await;
        }
        let _ = self.told.send(Told::Typed(bytes.to_vec()));
        Ok(())
    }

    async fn resize(&self, size: TerminalSize) -> MicrosandboxResult<()> {
        let _ = self.told.send(Told::Size(size.rows, size.columns));
        Ok(())
    }
}
