//! `cargo xtask kvm -- CMD...`: runs any command where /dev/kvm is real.
//!
//! On a host with hardware virtualization that is here, and the command is simply run. Elsewhere it
//! is inside the *nested machine*: QEMU emulates a processor that has virtualization, a stock Debian
//! kernel in it loads KVM, and the host's root is its root, by virtiofs. What was compiled outside
//! runs inside, in place.
//!
//! Either way the caller sees the command's own output, exit code and signals.

mod direct;
mod emulator;
pub(crate) mod frame;
mod hidden;
mod image;
mod machine;
pub(crate) mod probe;
pub(crate) mod runner;
mod session;
mod signals;
mod steady;

use std::ffi::OsString;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context, Result};
use clap::Args;

pub(crate) use frame::Call;
pub(crate) use machine::find_virtiofsd;
pub(crate) use session::Streams;

/// Options of `kvm`.
#[derive(Debug, Clone, Args)]
pub(crate) struct Options {
    /// End the command (and the machine around it) after so many seconds, with exit code 124
    #[arg(long, value_name = "SECS", default_value_t = 3600,
          value_parser = clap::value_parser!(u64).range(1..=86_400 * 7))]
    timeout: u64,
    /// Memory of the nested machine, in MiB [default: 8192, or two thirds of what the host has free]
    #[arg(long, value_name = "MIB", value_parser = clap::value_parser!(u64).range(512..=1 << 20))]
    memory: Option<u64>,
    /// Processors of the nested machine (guests in one with several may die at random: see
    /// docs/hacking.md)
    #[arg(long, value_name = "N", default_value_t = 1,
          value_parser = clap::value_parser!(u32).range(1..=64))]
    cpus: u32,
    /// Use the nested machine even where the host's own KVM is good
    #[arg(long)]
    nested: bool,
    /// Show the nested machine's console on standard error
    #[arg(long)]
    console: bool,
    /// Let the nested machine's clock count instructions (one is one nanosecond), on one processor:
    /// slow, and the same whatever else the host does
    #[arg(long)]
    counted: bool,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            timeout: 3600,
            memory: None,
            cpus: 1,
            nested: false,
            console: false,
            counted: false,
        }
    }
}

impl Options {
    /// The usual machine with another deadline.
    pub(crate) fn with_timeout(timeout: Duration) -> Self {
        Self {
            timeout: timeout.as_secs().max(1),
            ..Self::default()
        }
    }

    /// A machine to measure in.
    pub(crate) fn for_bench(counted: bool) -> Self {
        Self {
            counted,
            ..Self::default()
        }
    }

    /// One of several machines that share the host.
    pub(crate) fn one_of(self, machines: usize) -> Result<Self> {
        let memory = machine::default_memory_mib(machines)?;
        Ok(Self {
            memory: Some(memory),
            ..self
        })
    }

    fn timeout(&self) -> Duration {
        Duration::from_secs(self.timeout)
    }
}

/// How the command ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// By itself, with this code.
    Exited(u8),
    /// By a signal.
    Killed(i32),
    /// It could not be started: 127 when it was not found, 126 otherwise, as a shell has it.
    NotStarted(u8, String),
    /// By the deadline.
    TimedOut(Duration),
}

impl Outcome {
    /// Ends as the command ended: with its exit code, or by the signal that ended it.
    pub(crate) fn into_exit_code(self) -> ExitCode {
        match self {
            Self::Exited(code) => ExitCode::from(code),
            Self::Killed(signal) => die_of(signal),
            Self::NotStarted(code, why) => {
                eprintln!("xtask kvm: {why}");
                ExitCode::from(code)
            }
            Self::TimedOut(limit) => {
                eprintln!(
                    "xtask kvm: the deadline of {} s has passed; the command was ended \
                     (give --timeout SECS for more)",
                    limit.as_secs()
                );
                ExitCode::from(124)
            }
        }
    }

    fn not_started(call: &Call, error: &std::io::Error) -> Self {
        let program = call.argv.first().cloned().unwrap_or_default();
        let code = if error.kind() == std::io::ErrorKind::NotFound {
            127
        } else {
            126
        };
        Self::NotStarted(code, format!("cannot start {}: {error}", program.display()))
    }
}

/// Dies of the signal, so that whoever waits for us sees what it would have seen of the command.
fn die_of(signal: i32) -> ExitCode {
    // No core of ours: the command has written its own.
    let none = rustix::process::Rlimit {
        current: Some(0),
        maximum: Some(0),
    };
    let _ = rustix::process::setrlimit(rustix::process::Resource::Core, none);
    let _ = signal_hook::low_level::emulate_default_handler(signal);
    if let Some(signal) = rustix::process::Signal::from_named_raw(signal) {
        let _ = rustix::process::kill_process(rustix::process::getpid(), signal);
    }
    // A signal that does not end us: say it as a shell would.
    ExitCode::from(u8::try_from(128 + signal).unwrap_or(255))
}

/// Runs the subcommand.
pub(crate) fn main(options: &Options, argv: Vec<OsString>) -> Result<ExitCode> {
    Ok(run(options, Call::here(argv)?)?.into_exit_code())
}

/// Runs a command where KVM is real.
pub(crate) fn run(options: &Options, call: Call) -> Result<Outcome> {
    if is_direct(options) {
        direct::run(&call, options.timeout())
    } else {
        session::run(options, call, Streams::inherited()?)
    }
}

/// Whether commands run on the host itself, by its own KVM.
pub(crate) fn is_direct(options: &Options) -> bool {
    !options.nested && probe::probe().is_good()
}

/// Runs a command in a nested machine of its own, its streams led elsewhere.
pub(crate) fn run_nested(options: &Options, call: Call, streams: Streams) -> Result<Outcome> {
    session::run(options, call, streams)
}

impl Call {
    /// A command with our own environment and working directory.
    pub(crate) fn here(argv: Vec<OsString>) -> Result<Self> {
        let cwd = std::env::current_dir().context("the working directory is gone")?;
        Ok(Self {
            argv,
            env: std::env::vars_os().collect(),
            cwd: cwd.into_os_string(),
        })
    }

    /// Sets a variable of the command's environment.
    pub(crate) fn set(&mut self, name: &str, value: impl Into<OsString>) {
        self.env.retain(|(other, _)| other != name);
        self.env.push((name.into(), value.into()));
    }

    /// The command, ready to be started; its standard streams are the caller's to set.
    fn command(&self) -> std::process::Command {
        let empty = OsString::new();
        let (program, args) = self.argv.split_first().unwrap_or((&empty, &[]));
        let mut command = std::process::Command::new(program);
        command
            .args(args)
            .env_clear()
            .envs(self.env.iter().cloned())
            .current_dir(&self.cwd);
        command
    }
}

/// Where a command that runs there finds this very program.
pub(crate) fn own_program(options: &Options) -> Result<std::path::PathBuf> {
    if is_direct(options) {
        std::env::current_exe().context("cannot find our own program")
    } else {
        Ok(std::path::PathBuf::from(runner::OWN_PROGRAM))
    }
}

/// Whether an error of [`run`] is a crash of the nested machine's own kernel.
pub(crate) fn is_machine_crash(error: &anyhow::Error) -> bool {
    error.to_string().contains("Kernel panic")
}
