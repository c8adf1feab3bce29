//! `cargo xtask bench NAME`: measurements. A bench compares two programs in one run on one machine:
//! on an emulated machine only the ratio means something.

pub(crate) mod boot;
mod smaps;
mod stats;

use std::process::ExitCode;

use anyhow::Result;
use clap::{Args, Subcommand};

/// Options of `bench`.
#[derive(Debug, Args)]
pub(crate) struct Options {
    #[command(subcommand)]
    bench: Bench,
}

#[derive(Debug, Subcommand)]
enum Bench {
    /// From process start to the first line of /init, for msb-vmm and QEMU; and msb-vmm's memory
    Boot(boot::Options),
}

/// Runs one bench.
pub(crate) fn main(options: &Options) -> Result<ExitCode> {
    match &options.bench {
        Bench::Boot(options) => boot::main(options),
    }
}
