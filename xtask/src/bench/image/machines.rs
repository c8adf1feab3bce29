//! The part of the image bench that takes sandboxes: how long the first and the second of an image take to be
//! created, and what memory many of one image take.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};

use anyhow::{Context, Result, bail};
use clap::Args;

use crate::bench::figures::Measured;
use crate::bench::program::Running;
use crate::guest::images;
use crate::kvm::{self, Call, Outcome};
use crate::paths;
use crate::product::Product;
use crate::test::registry;

/// Tells the program where the image with the large file is.
const LARGE: &str = "MSB_TEST_LARGE_IMAGE";

/// Measures where KVM is real.
pub(super) fn measure(program: &Path, sandboxes: u32) -> Result<Measured> {
    let product = Product::build()?;
    let report = paths::target().join("bench/image-machines.json");
    let machine = kvm::Options::for_bench(false);
    let mut call = Call::here(vec![
        kvm::own_program(&machine)?.into_os_string(),
        "bench-image".into(),
        "--program".into(),
        program.into(),
        "--report".into(),
        report.clone().into_os_string(),
        "--sandboxes".into(),
        sandboxes.to_string().into(),
    ])?;
    call.cwd = paths::workspace().into_os_string();
    product.show_to(&mut call)?;
    call.set(images::VARIABLE, images::build()?);
    call.set(registry::VARIABLE, registry::program()?);
    call.set(LARGE, images::large()?.join("layout"));
    match kvm::run(&machine, call)? {
        Outcome::Exited(0) => {}
        other => bail!("the bench of machines did not succeed: {other:?}"),
    }
    let measured =
        fs::read(&report).with_context(|| format!("cannot read {}", report.display()))?;
    fs::remove_file(&report)?;
    Ok(serde_json::from_slice(&measured)?)
}

/// The part that runs where KVM is real.
#[derive(Debug, Args)]
pub(crate) struct Inside {
    #[arg(long)]
    program: PathBuf,
    #[arg(long)]
    report: PathBuf,
    #[arg(long)]
    sandboxes: u32,
}

impl Inside {
    /// Runs the program, and writes down what it measures.
    pub(crate) fn run(&self) -> Result<ExitCode> {
        let home = tempfile::tempdir().context("cannot make a temporary directory")?;
        let mut command = Command::new(&self.program);
        command.args(["machines", &self.sandboxes.to_string()]);
        // Homes of others must not take part.
        command.env("MSB_HOME", home.path());
        let measured = Running::start(command)?.measured(3)?;
        fs::write(&self.report, serde_json::to_vec(&measured)?)
            .with_context(|| format!("cannot write {}", self.report.display()))?;
        Ok(ExitCode::SUCCESS)
    }
}
