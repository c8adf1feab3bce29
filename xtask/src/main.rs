//! The project's own tool: `cargo xtask SUBCOMMAND`.
//!
//! It sets up a host, builds what a sandbox boots, finds or makes a real KVM, and runs the tests,
//! the demo and the benchmarks there. It depends on none of the project's crates: it builds them
//! with cargo and runs what comes out.
#![allow(
    clippy::print_stdout,
    reason = "a command-line tool talks on standard output"
)]

mod apt;
mod bench;
mod cache;
mod cargo;
mod cpio;
mod demo;
mod doctor;
mod fuzz;
mod guest;
mod install;
mod kvm;
mod paths;
mod proc;
mod product;
mod progress;
mod setup;
mod soak;
mod sys;
mod test;
mod tidy;

use std::ffi::OsString;
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Result;
use clap::{Parser, Subcommand};

#[derive(Debug, Parser)]
#[command(
    name = "xtask",
    bin_name = "cargo xtask",
    about,
    arg_required_else_help = true
)]
struct Cli {
    #[command(subcommand)]
    task: Task,
}

#[derive(Debug, Subcommand)]
enum Task {
    /// Install the Debian packages that are missing
    Setup,
    /// Build the guest's kernel and initramfs, and print where they are
    Guest(guest::Options),
    /// Run a command where /dev/kvm is real: here, or in a nested machine
    Kvm {
        #[command(flatten)]
        options: kvm::Options,
        /// The command and its arguments
        #[arg(required = true, trailing_var_arg = true, value_name = "CMD")]
        command: Vec<OsString>,
    },
    /// Say what this host can do, and what to do about what it cannot
    Doctor,
    /// Run the demo: a sandbox, from nothing
    Demo(demo::Options),
    /// Run the checks, the unit tests and the end-to-end tests
    Test(test::Options),
    /// Check the rules that no compiler checks
    Tidy,
    /// Measure
    Bench(bench::Options),
    /// Run a long test that looks for what builds up
    Soak(soak::Options),
    /// Fuzz one target
    Fuzz(fuzz::Options),
    /// Install programs, kernel and initramfs where the library finds them
    Install(install::Options),
    #[command(hide = true)]
    KvmRunner,
    #[command(hide = true)]
    BenchBoot(bench::boot::Inside),
    #[command(hide = true)]
    BenchExec(bench::exec::Inside),
    #[command(hide = true)]
    BenchImage(bench::image::machines::Inside),
    #[command(hide = true)]
    BenchJail(bench::jail::Inside),
    #[command(hide = true)]
    BenchLifecycle(bench::lifecycle::Inside),
    #[command(hide = true)]
    RunSuite {
        #[arg(long)]
        part: test::suite::Part,
        #[arg(required = true)]
        binaries: Vec<PathBuf>,
        #[arg(last = true)]
        names: Vec<OsString>,
    },
}

fn main() -> ExitCode {
    match run(Cli::parse().task) {
        Ok(code) => code,
        Err(error) => {
            eprintln!("xtask: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(task: Task) -> Result<ExitCode> {
    // Those that carry a command's output have to tell the command when nobody reads it any more.
    if matches!(
        task,
        Task::Doctor | Task::Guest(_) | Task::Tidy | Task::Install(_) | Task::Setup
    ) {
        sys::die_of_closed_output();
    }
    match task {
        Task::Setup => setup::run().map(|()| ExitCode::SUCCESS),
        Task::Guest(options) => guest::main(&options).map(|()| ExitCode::SUCCESS),
        Task::Kvm { options, command } => kvm::main(&options, command),
        Task::Doctor => Ok(doctor::main()),
        Task::Demo(options) => demo::main(&options),
        Task::Test(options) => test::main(&options),
        Task::Tidy => tidy::main().map(|()| ExitCode::SUCCESS),
        Task::Bench(options) => bench::main(&options),
        Task::BenchBoot(inside) => inside.run(),
        Task::BenchExec(inside) => inside.run(),
        Task::BenchImage(inside) => inside.run(),
        Task::BenchJail(inside) => inside.run(),
        Task::BenchLifecycle(inside) => inside.run(),
        Task::Soak(options) => soak::main(&options),
        Task::Fuzz(options) => fuzz::main(&options),
        Task::Install(options) => install::main(&options).map(|()| ExitCode::SUCCESS),
        Task::KvmRunner => kvm::runner::main().map(|()| ExitCode::SUCCESS),
        Task::RunSuite {
            part,
            binaries,
            names,
        } => test::suite::main(part, &binaries, &names),
    }
}
