//! A command's standard streams: pipes and `/dev/null`, or one terminal.

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::rc::Rc;

use msb_protocol::{ExecRequest, Stdin, TerminalSize};
use rustix::fs::fchown;
use rustix::io::Errno;
use rustix::pipe::{PipeFlags, pipe_with};
use rustix::process::Uid;
use rustix::pty::{OpenptFlags, ioctl_tiocgptpeer, unlockpt};
use rustix::termios::{Winsize, tcsetwinsize};

use crate::devices;
use crate::stream::Stream;
use crate::sys::process::Streams;

/// Where standard input goes.
#[derive(Debug)]
pub(crate) enum Input {
    /// A pipe, whose end is told by closing it.
    Pipe(Stream),
    /// The terminal, which has no end that one could tell.
    Terminal(Rc<Stream>),
}

impl Input {
    pub(crate) fn stream(&self) -> &Stream {
        match self {
            Self::Pipe(stream) => stream,
            Self::Terminal(stream) => stream,
        }
    }
}

/// Where output comes from.
#[derive(Debug)]
pub(crate) enum Outputs {
    Pipes { stdout: Stream, stderr: Stream },
    Terminal(Rc<Stream>),
}

/// Both sides' ends, before the fork.
#[derive(Debug)]
pub(super) struct Prepared {
    stdin: OwnedFd,
    stdout: OwnedFd,
    /// Standard error, where it is not the same as standard output.
    stderr: Option<OwnedFd>,
    terminal: bool,
    input: Option<Input>,
    outputs: Outputs,
}

impl Prepared {
    pub(super) fn child(&self) -> Streams<'_> {
        Streams {
            stdin: self.stdin.as_fd(),
            stdout: self.stdout.as_fd(),
            stderr: self.stderr.as_ref().unwrap_or(&self.stdout).as_fd(),
            terminal: self.terminal,
        }
    }

    /// Closes the child's ends.
    pub(super) fn into_ours(self) -> (Option<Input>, Outputs) {
        (self.input, self.outputs)
    }
}

/// Opens what `request` asks for, the child's ends belonging to `owner`: programs may
/// open `/dev/stdout` anew, and then the owner counts.
pub(super) fn prepare(request: &ExecRequest, owner: Option<Uid>) -> io::Result<Prepared> {
    let prepared = match request.terminal {
        Some(size) => terminal(size, request.stdin)?,
        None => pipes(request.stdin)?,
    };
    if owner.is_some() {
        fchown(&prepared.stdout, owner, None)?;
        if let Some(stderr) = &prepared.stderr {
            fchown(stderr, owner, None)?;
        }
        // A terminal is the same file as standard output, and /dev/null is everyone's.
        if let Some(Input::Pipe(_)) = prepared.input {
            fchown(&prepared.stdin, owner, None)?;
        }
    }
    Ok(prepared)
}

fn pipes(stdin: Stdin) -> io::Result<Prepared> {
    let (stdin, input) = if stdin == Stdin::Pipe {
        let (theirs, ours) = pipe_with(PipeFlags::CLOEXEC)?;
        (theirs, Some(Input::Pipe(Stream::writer(ours)?)))
    } else {
        (devices::null()?, None)
    };
    let (stdout, their_stdout) = pipe_with(PipeFlags::CLOEXEC)?;
    let (stderr, their_stderr) = pipe_with(PipeFlags::CLOEXEC)?;
    Ok(Prepared {
        stdin,
        stdout: their_stdout,
        stderr: Some(their_stderr),
        terminal: false,
        input,
        outputs: Outputs::Pipes {
            stdout: Stream::reader(stdout)?,
            stderr: Stream::reader(stderr)?,
        },
    })
}

fn terminal(size: TerminalSize, stdin: Stdin) -> io::Result<Prepared> {
    let flags = OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC;
    let ours = devices::terminal()?;
    unlockpt(&ours)?;
    let theirs = ioctl_tiocgptpeer(&ours, flags)?;
    resize(&ours, size)?;
    let ours = Rc::new(Stream::new(ours)?);
    let input = (stdin == Stdin::Pipe).then(|| Input::Terminal(Rc::clone(&ours)));
    Ok(Prepared {
        stdout: theirs.try_clone()?,
        stdin: theirs,
        stderr: None,
        terminal: true,
        input,
        outputs: Outputs::Terminal(ours),
    })
}

/// Sets a terminal's size, which tells its foreground process group.
pub(crate) fn resize(terminal: impl AsFd, size: TerminalSize) -> Result<(), Errno> {
    let size = Winsize {
        ws_row: size.rows,
        ws_col: size.columns,
        ws_xpixel: 0,
        ws_ypixel: 0,
    };
    tcsetwinsize(terminal, size)
}
