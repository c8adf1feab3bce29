//! The terminal of a person at a console: raw while the machine runs, as it was afterwards.
//!
//! In raw mode every key goes to the guest, Ctrl-C too. Ctrl-A is the one that does not: followed by
//! `x` it ends the machine, followed by itself it is sent once.

mod keyboard;

use std::io;
use std::sync::{Mutex, PoisonError};

use rustix::io::dup;
use rustix::stdio::stdin;
use rustix::termios::{OptionalActions, OutputModes, Termios, isatty, tcgetattr, tcsetattr};

pub use keyboard::{Escape, Key, Keyboard, Sink};

/// The modes to go back to, while the terminal is raw.
static BEFORE: Mutex<Option<Termios>> = Mutex::new(None);

/// Whether standard input is a terminal.
pub fn is_terminal() -> bool {
    isatty(stdin())
}

/// Standard input, or what it was when the program started, as a descriptor of one's own.
pub fn input() -> io::Result<std::os::fd::OwnedFd> {
    Ok(dup(stdin())?)
}

/// Standard output as a descriptor of one's own.
pub fn output() -> io::Result<std::os::fd::OwnedFd> {
    Ok(dup(rustix::stdio::stdout())?)
}

/// The terminal is raw until this is dropped.
#[derive(Debug)]
pub struct RawMode(());

impl RawMode {
    /// Makes it raw. Output keeps its newline translation, so that messages of this program look
    /// right between the guest's.
    pub fn enter() -> io::Result<Self> {
        let before = tcgetattr(stdin())?;
        let mut raw = before.clone();
        raw.make_raw();
        raw.output_modes |= OutputModes::OPOST;
        *BEFORE.lock().unwrap_or_else(PoisonError::into_inner) = Some(before);
        tcsetattr(stdin(), OptionalActions::Now, &raw)?;
        Ok(Self(()))
    }
}

impl Drop for RawMode {
    fn drop(&mut self) {
        restore();
    }
}

/// Makes the terminal as it was, if it is raw. For ways out on which nothing is dropped.
pub fn restore() {
    let before = BEFORE.try_lock().ok().and_then(|mut before| before.take());
    if let Some(before) = before {
        // There is nothing else to be done about a terminal that has gone.
        let _ = tcsetattr(stdin(), OptionalActions::Now, &before);
    }
}
