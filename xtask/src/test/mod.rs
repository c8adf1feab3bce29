//! `cargo xtask test`: everything that must hold, from formatting to sandboxes on real KVM.
//!
//! The first part needs no KVM. The second is the end-to-end tests: on the host itself where it has
//! KVM, elsewhere in nested machines side by side (`machines`).

mod checks;
pub(crate) mod files;
mod machines;
pub(crate) mod registry;
pub(crate) mod suite;

use std::process::ExitCode;
use std::time::Duration;

use anyhow::Result;
use clap::Args;

use crate::setup;

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
    machines::run(&options.names, Duration::from_secs(options.timeout))
}

/// Unit and property tests of everything but the end-to-end package.
fn unit(names: &[String]) -> Result<()> {
    let cargo = |args: &[&str]| {
        let mut command = crate::cargo::command();
        command.args(args);
        command
    };
    let packages = ["--workspace", "--exclude", "msb-tests"];
    // A build of its own: nothing else is to be built with this.
    let attacker = [
        "-p",
        "msb-vmm",
        "--features",
        "attacker",
        "--test",
        "attacker",
    ];
    if crate::proc::on_path("cargo-nextest") {
        let mut command = cargo(&["nextest", "run", "--no-tests=pass"]);
        crate::proc::run(command.args(packages).args(names))?;
        let mut command = cargo(&["nextest", "run", "--no-tests=pass"]);
        crate::proc::run(command.args(attacker).args(names))?;
        if names.is_empty() {
            crate::proc::run(cargo(&["test", "--quiet", "--doc"]).args(packages))?;
        }
    } else {
        crate::proc::run(cargo(&["test"]).args(packages).arg("--").args(names))?;
        crate::proc::run(cargo(&["test"]).args(attacker).arg("--").args(names))?;
    }
    Ok(())
}
