//! `msb-vmm`: runs one virtual machine, and ends with it.

use std::process::ExitCode;

use clap::Parser;
use msb_vmapi::{Event, ExitCode as Code, FromVmm, Outcome, Reply, VmConfig, VmError};
use msb_vmm::blueprint::{Blueprint, Host};
use msb_vmm::cli::{Cli, Task};
use msb_vmm::control::{self, Connection};
use msb_vmm::kvm::System;
use msb_vmm::machine::{Machine, Surroundings, exit_code};
use msb_vmm::{clock, inherited, probe, report, signals, terminal};

fn main() -> ExitCode {
    let process_started_ns = clock::monotonic_ns();
    let cli = Cli::parse();
    tracing_subscriber::fmt()
        .with_max_level(tracing::Level::from(cli.log()))
        .with_writer(std::io::stderr)
        .with_target(false)
        .without_time()
        .init();
    let report_panic = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |panic| {
        terminal::restore();
        report_panic(panic);
    }));

    let code = match cli.task() {
        Ok(Task::Check) => check(),
        Ok(Task::Supervised(fd)) => supervised(fd, process_started_ns),
        Ok(Task::Standalone(config)) => standalone(*config, process_started_ns),
        Err(error) => {
            eprintln!("msb-vmm: {}", report::chain(&error));
            Code::Refused
        }
    };
    ExitCode::from(code.code())
}

fn standalone(config: VmConfig, process_started_ns: u64) -> Code {
    let surroundings = Surroundings {
        process_started_ns,
        supervisor: None,
        termination: signals::termination().ok(),
    };
    let outcome = match build(config, Vec::new(), surroundings) {
        Ok(machine) => machine.run(),
        Err(error) => Outcome::Error(error),
    };
    finish(&outcome)
}

fn supervised(fd: i32, process_started_ns: u64) -> Code {
    // If the supervisor is killed, so is this process, even while it is not listening.
    let _ = rustix::process::set_parent_process_death_signal(Some(rustix::process::Signal::KILL));
    let connection = match inherited::take(fd) {
        Ok(fd) => Connection::from(fd),
        Err(error) => {
            eprintln!("msb-vmm: --control-fd {fd} is not an open descriptor: {error}");
            return Code::Refused;
        }
    };
    let configured = match control::wait_for_configure(&connection) {
        Ok(configured) => configured,
        Err(control::ConfigureError::Killed) => return Code::Killed,
        Err(error) => {
            eprintln!("msb-vmm: {}", report::chain(&error));
            return Code::VmmError;
        }
    };
    let result = connection.try_clone().map_err(|error| VmError {
        kind: msb_vmapi::ErrorKind::Host,
        message: format!("cannot duplicate the control connection: {error}"),
    });
    let result = result.and_then(|for_machine| {
        let surroundings = Surroundings {
            process_started_ns,
            supervisor: Some((for_machine, configured.id)),
            termination: signals::termination().ok(),
        };
        build(configured.config, configured.descriptors, surroundings)
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

fn build(
    config: VmConfig,
    descriptors: Vec<std::os::fd::OwnedFd>,
    surroundings: Surroundings,
) -> Result<Machine, VmError> {
    let system = System::open().map_err(|error| VmError {
        kind: error.kind(),
        message: report::chain(&error),
    })?;
    clock::stage(surroundings.process_started_ns, "KVM opened");
    let host = Host::with_vcpus(system.max_vcpus());
    let blueprint =
        Blueprint::new(config, descriptors, &host).map_err(|error| error.to_vm_error())?;
    Machine::new(&system, blueprint, surroundings).map_err(|error| error.to_vm_error())
}

/// The one place where the end of a machine is written down.
fn finish(outcome: &Outcome) -> Code {
    match outcome {
        Outcome::Error(error) => eprintln!("msb-vmm: {error}"),
        Outcome::Crash(cause) => eprintln!("msb-vmm: the guest crashed: {cause:?}"),
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
    eprintln!("{text}");
    code
}
