//! `cargo xtask bench NAME`: measurements. Where a bench compares two programs in one run on one
//! machine, the ratio means something on an emulated machine too; a time alone does not.

pub(crate) mod boot;
pub(crate) mod exec;
mod figures;
pub(crate) mod image;
pub(crate) mod jail;
pub(crate) mod lifecycle;
mod program;
mod smaps;
mod stats;
mod wakeups;

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
    /// Commands in a Debian guest, and their input and output, beside ssh into the same guest
    Exec(exec::Options),
    /// Images on the disk, beside umoci and mkfs.erofs; and sandboxes that share one
    Image(image::Options),
    /// What the jail costs msb-vmm: its start and its memory, with and without
    Jail(jail::Options),
    /// The steps of a sandbox's life through the library, and what a sandbox costs that does nothing
    Lifecycle(lifecycle::Options),
}

/// Runs one bench.
pub(crate) fn main(options: &Options) -> Result<ExitCode> {
    match &options.bench {
        Bench::Boot(options) => boot::main(options),
        Bench::Exec(options) => exec::main(options),
        Bench::Image(options) => image::main(options),
        Bench::Jail(options) => jail::main(options),
        Bench::Lifecycle(options) => lifecycle::main(options),
    }
}
