//! What can go wrong with the terminal of this side.

use std::io;

/// A terminal that cannot be used, or not any longer.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TerminalError {
    /// Neither standard input nor `/dev/tty` is one.
    #[error(
        "there is no terminal to attach: standard input is none and the program was started \
         without one; use exec, which needs none"
    )]
    Missing,
    /// There is one terminal, and so there is one attach at a time.
    #[error("this program is attached already, and has one terminal; end that attach first")]
    InUse,
    /// The operating system refused something.
    #[error("the terminal could not be {action}")]
    Failed {
        /// What was to be done with it.
        action: &'static str,
        /// What was said to that.
        #[source]
        source: io::Error,
    },
    /// It was closed while something was attached to it.
    #[error("the terminal was closed")]
    HungUp,
    /// The program was sent a signal for which it has a handler of its own. The terminal has its
    /// own modes again, and what follows is for the program to say.
    #[error("signal {0} ended the attach")]
    Signalled(i32),
}

impl TerminalError {
    /// The error of an `action` that the operating system refused.
    pub(super) fn failed(action: &'static str) -> impl Fn(io::Error) -> Self {
        move |source| Self::Failed { action, source }
    }
}
