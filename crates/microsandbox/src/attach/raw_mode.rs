//! Raw mode: the terminal hands on every key and every byte as it is.
//!
//! Else it would edit lines, echo, and make signals of Ctrl-C and Ctrl-Z. All of that is done by the
//! terminal in the sandbox now, and done twice it is wrong. There is one terminal to a
//! program, so one attach at a time: the [`Claim`] is taken before the command is started, and the guard
//! [`RawMode`] holds it until the terminal is as it was.

use std::os::fd::AsFd;
use std::sync::atomic::{AtomicBool, Ordering};

use rustix::io::fcntl_dupfd_cloexec;
use rustix::termios::{OptionalActions, Termios, tcgetattr, tcsetattr};

use super::error::TerminalError;
use super::signals::Watch;
use super::tty::again;

static CLAIMED: AtomicBool = AtomicBool::new(false);

/// The right to use this program's terminal.
#[derive(Debug)]
pub(super) struct Claim(());

impl Claim {
    pub(super) fn take() -> Result<Self, TerminalError> {
        match CLAIMED.swap(true, Ordering::AcqRel) {
            true => Err(TerminalError::InUse),
            false => Ok(Self(())),
        }
    }
}

impl Drop for Claim {
    fn drop(&mut self) {
        CLAIMED.store(false, Ordering::Release);
    }
}

/// The terminal is raw for as long as this lives, except while the program is suspended.
#[derive(Debug)]
pub(super) struct RawMode {
    // In this order they go: the terminal is as it was when the next may claim it.
    watch: Watch,
    raw: Termios,
    _claim: Claim,
}

impl RawMode {
    /// Makes the terminal raw.
    pub(super) fn enter(claim: Claim, terminal: impl AsFd) -> Result<Self, TerminalError> {
        let terminal = terminal.as_fd();
        let modes = again(|| tcgetattr(terminal))
            .map_err(|error| TerminalError::failed("asked for its modes")(error.into()))?;
        let mut raw = modes.clone();
        raw.make_raw();
        let watch = fcntl_dupfd_cloexec(terminal, 3)
            .map_err(std::io::Error::from)
            .and_then(|terminal| Watch::begin(terminal, modes))
            .map_err(TerminalError::failed("protected against signals"))?;
        let mode = Self {
            watch,
            raw,
            _claim: claim,
        };
        mode.again(terminal)?;
        Ok(mode)
    }

    /// Makes it raw once more, after the program was suspended.
    pub(super) fn again(&self, terminal: impl AsFd) -> Result<(), TerminalError> {
        // First, so that no signal finds a raw terminal that it takes for another.
        self.watch.raw();
        again(|| tcsetattr(terminal.as_fd(), OptionalActions::Now, &self.raw))
            .map_err(|error| TerminalError::failed("made raw")(error.into()))
    }

    /// The signal that the program has handled itself, if one came.
    pub(super) fn handled_signal(&self) -> Option<i32> {
        self.watch.handled()
    }
}
