//! A command in a sandbox on the terminal that this program has.
//!
//! The command gets a terminal of its own in the sandbox, and the two are connected: keys go in,
//! what it prints comes out, and the window's size is followed. The terminal here is raw
//! meanwhile, so that Ctrl-C reaches the command and not this program, and it is put back however the
//! attach ends: return, error, dropped future, panic, `exit`, or a signal that ends or suspends the
//! program.
//!
//! ```no_run
//! # async fn example(sandbox: &microsandbox::Sandbox) -> microsandbox::MicrosandboxResult<()> {
//! let code = sandbox.attach_shell().await?;
//! println!("the shell ended with {code}");
//! # Ok(())
//! # }
//! ```

mod detach_keys;
mod error;
mod options;
mod pump;
mod raw_mode;
mod readiness;
mod signals;
#[cfg(test)]
mod testing;
mod tty;
#[cfg(test)]
mod ways_out_tests;

pub use detach_keys::DetachKeys;
pub use error::TerminalError;
pub use options::{AttachOptions, AttachOptionsBuilder};

use std::env;

use crate::error::MicrosandboxResult;
use crate::exec::ExecHandle;
use crate::sandbox::{DEFAULT_TERMINAL, Sandbox};

use pump::{Ending, News, Remote};
use raw_mode::{Claim, RawMode};
use tty::Terminal;

/// The variable that says what a terminal understands.
const TERM: &str = "TERM";

/// What an attach that was detached from returns.
const DETACHED: i32 = -1;

/// On this program's terminal.
impl Sandbox {
    /// Runs a command on this program's terminal, until it ends or the user types the detach keys
    /// (Ctrl and `]`).
    ///
    /// Returns the command's exit code, which is 128 and the signal's number when a signal ended it, or -1
    /// when the user detached; the command goes on then.
    ///
    /// # Errors
    ///
    /// [`Terminal`](crate::MicrosandboxError::Terminal) when there is no terminal, another attach of this
    /// program has it, it was closed, or a signal came that this program has a handler for;
    /// [`ExecFailed`](crate::MicrosandboxError::ExecFailed) when the command could not be started.
    /// Whatever the error, and also when the future is dropped, the terminal is as it was and the command is killed.
    pub async fn attach(
        &self,
        cmd: impl Into<String>,
        args: impl IntoIterator<Item = impl Into<String>>,
    ) -> MicrosandboxResult<i32> {
        self.attach_with(cmd, |options| options.args(args)).await
    }

    /// Runs a command with options on this program's terminal; see [`attach`](Self::attach).
    ///
    /// The command's `TERM` is this program's, unless the options or the sandbox name another.
    pub async fn attach_with(
        &self,
        cmd: impl Into<String>,
        f: impl FnOnce(AttachOptionsBuilder) -> AttachOptionsBuilder,
    ) -> MicrosandboxResult<i32> {
        let (mut options, keys) = f(AttachOptionsBuilder::default()).build()?.split();
        let claim = Claim::take()?;
        let terminal = Terminal::find()?;
        let news = News::listen()?;
        let of_sandbox = self.config().env.iter().map(|var| var.key.as_str());
        let own = options.env.iter().map(|(key, _)| key.as_str());
        if let Some(term) = term(own.chain(of_sandbox), env::var(TERM).ok()) {
            options.env.push((TERM.to_owned(), term));
        }
        let size = terminal.size().unwrap_or(DEFAULT_TERMINAL);
        // Not raw yet: until the command runs, Ctrl-C is for this program.
        let mut handle = self.run(cmd.into(), options, false, size).await?;
        let ended = {
            let raw = RawMode::enter(claim, &terminal)?;
            connect(&terminal, &raw, news, &mut handle, &keys).await
        };
        match ended {
            Ok(Ending::Exited(code)) => Ok(code),
            Ok(Ending::Detached) => {
                handle.detach().await?;
                Ok(DETACHED)
            }
            Err(error) => Err(self.explain(error).await),
        }
    }

    /// Runs the sandbox's shell on this program's terminal; see [`attach`](Self::attach).
    pub async fn attach_shell(&self) -> MicrosandboxResult<i32> {
        self.attach_with(self.shell_program(), |options| options)
            .await
    }
}

async fn connect(
    terminal: &Terminal,
    raw: &RawMode,
    news: News,
    handle: &mut ExecHandle,
    keys: &DetachKeys,
) -> MicrosandboxResult<Ending> {
    let stdin = handle
        .take_stdin()
        .ok_or_else(|| std::io::Error::from(std::io::ErrorKind::BrokenPipe))?;
    let remote = Remote {
        stdin,
        control: handle.control(),
    };
    pump::run(terminal, raw, news, handle, &remote, keys).await
}

/// What `TERM` is to be, when none of the variables is it and the terminal has one.
fn term<'a>(mut set: impl Iterator<Item = &'a str>, ours: Option<String>) -> Option<String> {
    let ours = ours.filter(|term| !term.is_empty())?;
    (!set.any(|key| key == TERM)).then_some(ours)
}

#[cfg(test)]
mod tests {
    use super::term;

    #[test]
    fn the_terminals_name_is_passed_on_unless_one_is_set() {
        let ours = || Some("foot".to_owned());
        assert_eq!(term(["HOME"].into_iter(), ours()), ours());
        assert_eq!(term(["HOME", "TERM"].into_iter(), ours()), None);
        assert_eq!(term([].into_iter(), None), None);
        assert_eq!(term([].into_iter(), Some(String::new())), None);
    }

    fn sendable<T: Send>(_: impl FnOnce(&'static crate::Sandbox) -> T) {}

    #[test]
    fn an_attach_may_be_a_task_of_its_own() {
        sendable(|sandbox| sandbox.attach("sh", ["-l"]));
        sendable(|sandbox| sandbox.attach_shell());
    }
}
