//! Why a command did not start, in the words of the protocol.

use std::ffi::{CStr, OsStr};
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use msb_protocol::{ExecFailure, ExecFailureKind as Kind};

use crate::sys::process::{Command, Step};

pub(super) fn bad_argument(message: &str) -> ExecFailure {
    fail(Kind::BadArguments, message.to_owned(), None)
}

pub(super) fn bad_user(message: String) -> ExecFailure {
    fail(Kind::BadUser, message, None)
}

pub(super) fn not_found(program: &str) -> ExecFailure {
    fail(
        Kind::NotFound,
        format!("{program}: no such program in PATH"),
        Some(libc::ENOENT),
    )
}

/// The parent could not make a process or its pipes.
pub(super) fn before_fork(error: &io::Error) -> ExecFailure {
    let errno = error.raw_os_error();
    let kind = errno.map_or(Kind::Other, |errno| shortage(errno).unwrap_or(Kind::Other));
    fail(kind, format!("no process could be made: {error}"), errno)
}

/// The child came as far as `step`.
pub(super) fn in_child(step: Step, errno: i32, command: &Command) -> ExecFailure {
    let why = io::Error::from_raw_os_error(errno);
    let program = command.argv.first().map_or(c"", |name| name.as_c_str());
    let program = program.to_string_lossy();
    let (kind, message) = match step {
        Step::Cwd => (
            shortage(errno).unwrap_or(Kind::BadCwd),
            format!("working directory {}: {why}", command.cwd.to_string_lossy()),
        ),
        Step::Groups | Step::User => (
            shortage(errno).unwrap_or(Kind::BadUser),
            format!("the user or group could not be taken on: {why}"),
        ),
        Step::Restrict => (
            Kind::Other,
            format!("the command could not be restricted: {why}"),
        ),
        Step::Limits => (
            Kind::BadArguments,
            format!("a resource limit was not accepted: {why}"),
        ),
        Step::Exec => (
            exec_kind(errno),
            exec_message(&program, errno, &why, command),
        ),
        Step::Session | Step::Terminal | Step::Streams => (
            shortage(errno).unwrap_or(Kind::Other),
            format!("the command's session could not be set up: {why}"),
        ),
    };
    fail(kind, message, Some(errno))
}

fn exec_kind(errno: i32) -> Kind {
    match errno {
        libc::ENOENT | libc::ENOTDIR => Kind::NotFound,
        libc::EACCES | libc::EPERM | libc::EISDIR => Kind::PermissionDenied,
        libc::ENOEXEC | libc::EINVAL | libc::ELIBBAD => Kind::NotExecutable,
        libc::E2BIG | libc::ENAMETOOLONG => Kind::BadArguments,
        other => shortage(other).unwrap_or(Kind::Other),
    }
}

fn exec_message(program: &str, errno: i32, why: &io::Error, command: &Command) -> String {
    match errno {
        libc::ENOENT if command.candidates.iter().any(|path| is_file(path)) => format!(
            "{program} is there, but the interpreter or dynamic loader that it names is not"
        ),
        libc::ENOENT if program.contains('/') => format!("{program}: no such program"),
        libc::ENOENT => not_found(program).message,
        libc::ENOEXEC => {
            format!("{program} is nothing that the kernel can execute; a script begins with #!")
        }
        _ => format!("{program}: {why}"),
    }
}

/// What is looked at here is only for the message.
fn is_file(path: &CStr) -> bool {
    let path = Path::new(OsStr::from_bytes(path.to_bytes()));
    path.is_absolute() && path.is_file()
}

/// Error numbers that mean "not now" rather than "not so".
fn shortage(errno: i32) -> Option<Kind> {
    match errno {
        libc::ENOMEM | libc::EAGAIN | libc::EMFILE | libc::ENFILE | libc::ENOSPC => {
            Some(Kind::ResourceExhausted)
        }
        _ => None,
    }
}

fn fail(kind: Kind, message: String, errno: Option<i32>) -> ExecFailure {
    ExecFailure {
        kind,
        message,
        errno,
    }
}
