//! `cargo xtask fuzz TARGET --seconds N`: coverage-guided fuzzing with the stable compiler.
//!
//! The targets are binaries of the package in `tests/fuzz`, which stands outside the workspace, for
//! everything below it is built with instrumentation: the sanitizer-coverage pass of LLVM, which
//! stable rustc runs when asked. The engine is libFuzzer, from the `libfuzzer-sys` crate.

use std::fs;
use std::path::PathBuf;
use std::process::{Command, ExitCode};

use anyhow::{Context, Result, bail};
use clap::Args;

use crate::{cargo, paths, proc};

/// Inline counters for edges, a table of their places, and comparisons, for every crate.
const RUSTFLAGS: &str = "-Cpasses=sancov-module \
    -Cllvm-args=-sanitizer-coverage-level=4 \
    -Cllvm-args=-sanitizer-coverage-inline-8bit-counters \
    -Cllvm-args=-sanitizer-coverage-pc-table \
    -Cllvm-args=-sanitizer-coverage-trace-compares \
    --cfg fuzzing -Cdebug-assertions -Ccodegen-units=1 -Clink-dead-code";
/// Naming the target keeps the flags away from build scripts.
const TARGET: &str = "x86_64-unknown-linux-gnu";

/// Options of `fuzz`.
#[derive(Debug, Args)]
pub(crate) struct Options {
    /// Which target; `--list` says what there is
    #[arg(required_unless_present = "list")]
    target: Option<String>,
    /// How long to run
    #[arg(long, value_name = "N", default_value_t = 60,
          value_parser = clap::value_parser!(u64).range(1..=1 << 31))]
    seconds: u64,
    /// List the targets
    #[arg(long)]
    list: bool,
    /// Options for libFuzzer, or a file to run once
    #[arg(last = true)]
    rest: Vec<String>,
}

/// Builds and runs one target.
pub(crate) fn main(options: &Options) -> Result<ExitCode> {
    let dir = paths::workspace().join("tests/fuzz");
    let names = targets(&dir.join("Cargo.toml"))?;
    let Some(name) = options.target.as_ref().filter(|_| !options.list) else {
        names.iter().for_each(|name| println!("{name}"));
        return Ok(ExitCode::SUCCESS);
    };
    if !names.contains(name) {
        bail!("no fuzz target {name:?}; there are: {}", names.join(", "));
    }

    let built = cargo::executables(
        cargo::command()
            .current_dir(&dir)
            .env("RUSTFLAGS", RUSTFLAGS)
            .env_remove("CARGO_ENCODED_RUSTFLAGS")
            .args(["build", "--release", "--bin", name, "--target", TARGET])
            .arg("--target-dir")
            .arg(paths::target().join("fuzz")),
    )?;
    let program = built
        .into_iter()
        .find(|program| &program.name == name)
        .with_context(|| format!("cargo built no {name}"))?;

    // What the run finds goes to a corpus of its own; the seeds, which are committed, are only read.
    let found = paths::target().join("fuzz/corpus").join(name);
    let artifacts = dir.join("artifacts").join(name);
    fs::create_dir_all(&found)?;
    fs::create_dir_all(&artifacts)?;
    let mut run = Command::new(&program.path);
    run.current_dir(&dir)
        .arg(format!("-max_total_time={}", options.seconds))
        .arg(format!("-artifact_prefix={}/", artifacts.display()))
        .args(["-timeout=20", "-rss_limit_mb=2048", "-print_final_stats=1"])
        .args(&options.rest)
        .arg(&found);
    let seeds: PathBuf = dir.join("corpus").join(name);
    if seeds.is_dir() {
        run.arg(seeds);
    }
    proc::run(&mut run).with_context(|| {
        format!(
            "the input that did it is in {}; run it again with \
             `cargo xtask fuzz {name} -- FILE`",
            artifacts.display()
        )
    })?;
    Ok(ExitCode::SUCCESS)
}

/// The names of the package's binaries.
fn targets(manifest: &std::path::Path) -> Result<Vec<String>> {
    let metadata = cargo_metadata::MetadataCommand::new()
        .cargo_path(paths::cargo())
        .manifest_path(manifest)
        .no_deps()
        .exec()
        .context("cannot read the package of fuzz targets in tests/fuzz")?;
    let mut names: Vec<String> = metadata
        .packages
        .iter()
        .flat_map(|package| &package.targets)
        .filter(|target| target.is_bin())
        .map(|target| target.name.clone())
        .collect();
    names.sort();
    Ok(names)
}
