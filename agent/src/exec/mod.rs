//! From a request to a running command.
//!
//! Everything that can be decided before the fork is decided here, in the parent, where
//! memory and good messages are to be had; what only the kernel can decide is reported
//! back by the child, as the step that failed and its error number ([`failure`]).

mod environment;
mod failure;
mod init;
mod limits;
mod lookup;
mod streams;
mod user;

#[cfg(test)]
mod tests;

use std::ffi::CString;
use std::io;

use msb_protocol::{ExecFailure, ExecRequest};
use rustix::process::{Pid, Resource, Rlimit};

use crate::stream::Stream;
use crate::sys::process::{Command, REPORT_BYTES, read_report, spawn};

pub(crate) use init::command as init_command;
pub(crate) use streams::{Input, Outputs, resize};

/// What commands get when nobody says otherwise.
#[derive(Clone, Debug, Default)]
pub struct Defaults {
    /// Environment under the request's own.
    pub env: Vec<(String, String)>,
    /// `RLIMIT_NOFILE` (soft, hard), where the agent's own is not to be handed on.
    pub open_files: Option<(u64, u64)>,
    /// The scripts' directory is in everyone's `PATH`.
    pub scripts: bool,
    /// Commands get no new privileges and cannot administer the guest.
    pub restricted: bool,
    /// The signal that asks them to end, where it is not `SIGTERM`.
    pub stop_signal: Option<i32>,
}

/// Their limit of open files, where there is one.
fn open_files(defaults: &Defaults) -> Option<(Resource, Rlimit)> {
    let (soft, hard) = defaults.open_files?;
    let limit = Rlimit {
        current: Some(soft),
        maximum: Some(hard),
    };
    Some((Resource::Nofile, limit))
}

/// A forked child that is on its way to become a command.
#[derive(Debug)]
pub(crate) struct Child {
    pub(crate) pid: Pid,
    pub(crate) starting: Starting,
    pub(crate) input: Option<Input>,
    pub(crate) outputs: Outputs,
}

/// Forks what `request` asks for.
pub(crate) fn start(request: &ExecRequest, defaults: &Defaults) -> Result<Child, ExecFailure> {
    let account = match &request.user {
        Some(spec) => Some(user::resolve(spec)?),
        None => None,
    };
    let env = environment::merge(request, defaults, account.as_ref().map(|a| a.home.as_str()));
    let cwd = request.cwd.as_deref().unwrap_or("/");
    let mut limits: Vec<_> = open_files(defaults).into_iter().collect();
    limits::add(&request.limits, &mut limits)?;

    let path = env.get("PATH").map_or("", String::as_str);
    let argv = [&request.program].into_iter().chain(&request.args);
    let command = Command {
        candidates: lookup::candidates(&request.program, path)?,
        argv: argv
            .map(|argument| c_string("an argument", argument))
            .collect::<Result<_, _>>()?,
        env: environment::c_strings(&env)?,
        cwd: c_string("the working directory", cwd)?,
        identity: account.map(|account| account.identity),
        limits,
        restricted: defaults.restricted,
    };

    let owner = command.identity.as_ref().map(|identity| identity.uid);
    let prepared =
        streams::prepare(request, owner).map_err(|error| failure::before_fork(&error))?;
    let (pid, report) =
        spawn(&command, prepared.child()).map_err(|error| failure::before_fork(&error))?;
    // From here on there is a child, so nothing may fail.
    let (input, outputs) = prepared.into_ours();
    Ok(Child {
        pid,
        starting: Starting {
            report: Stream::reader(report),
            command,
        },
        input,
        outputs,
    })
}

/// Text that the kernel is to take as a C string.
fn c_string(what: &str, text: &str) -> Result<CString, ExecFailure> {
    CString::new(text)
        .map_err(|_nul| failure::bad_argument(&format!("{what} has a NUL byte in it")))
}

/// A child between `fork` and `execve`.
#[derive(Debug)]
pub(crate) struct Starting {
    report: io::Result<Stream>,
    command: Command,
}

impl Starting {
    /// The program's name, as it was asked for.
    pub(crate) fn program(&self) -> &str {
        let name = self.command.argv.first().map(|name| name.to_str());
        // Text is what it was made of.
        name.and_then(Result::ok).unwrap_or_default()
    }

    /// Waits until it is decided whether the command runs.
    pub(crate) async fn outcome(&self) -> Result<(), ExecFailure> {
        let report = self.report.as_ref().map_err(failure::before_fork)?;
        let said = report
            .read(REPORT_BYTES, read_report)
            .await
            .map_err(|error| failure::before_fork(&error))?;
        match said {
            None => Ok(()),
            Some((step, errno)) => Err(failure::in_child(step, errno, &self.command)),
        }
    }
}
