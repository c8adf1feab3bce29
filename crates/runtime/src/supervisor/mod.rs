//! One sandbox's life, from the launch to the last line.
//!
//! Every source of news (the VMM's socket and process, the agent, the clients, signals)
//! is a small task that puts [`Event`]s into one bounded channel; the [`Run`] takes them
//! one at a time. So there is one place where a thing is decided, and nothing is shared.

mod agent;
mod clients;
mod console;
mod event;
mod launch;
mod run;
mod vmm;

use std::process::ExitCode;

use anyhow::{Context, bail};
use msb_runtime::boot::{BootError, BootErrorKind, BootStage};
use msb_runtime::control::{Notice, Request};
use msb_runtime::lines;
use msb_runtime::rundir::RunDir;
use tokio::net::UnixStream;

use self::run::Run;

/// Serves the launch channel `stream` until the sandbox it asks for is over.
pub(crate) async fn run(stream: UnixStream) -> anyhow::Result<ExitCode> {
    let (mut reader, mut writer) = lines::split(stream);
    let request = reader
        .next()
        .await
        .context("cannot read the launch request")?;
    let launch = match request {
        Some(Request::Launch(launch)) => *launch,
        Some(_) => bail!("the first request was not a launch"),
        // The creator is gone before it said what it wants.
        None => return Ok(ExitCode::SUCCESS),
    };

    let dir = match RunDir::at(launch.run_dir.clone()).lock() {
        Ok(dir) => dir,
        Err(error) => {
            let _ = writer
                .send(&Notice::BootFailed(launch::rundir_error(&error)))
                .await;
            return Ok(ExitCode::FAILURE);
        }
    };
    match Run::start(launch, &dir).await {
        Ok(run) => {
            run.until_ended(dir, reader, writer).await;
            Ok(ExitCode::SUCCESS)
        }
        Err(error) => {
            let error = clean_up(dir, error);
            let _ = writer.send(&Notice::BootFailed(error)).await;
            Ok(ExitCode::FAILURE)
        }
    }
}

/// Removes the run directory; an error here is added to what is reported.
fn clean_up(dir: msb_runtime::rundir::LockedRunDir, mut error: BootError) -> BootError {
    if let Err(source) = dir.remove() {
        error.message.push_str(&format!(
            " (and the run directory could not be removed: {source})"
        ));
    }
    error
}

/// A failure of the host, with its chain, at `stage`.
fn host_error(stage: BootStage, what: &str, source: &std::io::Error) -> BootError {
    BootError::new(stage, BootErrorKind::Host, format!("{what}: {source}"))
}
