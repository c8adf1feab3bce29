//! `msb-runtime`: the supervisor of one sandbox.
//!
//! Started by the `microsandbox` library with the launch channel as its standard input;
//! it is of no use by hand. `MSB_LOG` sets what it logs to standard error.

mod supervisor;

use std::io::Write;
use std::os::fd::AsFd;
use std::process::ExitCode;

use anyhow::Context;
use tokio::net::UnixStream;
use tracing_subscriber::EnvFilter;

fn main() -> ExitCode {
    match run() {
        Ok(code) => code,
        Err(error) => {
            let _ = writeln!(std::io::stderr(), "msb-runtime: {error:#}");
            ExitCode::from(2)
        }
    }
}

fn run() -> anyhow::Result<ExitCode> {
    let filter = EnvFilter::try_from_env("MSB_LOG").unwrap_or_else(|_| EnvFilter::new("warn"));
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .init();

    let launch = std::io::stdin()
        .as_fd()
        .try_clone_to_owned()
        .context("no standard input")?;
    rustix::net::sockopt::socket_type(&launch).context(
        "standard input is not a launch channel; msb-runtime is started by the microsandbox \
         library, not by hand",
    )?;
    // A session of its own: the creator's terminal and its signals are not ours.
    let _ = rustix::process::setsid();
    raise_open_files();

    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .context("cannot start the event loop")?;
    let code = runtime.block_on(async {
        let stream = std::os::unix::net::UnixStream::from(launch);
        stream
            .set_nonblocking(true)
            .context("cannot use the launch channel")?;
        let stream = UnixStream::from_std(stream).context("cannot use the launch channel")?;
        supervisor::run(stream).await
    });
    // A thread that hangs on a disk must not keep the process.
    runtime.shutdown_background();
    code
}

/// Clients take a descriptor each; the usual soft limit is for programs that use `select`.
fn raise_open_files() {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let limit = getrlimit(Resource::Nofile);
    let raised = Rlimit {
        current: limit.maximum,
        maximum: limit.maximum,
    };
    // With less, further clients wait.
    let _ = setrlimit(Resource::Nofile, raised);
}
