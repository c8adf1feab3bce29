//! One sandbox's life, from the launch to the last line.
//!
//! Every source of news (the VMM's socket and process, the agent, the clients, signals)
//! is a small task that puts [`event::Event`]s into one bounded channel; the [`Run`] takes them
//! one at a time. So there is one place where a thing is decided, and nothing is shared.

mod agent;
mod clients;
mod clock;
mod console;
mod event;
mod launch;
mod logger;
mod monitor;
mod recorder;
mod root;
mod run;
mod sampler;
mod settings;
mod ticker;
mod vmm;

use std::path::Path;
use std::process::ExitCode;

use anyhow::{Context, bail};
use chrono::Utc;
use msb_runtime::boot::{BootError, BootErrorKind, BootStage};
use msb_runtime::control::{Launch, LaunchError, LaunchKind, Notice, Request};
use msb_runtime::lines;
use msb_runtime::registry::{Owned, Registry};
use msb_runtime::rundir::{LockedRunDir, RunDir, RunDirError};
use msb_runtime::sandbox_dir::RunFile;
use msb_types::SandboxConfig;
use tokio::net::{UnixListener, UnixStream};

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

    // Until the machine runs there is nothing else to do, so all of this may block.
    let begun = match begin(&launch) {
        Ok(begun) => begun,
        Err(error) => {
            let _ = writer.send(&Notice::NotLaunched(error)).await;
            return Ok(ExitCode::FAILURE);
        }
    };
    match Run::start(launch, begun).await {
        Ok(run) => {
            // If the creator is gone, the run finds that out.
            let _ = writer.send(&Notice::Prepared).await;
            run.until_ended(reader, writer).await;
            Ok(ExitCode::SUCCESS)
        }
        Err(error) => {
            let _ = writer
                .send(&Notice::NotLaunched(LaunchError::Boot(error)))
                .await;
            Ok(ExitCode::FAILURE)
        }
    }
}

/// A sandbox that is written down as starting, under our lock.
#[derive(Debug)]
pub(crate) struct Begun {
    owned: Owned,
    config: SandboxConfig,
    run: RunFile,
    /// Nothing is to be left of it if it does not come up.
    new: bool,
    /// Bound before anybody can read that the sandbox is active: so whoever does finds it there.
    control: UnixListener,
}

impl Begun {
    /// Undoes it: the sandbox did not come up.
    fn undo(mut self, error: &mut BootError) {
        let undone = if self.new {
            self.owned.remove_record()
        } else {
            self.owned.end(&mut self.run, &run::boot_end(error, None))
        };
        if let Err(source) = undone {
            error
                .message
                .push_str(&format!(" (and that could not be written down: {source})"));
        }
        if let Err(source) = self.owned.lock.remove() {
            error.message.push_str(&format!(
                " (and the run directory could not be removed: {source})"
            ));
        }
    }
}

/// Takes the lock, and writes down that the sandbox starts.
fn begin(launch: &Launch) -> Result<Begun, LaunchError> {
    let name = launch.what.name();
    // The caller checks it too; here it becomes part of a path.
    msb_types::validate_sandbox_name(name)
        .map_err(|error| LaunchError::Config(error.to_string()))?;
    let dir = RunDir::of(&launch.home, name);
    let lock = dir.lock().map_err(|error| match error {
        RunDirError::Held => match launch.what {
            LaunchKind::Create(_) => LaunchError::Exists,
            LaunchKind::Start(_) => LaunchError::Running,
        },
        error => LaunchError::Boot(launch::rundir_error(&error)),
    })?;
    let run = RunFile {
        id: random(),
        pid: std::process::id(),
        started_at: Utc::now(),
        ended: None,
        isolation: Default::default(),
    };
    let control = match bind_control(&lock) {
        Ok(control) => control,
        Err(error) => {
            let _ = lock.remove();
            return Err(LaunchError::Boot(error));
        }
    };
    let (lock, begun) = match Registry::open(&launch.home) {
        Ok(registry) => {
            let owned = registry.own(lock, name.to_owned());
            let (config, new) = match &launch.what {
                LaunchKind::Create(config) => {
                    // Its image may not go before the sandbox exists, which names it.
                    let mut held = None;
                    let created = owned.create_with(config, &run, |dir: &Path| {
                        held = root::prepare(launch, config, dir)?;
                        Ok(())
                    });
                    drop(held);
                    (created.map(|()| (**config).clone()), true)
                }
                LaunchKind::Start(_) => (owned.start(&run), false),
            };
            match config {
                Ok(config) => {
                    return Ok(Begun {
                        owned,
                        config,
                        run,
                        new,
                        control,
                    });
                }
                Err(error) => (owned.lock, error),
            }
        }
        Err(error) => (lock, LaunchError::Home(error.into())),
    };
    // Should this fail too, the next sweep removes it.
    let _ = lock.remove();
    Err(begun)
}

fn bind_control(lock: &LockedRunDir) -> Result<UnixListener, BootError> {
    let host = |what: &str, error: &std::io::Error| host_error(BootStage::Supervisor, what, error);
    lock.clear()
        .map_err(|error| host("cannot clear the run directory", &error))?;
    UnixListener::bind(lock.dir().control_socket())
        .map_err(|error| host("cannot make control.sock", &error))
}

/// A number that no other run has.
fn random() -> u64 {
    let mut bytes = [0; 8];
    let filled = rustix::rand::getrandom(&mut bytes, rustix::rand::GetRandomFlags::empty());
    match filled {
        Ok(_) => u64::from_ne_bytes(bytes),
        // Kernels without it are older than KVM's interface that we need.
        Err(_) => msb_runtime::clock::monotonic_ns(),
    }
}

/// A failure of the host, with its chain, at `stage`.
fn host_error(stage: BootStage, what: &str, source: &std::io::Error) -> BootError {
    BootError::new(stage, BootErrorKind::Host, format!("{what}: {source}"))
}
