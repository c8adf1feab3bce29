//! `cargo xtask bench exec`: how long a command in a sandbox takes, and how fast its input and output
//! are, beside ssh into the same guest over the same vsock.
//!
//! `msb-test-exec-bench` measures, a program of the library. Two ways of using ssh are measured,
//! since both are fair: a new connection for each command, as a person types it, and one connection
//! that all commands share (ControlMaster), which spares them the cryptographic greeting. Input and
//! output go over the shared one.

use std::fs;
use std::path::PathBuf;
use std::process::{Command, ExitCode};

use anyhow::{Context, Result, anyhow};
use clap::Args;
use serde_json::json;

use super::figures::{Figure, Measured, tell};
use super::program::Running;
use crate::guest::debian;
use crate::kvm::{self, Call};
use crate::product::Product;
use crate::{cargo, paths, setup};

/// The program that measures.
const PROGRAM: &str = "msb-test-exec-bench";
/// ssh and ssh-keygen.
const NEEDED: [&str; 1] = ["openssh-client"];

/// What is told, in this order.
const FIGURES: [Figure; 10] = [
    Figure::Measured("ping_ms"),
    Figure::Measured("spawn_ms"),
    Figure::Measured("ssh_spawn_ms"),
    Figure::Ratio("spawn_ratio", "spawn_ms", "ssh_spawn_ms"),
    Figure::Measured("stdout_mib_s"),
    Figure::Measured("ssh_stdout_mib_s"),
    Figure::Measured("stdin_mib_s"),
    Figure::Measured("ssh_stdin_mib_s"),
    Figure::Measured("mux_spawn_ms"),
    Figure::Ratio("spawn_ratio_mux", "spawn_ms", "mux_spawn_ms"),
];

/// Options of `bench exec`.
#[derive(Debug, Args)]
pub(crate) struct Options {
    /// How many commands are started in each way
    #[arg(long, value_name = "N", default_value_t = 20,
          value_parser = clap::value_parser!(u32).range(1..=1000))]
    rounds: u32,
}

/// Builds the product, the guest and the program, then measures where KVM is real.
pub(crate) fn main(options: &Options) -> Result<ExitCode> {
    setup::run_with(&NEEDED)?;
    let product = Product::build()?;
    let debian = debian::build()?;
    let program = cargo::test_program(PROGRAM)?;
    let dir = paths::target().join("bench");
    fs::create_dir_all(&dir)?;

    let machine = kvm::Options::for_bench(false);
    let mut call = Call::here(vec![
        kvm::own_program(&machine)?.into_os_string(),
        "bench-exec".into(),
        "--program".into(),
        program.into_os_string(),
        "--report".into(),
        dir.join("exec.json").into_os_string(),
        "--rounds".into(),
        options.rounds.to_string().into(),
    ])?;
    call.cwd = paths::workspace().into_os_string();
    product.show_to(&mut call)?;
    call.set(debian::VARIABLE, debian);
    Ok(kvm::run(&machine, call)?.into_exit_code())
}

/// The part that runs where KVM is real.
#[derive(Debug, Args)]
pub(crate) struct Inside {
    #[arg(long)]
    program: PathBuf,
    #[arg(long)]
    report: PathBuf,
    #[arg(long)]
    rounds: u32,
}

impl Inside {
    /// Measures, writes the report, and ends with the line that says it all.
    pub(crate) fn run(&self) -> Result<ExitCode> {
        let home = tempfile::tempdir().context("cannot make a temporary directory")?;
        let mut command = Command::new(&self.program);
        command.args(["measure", &self.rounds.to_string()]);
        // A catalog that is in use elsewhere must not take part.
        command.env("MSB_HOME", home.path());
        let measured = Running::start(command)?.measured(1)?;
        let report = json!({ "rounds": self.rounds, "all": measured });
        tell("exec", figures(&measured)?, 2, report, &self.report)?;
        Ok(ExitCode::SUCCESS)
    }
}

/// The numbers of the result, with their names: all of them.
fn figures(measured: &Measured) -> Result<Vec<(&'static str, f64)>> {
    let figure = |figure: &Figure| {
        let missing = |what| anyhow!("the program did not measure {what}");
        figure.of(measured).map_err(missing)
    };
    FIGURES.iter().map(figure).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ratios_are_of_medians_and_nothing_is_left_out() {
        let mut measured = Measured::new();
        for figure in &FIGURES {
            if let Figure::Measured(what) = figure {
                measured.insert((*what).to_owned(), vec![4.0]);
            }
        }
        measured.insert("ssh_spawn_ms".to_owned(), vec![7.0, 8.0, 9.0]);
        let found = figures(&measured).unwrap();
        assert_eq!(found.len(), FIGURES.len());
        assert!(found.contains(&("spawn_ratio", 0.5)));
        assert!(found.contains(&("spawn_ratio_mux", 1.0)));
        measured.remove("stdin_mib_s");
        assert!(figures(&measured).is_err());
    }
}
