//! The project's own tool: `cargo xtask SUBCOMMAND`.
//!
//! It sets up a host, builds what a sandbox boots, finds or makes a real KVM, and runs the tests,
//! the demo and the benchmarks there. It depends on none of the project's crates: it builds them
//! with cargo and runs what comes out.
#![allow(clippy::print_stdout, reason = "a command-line tool talks on standard output")]

mod apt;
mod cache;
mod cargo;
mod cpio;
mod guest;
mod kvm;
mod paths;
mod proc;
mod progress;
mod sys;

use std::ffi::OsString;
use std::process::ExitCode;

use anyhow::Result;
use clap::{Parser, Subcommand};

#[derive(Debug, Parser)]
#[command(name = "xtask", bin_name = "cargo xtask", about, arg_required_else_help = true)]
struct Cli {
    #[command(subcommand)]
    task: Task,
}

#[derive(Debug, Subcommand)]
enum Task {
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
    #[command(hide = true)]
    KvmRunner,
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
    match task {
        Task::Guest(options) => guest::main(&options).map(|()| ExitCode::SUCCESS),
        Task::Kvm { options, command } => kvm::main(&options, command),
        Task::KvmRunner => kvm::runner::main().map(|()| ExitCode::SUCCESS),
    }
}
