//! `cargo xtask bench jail`: what the jail costs. The same machine boots in turns in the jail and outside of it; from
//! the start of the process until /init has written its first line, and in the VMM's own memory.

use std::process::{Command, ExitCode};

use anyhow::{Context, Result};
use clap::Args;
use serde_json::json;

use super::boot::{self, Given, Running};
use super::{smaps, stats};
use crate::{kvm, setup};

/// Options of `bench jail`.
#[derive(Debug, Args)]
pub(crate) struct Options {
    /// How many times each boots
    #[arg(long, value_name = "N", default_value_t = 30,
          value_parser = clap::value_parser!(u32).range(1..=1000))]
    rounds: u32,
    /// In the nested machine: let its clock count instructions instead of time
    #[arg(long)]
    counted: bool,
}

/// Builds what is measured, then measures where KVM is real.
pub(crate) fn main(options: &Options) -> Result<ExitCode> {
    setup::run()?;
    let machine = kvm::Options::for_bench(options.counted);
    let call = boot::call("jail", &machine, options.rounds)?;
    Ok(kvm::run(&machine, call)?.into_exit_code())
}

/// The part that runs where KVM is real.
#[derive(Debug, Args)]
pub(crate) struct Inside {
    #[command(flatten)]
    given: Given,
}

impl Inside {
    /// Measures, writes the report, and ends with the line that says it all.
    pub(crate) fn run(&self) -> Result<ExitCode> {
        let (mut inside, mut outside) = (Vec::new(), Vec::new());
        for round in 1..=self.given.rounds {
            let with = boot::measure("msb-vmm", || self.vmm(true, boot::CMDLINE))?;
            let without = boot::measure("msb-vmm", || self.vmm(false, boot::CMDLINE))?;
            println!("round {round}: in the jail {with:.1} ms, outside {without:.1} ms");
            inside.push(with);
            outside.push(without);
        }
        let median = |times: &[f64]| stats::median(times).context("nothing was measured");
        let (jail_ms, free_ms) = (median(&inside)?, median(&outside)?);
        let (jail_mib, free_mib) = (self.memory_mib(true)?, self.memory_mib(false)?);
        let ratio = jail_ms / free_ms;
        let report = json!({
            "rounds": self.given.rounds, "start_ratio": ratio, "jail_ms": jail_ms, "free_ms": free_ms,
            "jail_mib": jail_mib, "free_mib": free_mib, "inside": inside, "outside": outside,
        });
        self.given.report(&report)?;
        println!(
            "jail: start_ratio={ratio:.3} jail_ms={jail_ms:.1} free_ms={free_ms:.1} \
             jail_mib={jail_mib:.2} free_mib={free_mib:.2}"
        );
        Ok(ExitCode::SUCCESS)
    }

    fn vmm(&self, jailed: bool, cmdline: &str) -> Command {
        let mut command = self.given.msb_vmm(cmdline);
        if !jailed {
            command.arg("--no-jail");
        }
        command
    }

    /// Private memory of the VMM while its guest stands still after boot.
    fn memory_mib(&self, jailed: bool) -> Result<f64> {
        let running = Running::start(self.vmm(jailed, &format!("{} -- stay", boot::CMDLINE)))?;
        running.first_line()?;
        smaps::private_mib(running.pid(), Some(boot::MEMORY_MIB))
    }
}
