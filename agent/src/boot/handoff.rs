//! An init of the root's own: it becomes PID 1, and the agent goes on beside it.
//!
//! ```text
//! PID 1  agent: mounts, settings ── fork ── execve ──> the root's init, which reaps orphans and
//!                                    │                  ends the machine when it is asked to
//! child                              └──> agent: commands, monitor, shutdown
//! ```
//!
//! The agent depends on nothing that an init may change: its descriptors stay what they are, those of
//! devices are found by a directory that it keeps open, and it reaps its own children only. If the init cannot be executed, that is a boot that failed. If it ends,
//! the kernel does too, and says so on the console, where the supervisor reads it.

use std::fs::{File, metadata, read_link};
use std::io::Read;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::time::Duration;

use msb_protocol::{AUTO_INIT, BootStage, INIT_PLACES, InitProgram};
use tokio::time::timeout;

use super::BootError;
use crate::exec::{self, Defaults};
use crate::stream::Stream;
use crate::sys::handoff::hand_over;
use crate::sys::process::{REPORT_BYTES, read_report};
use crate::sys::signal::POWER_OFF_SYSTEMD;

/// How long it may take until the init is executed: its file has to be read from the disk.
const EXECUTE: Duration = Duration::from_secs(30);

/// Makes `init` PID 1. Returns in the agent's new process.
///
/// To be called before the agent has any child.
pub(super) async fn run(init: &InitProgram, defaults: &Defaults) -> Result<(), BootError> {
    let program = find(&init.program, &INIT_PLACES)?;
    let command = exec::init_command(init, &program, defaults).map_err(|failure| {
        BootError::of(
            BootStage::Init,
            format!("init {program}: {}", failure.message),
        )
    })?;
    let fail = |error| {
        BootError::new(
            BootStage::Init,
            format!("starting the init {program}"),
            error,
        )
    };
    let report = hand_over(&command).map_err(fail)?;
    let report = Stream::reader(report).map_err(fail)?;
    match timeout(EXECUTE, report.read(REPORT_BYTES, read_report)).await {
        Ok(Ok(None)) => Ok(()),
        Ok(Ok(Some((_step, errno)))) => Err(fail(std::io::Error::from_raw_os_error(errno))),
        Ok(Err(error)) => Err(fail(error)),
        Err(_elapsed) => Err(fail(std::io::ErrorKind::TimedOut.into())),
    }
}

/// The init's file.
fn find(program: &str, places: &[&str]) -> Result<String, BootError> {
    let refuse = |message: String| Err(BootError::of(BootStage::Init, message));
    if program == AUTO_INIT {
        return match places.iter().find(|place| is_program(place)) {
            Some(place) => Ok((*place).to_owned()),
            None => refuse(format!(
                "there is no init at {}; name the one that the image has",
                places.join(", ")
            )),
        };
    }
    if !program.starts_with('/') {
        return refuse(format!("the init {program:?} is no absolute path"));
    }
    Ok(program.to_owned())
}

fn is_program(path: &str) -> bool {
    metadata(path).is_ok_and(|data| data.is_file() && data.permissions().mode() & 0o111 != 0)
}

/// What asks PID 1 to turn the machine off, the likeliest first. An init that knows nothing of a
/// signal does not get it: the kernel keeps from PID 1 what it does not handle.
pub(super) fn farewell() -> &'static [i32] {
    let mut name = String::new();
    if let Ok(file) = File::open("/proc/1/comm") {
        // Fails for a name that is not text, which is no init's that is known here.
        let _ = file.take(64).read_to_string(&mut name);
    }
    let file = read_link("/proc/1/exe").unwrap_or_default();
    words(
        name.trim_end(),
        &file,
        Path::new("/run/systemd/system").is_dir(),
    )
}

fn words(name: &str, file: &Path, systemd_runs: bool) -> &'static [i32] {
    if name == "systemd" || systemd_runs {
        return &[POWER_OFF_SYSTEMD];
    }
    match file.file_name() {
        // To busybox SIGTERM means to start again.
        Some(name) if name == "busybox" => &[libc::SIGUSR2, libc::SIGTERM],
        _ => &[libc::SIGTERM, libc::SIGUSR2],
    }
}

#[cfg(test)]
#[path = "handoff_tests.rs"]
mod tests;
