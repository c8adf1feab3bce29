//! `cargo xtask test`: everything that must hold, from formatting to sandboxes on real KVM.
//!
//! The first part needs no KVM. The second boots the nested machine once (where the host has no KVM
//! of its own) and runs every end-to-end test binary in it.

mod checks;
pub(crate) mod suite;

use std::ffi::OsString;
use std::process::{Command, ExitCode};
use std::time::Duration;

use anyhow::{Context, Result};
use clap::Args;

use crate::cargo::{self, Executable};
use crate::kvm::{self, Call, Outcome};
use crate::product::Product;
use crate::{paths, setup};

/// Options of `test`. Without any, everything runs.
#[derive(Debug, Args)]
pub(crate) struct Options {
    /// Only what needs no KVM: formatting, lints, rules, unit and property tests
    #[arg(long)]
    unit: bool,
    /// Only the end-to-end tests
    #[arg(long, conflicts_with = "unit")]
    e2e: bool,
    /// End the end-to-end tests after so many seconds
    #[arg(long, value_name = "SECS", default_value_t = 3600)]
    timeout: u64,
    /// Only tests whose name contains one of these; formatting, lints and rules are left out
    #[arg(value_name = "NAME")]
    names: Vec<String>,
}

/// Runs what was asked for. Every part runs in order, and the first that fails ends it.
pub(crate) fn main(options: &Options) -> Result<ExitCode> {
    setup::run()?;
    if !options.e2e {
        if options.names.is_empty() {
            checks::all()?;
        }
        unit(&options.names)?;
    }
    if options.unit {
        return Ok(ExitCode::SUCCESS);
    }
    end_to_end(&options.names, Duration::from_secs(options.timeout))
}

/// Unit and property tests of everything but the end-to-end package.
fn unit(names: &[String]) -> Result<()> {
    let cargo = |args: &[&str]| {
        let mut command = Command::new(paths::cargo());
        command.current_dir(paths::workspace()).args(args);
        command
    };
    let packages = ["--workspace", "--exclude", "msb-tests"];
    if crate::proc::on_path("cargo-nextest") {
        let mut command = cargo(&["nextest", "run", "--no-tests=pass"]);
        crate::proc::run(command.args(packages).args(names))?;
        if names.is_empty() {
            crate::proc::run(cargo(&["test", "--quiet", "--doc"]).args(packages))?;
        }
    } else {
        crate::proc::run(cargo(&["test"]).args(packages).arg("--").args(names))?;
    }
    Ok(())
}

/// The end-to-end tests, in one machine.
fn end_to_end(names: &[String], timeout: Duration) -> Result<ExitCode> {
    let product = Product::build()?;
    let tests = cargo::end_to_end_tests()?;

    let options = kvm::Options::with_timeout(timeout);
    let mut call = Call::here(suite_command(&options, &tests, names)?)?;
    call.cwd = paths::workspace().join("tests").into_os_string();
    product.show_to(&mut call)?;
    let outcome = match kvm::run(&options, call.clone()) {
        Err(error) if kvm::is_machine_crash(&error) => {
            // The emulator's fault, not the code's: see kvm/steady.rs. Said aloud, tried once more.
            eprintln!("xtask test: the nested machine's own kernel crashed; once more\n{error:#}");
            kvm::run(&options, call)
        }
        other => other,
    }
    .context("the end-to-end tests could not run")?;
    if let Outcome::TimedOut(_) = outcome {
        eprintln!("xtask test: the end-to-end tests took too long");
    }
    Ok(outcome.into_exit_code())
}

/// Ourselves again, inside: `run-suite BINARY... -- NAME...`.
fn suite_command(
    options: &kvm::Options,
    tests: &[Executable],
    names: &[String],
) -> Result<Vec<OsString>> {
    let mut argv = vec![
        kvm::own_program(options)?.into_os_string(),
        "run-suite".into(),
    ];
    argv.extend(tests.iter().map(|test| test.path.clone().into_os_string()));
    argv.push("--".into());
    argv.extend(names.iter().map(OsString::from));
    Ok(argv)
}
