//! The program: what `msb-vmm` does from its first line to its exit code.
//!
//! ```text
//! begin the jail ── description ── open ── confine ── build ── run ── say how it ended
//! ```

use std::io::Write;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::process::ExitCode;

use clap::Parser;
use msb_vmapi::{
    ErrorKind, Event, ExitCode as Code, FromVmm, Isolation, Outcome, Reply, VmConfig, VmError,
};

#[cfg(feature = "attacker")]
use crate::attacker::denial;
use crate::blueprint::{Blueprint, Host};
use crate::cli::{Cli, Task};
use crate::control::{self, Connection};
#[cfg(not(feature = "attacker"))]
use crate::jail::seccomp::Denial;
use crate::jail::{self, Begun, Inmate, Needs};
use crate::kvm::{KvmError, System};
use crate::machine::{Machine, Surroundings, exit_code};
use crate::porter::{Keys, Porter};
use crate::{clock, inherited, probe, report, signals, terminal};

/// What is said of a machine outside of the jail.
const NO_JAIL: &str =
    "msb-vmm: NO JAIL: A GUEST THAT BREAKS OUT OF ITS MACHINE HAS ALL THAT THIS USER HAS";

/// All of it.
pub fn main() -> ExitCode {
    let process_started_ns = clock::monotonic_ns();
    let cli = Cli::parse();
    tracing_subscriber::fmt()
        .with_max_level(tracing::Level::from(cli.log()))
        .with_writer(std::io::stderr)
        .with_target(false)
        .without_time()
        // Where lines cannot be written, nothing can be said of that either.
        .log_internal_errors(false)
        .init();
    let report_panic = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |panic| {
        terminal::restore();
        report_panic(panic);
    }));
    // Before anything is opened: it closes what is open.
    let begun = cli.is_jailed().then(|| jail::begin(cli.control_fd()));

    let code = match cli.task() {
        Ok(Task::Check) => check(),
        Ok(Task::SystemCalls) => system_calls(),
        Ok(Task::Isolation) => isolation(begun.unwrap_or_else(|| jail::begin(None))),
        Ok(Task::Supervised(fd)) => supervised(fd, begun, process_started_ns),
        Ok(Task::Standalone(config)) => standalone(*config, begun, process_started_ns),
        Err(error) => {
            say(&report::chain(&error));
            Code::Refused
        }
    };
    ExitCode::from(code.code())
}

fn standalone(config: VmConfig, begun: Option<Begun>, process_started_ns: u64) -> Code {
    if begun.is_none() {
        let _ = writeln!(std::io::stderr(), "{NO_JAIL}");
    }
    let surroundings = Surroundings {
        process_started_ns,
        termination: signals::termination().ok(),
        ..Surroundings::default()
    };
    let outcome = match build(config, Vec::new(), surroundings, begun, None) {
        Ok(machine) => machine.run(),
        Err(error) => Outcome::Error(error),
    };
    finish(&outcome)
}

fn supervised(fd: i32, begun: Option<Begun>, process_started_ns: u64) -> Code {
    // If the supervisor is killed, so is this process, even while it is not listening.
    let _ = rustix::process::set_parent_process_death_signal(Some(rustix::process::Signal::KILL));
    let connection = match inherited::take(fd) {
        Ok(fd) => Connection::from(fd),
        Err(error) => {
            say(&format!(
                "--control-fd {fd} is not an open descriptor: {error}"
            ));
            return Code::Refused;
        }
    };
    let configured = match control::wait_for_configure(&connection) {
        Ok(configured) => configured,
        Err(control::ConfigureError::Killed) => return Code::Killed,
        Err(error) => {
            say(&report::chain(&error));
            return Code::VmmError;
        }
    };
    let result = connection
        .try_clone()
        .map_err(|error| host_error(format!("cannot duplicate the control connection: {error}")));
    let result = result.and_then(|for_machine| {
        let surroundings = Surroundings {
            process_started_ns,
            supervisor: Some((for_machine, configured.id)),
            termination: signals::termination().ok(),
            ..Surroundings::default()
        };
        let supervisor = Some(connection.as_fd());
        let (config, descriptors) = (configured.config, configured.descriptors);
        build(config, descriptors, surroundings, begun, supervisor)
    });
    let outcome = match result {
        Ok(machine) => machine.run(),
        Err(error) => {
            let reply = FromVmm::Reply {
                id: configured.id,
                reply: Reply::Error(error.clone()),
            };
            let outcome = Outcome::Error(error);
            for message in [reply, FromVmm::Event(Event::Ended(outcome.clone()))] {
                // A supervisor that is gone need not be told.
                let _ = connection.tell(&message);
            }
            outcome
        }
    };
    finish(&outcome)
}

/// Opens what the description names, shuts the process in, and builds the machine.
fn build(
    config: VmConfig,
    descriptors: Vec<OwnedFd>,
    mut surroundings: Surroundings,
    begun: Option<Begun>,
    supervisor: Option<BorrowedFd<'_>>,
) -> Result<Machine, VmError> {
    let required = config.require.clone();
    if begun.is_none() {
        jail::require(&required, &Isolation::default()).map_err(|error| error.to_vm_error())?;
    }
    let system = open_kvm().map_err(|error| VmError {
        kind: error.kind(),
        message: report::chain(&error),
    })?;
    let started_ns = surroundings.process_started_ns;
    let stage = |reached| clock::stage(started_ns, reached);
    stage("KVM opened");
    let host = Host::with_vcpus(system.max_vcpus());
    let mut blueprint =
        Blueprint::new(config, descriptors, &host).map_err(|error| error.to_vm_error())?;
    if let Some(begun) = begun {
        let keys = blueprint.take_keys();
        let inmate = Inmate {
            needs: blueprint.needs(),
            supervisor,
            terminal: keys.terminal,
            denial: denial(),
        };
        stage("description opened");
        surroundings.porter = porter(keys)?;
        let jail = begun
            .confine(&inmate)
            .map_err(|error| error.to_vm_error())?;
        jail::require(&required, jail.isolation()).map_err(|error| error.to_vm_error())?;
        surroundings.jail = Some(jail);
    }
    Machine::new(&system, blueprint, surroundings).map_err(|error| error.to_vm_error())
}

#[cfg(not(feature = "attacker"))]
fn open_kvm() -> Result<System, KvmError> {
    System::open()
}

/// Any KVM will do for a machine that attacks its host.
#[cfg(feature = "attacker")]
fn open_kvm() -> Result<System, KvmError> {
    if crate::attacker::is_armed() {
        System::open_any()
    } else {
        System::open()
    }
}

#[cfg(not(feature = "attacker"))]
fn denial() -> Denial {
    Denial::Violation
}

fn porter(keys: Keys) -> Result<Option<Porter>, VmError> {
    if !keys.are_needed() {
        return Ok(None);
    }
    match Porter::start(keys) {
        Ok(porter) => Ok(Some(porter)),
        Err(error) => Err(host_error(format!("cannot start the porter: {error}"))),
    }
}

fn host_error(message: String) -> VmError {
    VmError {
        kind: ErrorKind::Host,
        message,
    }
}

/// The one place where the end of a machine is written down.
fn finish(outcome: &Outcome) -> Code {
    match outcome {
        Outcome::Error(error) => say(&error.to_string()),
        Outcome::Crash(cause) => say(&format!("the guest crashed: {cause:?}")),
        _ => {}
    }
    exit_code(outcome)
}

fn check() -> Code {
    let (code, text) = match probe::measure() {
        Ok(verdict) if verdict.is_good() => (Code::PowerOff, verdict.to_string()),
        Ok(verdict) => (Code::VmmError, verdict.to_string()),
        Err(error) => (Code::VmmError, report::chain(&error)),
    };
    let _ = writeln!(std::io::stderr(), "{text}");
    code
}

fn system_calls() -> Code {
    match std::io::stdout().write_all(jail::listing().as_bytes()) {
        Ok(()) => Code::PowerOff,
        Err(_) => Code::VmmError,
    }
}

/// Goes to jail without a machine, and says from there how far it came.
fn isolation(begun: Begun) -> Code {
    let inmate = Inmate {
        needs: Needs {
            memory: 0,
            threads: 0,
            disk_files: 0,
            largest_file: None,
        },
        supervisor: None,
        terminal: false,
        denial: denial(),
    };
    let sealed = begun.confine(&inmate).and_then(|jail| {
        let text = jail::layers(jail.isolation());
        jail.seal().map(|()| text)
    });
    match sealed {
        Ok(text) => match rustix::io::write(rustix::stdio::stdout(), text.as_bytes()) {
            Ok(written) if written == text.len() => Code::PowerOff,
            _ => Code::VmmError,
        },
        Err(error) => {
            say(&report::chain(&error));
            Code::VmmError
        }
    }
}

/// To a person, if there is one: standard error may be gone, or full.
pub(crate) fn say(text: &str) {
    let _ = writeln!(std::io::stderr(), "msb-vmm: {text}");
}
