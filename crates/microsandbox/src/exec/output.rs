//! What comes of a command.

use std::string::FromUtf8Error;

use bytes::Bytes;

pub use msb_protocol::Exit;

use crate::error::ExecFailed;

/// How a command ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ExitStatus {
    /// Its exit code; 128 and the signal's number when a signal ended it.
    pub code: i32,
    /// Whether it returned 0.
    pub success: bool,
}

impl From<Exit> for ExitStatus {
    fn from(exit: Exit) -> Self {
        match exit {
            Exit::Signal(signal) => Self {
                code: signal.saturating_add(128),
                success: false,
            },
            Exit::Code(code) => Self {
                code,
                success: code == 0,
            },
            // A newer guest's word for an end we do not know: no success, surely.
            _ => Self {
                code: 255,
                success: false,
            },
        }
    }
}

/// A command's whole output.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ExecOutput {
    pub(crate) exit: Exit,
    pub(crate) stdout: Bytes,
    pub(crate) stderr: Bytes,
}

impl ExecOutput {
    /// How it ended, as a code.
    pub fn status(&self) -> ExitStatus {
        self.exit.into()
    }

    /// How it ended: a code or a signal, told apart.
    pub fn exit(&self) -> Exit {
        self.exit
    }

    /// What it wrote to standard output, as text.
    pub fn stdout(&self) -> Result<String, FromUtf8Error> {
        String::from_utf8(self.stdout.to_vec())
    }

    /// What it wrote to standard error, as text.
    pub fn stderr(&self) -> Result<String, FromUtf8Error> {
        String::from_utf8(self.stderr.to_vec())
    }

    /// What it wrote to standard output.
    pub fn stdout_bytes(&self) -> &Bytes {
        &self.stdout
    }

    /// What it wrote to standard error.
    pub fn stderr_bytes(&self) -> &Bytes {
        &self.stderr
    }
}

/// What happens while a command runs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ExecEvent {
    /// It runs.
    Started {
        /// Its process id in the guest.
        pid: u32,
    },
    /// It wrote to standard output, or to its terminal.
    Stdout(Bytes),
    /// It wrote to standard error.
    Stderr(Bytes),
    /// It ended. The last event.
    Exited {
        /// Its exit code; 128 and the signal's number when a signal ended it.
        code: i32,
    },
    /// It could not be started, or the sandbox ended under it. The last event.
    Failed(ExecFailed),
    /// It reads no more of its standard input.
    StdinError(ExecStdinError),
}

/// Standard input that the command did not take.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the command closed its standard input; what was written after that is lost")]
#[non_exhaustive]
pub struct ExecStdinError {}
