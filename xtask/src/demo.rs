//! `cargo xtask demo`: the library's first example, from nothing to a running sandbox.

use std::ffi::OsString;
use std::process::ExitCode;

use anyhow::{Context, Result};
use clap::Args;

use crate::kvm::{self, Call};
use crate::product::Product;
use crate::{cargo, setup};

/// Options of `demo`; those after the first three belong to the example itself.
#[derive(Debug, Args)]
pub(crate) struct Options {
    /// End it after so many seconds
    #[arg(long, value_name = "SECS", default_value_t = 600)]
    timeout: u64,
    /// Processors of the sandbox
    #[arg(long, value_name = "N")]
    cpus: Option<u32>,
    /// Memory of the sandbox, in MiB
    #[arg(long, value_name = "MIB")]
    memory: Option<u32>,
    /// A raw disk image to start from, instead of the small one that the demo makes
    #[arg(long, value_name = "FILE")]
    disk: Option<std::path::PathBuf>,
    /// A command to run in the sandbox, instead of the tour
    #[arg(last = true, value_name = "CMD")]
    command: Vec<OsString>,
}

impl Options {
    fn example_args(&self) -> Vec<OsString> {
        let mut args = Vec::new();
        let mut option = |name: &str, value: OsString| args.extend([OsString::from(name), value]);
        if let Some(cpus) = self.cpus {
            option("--cpus", cpus.to_string().into());
        }
        if let Some(memory) = self.memory {
            option("--memory", memory.to_string().into());
        }
        if let Some(disk) = &self.disk {
            option("--disk", disk.clone().into());
        }
        if !self.command.is_empty() {
            args.push("--".into());
            args.extend(self.command.iter().cloned());
        }
        args
    }
}

/// Sets up, builds and runs the example.
pub(crate) fn main(options: &Options) -> Result<ExitCode> {
    setup::run()?;
    let product = Product::build()?;
    let built = cargo::executables(cargo::command().args([
        "build",
        "--release",
        "--package",
        "microsandbox",
        "--example",
        "demo",
    ]))?;
    let demo = built
        .into_iter()
        .find(|program| program.name == "demo")
        .context("the library has no example `demo`")?;

    let mut argv = vec![demo.path.into_os_string()];
    argv.extend(options.example_args());
    let mut call = Call::here(argv)?;
    product.show_to(&mut call)?;
    let timeout = std::time::Duration::from_secs(options.timeout);
    Ok(kvm::run(&kvm::Options::with_timeout(timeout), call)?.into_exit_code())
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Parser;

    #[derive(Debug, Parser)]
    struct Cli {
        #[command(flatten)]
        options: Options,
    }

    fn args(words: &[&str]) -> Vec<OsString> {
        let words = ["demo"].iter().chain(words);
        Cli::try_parse_from(words).unwrap().options.example_args()
    }

    #[test]
    fn the_examples_options_are_passed_on() {
        assert!(args(&[]).is_empty());
        assert_eq!(
            args(&[
                "--memory", "512", "--cpus", "2", "--disk", "a b", "--", "sh", "-c", "--x"
            ]),
            [
                "--cpus", "2", "--memory", "512", "--disk", "a b", "--", "sh", "-c", "--x"
            ]
        );
    }
}
