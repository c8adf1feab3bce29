//! `cargo xtask bench lifecycle`: how long the steps of a sandbox's life take through the library,
//! and what a sandbox that does nothing costs: wake-ups and private memory of supervisor and VMM.
//!
//! The times are measured by a program of the library, `msb-test-lifecycle`. While its last sandbox
//! stands still it says which the processes are, and waits until they were looked at from here.

use std::collections::BTreeMap;
use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::path::PathBuf;
use std::process::{Command, ExitCode};
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result, anyhow};
use clap::Args;
use serde::Deserialize;
use serde_json::json;

use super::program::Running;
use super::wakeups::{self, Wakeups};
use super::{smaps, stats};
use crate::kvm::{self, Call};
use crate::product::Product;
use crate::{cargo, paths, setup};

/// The times, in the order in which they are told.
const TIMES: [&str; 5] = [
    "create_exec_ms",
    "start_ms",
    "stop_ms",
    "get_ms",
    "list1000_ms",
];
/// The program that measures them.
const PROGRAM: &str = "msb-test-lifecycle";
/// What a boot and its first command leave to do is done after that.
const SETTLE: Duration = Duration::from_secs(15);
/// How long wake-ups are counted.
const COUNTED: Duration = Duration::from_secs(30);

/// Options of `bench lifecycle`.
#[derive(Debug, Args)]
pub(crate) struct Options {
    /// How many lives are measured
    #[arg(long, value_name = "N", default_value_t = 10,
          value_parser = clap::value_parser!(u32).range(1..=1000))]
    rounds: u32,
}

/// Builds the product and the program, then measures where KVM is real.
pub(crate) fn main(options: &Options) -> Result<ExitCode> {
    setup::run()?;
    let product = Product::build()?;
    let program = cargo::test_program(PROGRAM)?;
    let dir = paths::target().join("bench");
    fs::create_dir_all(&dir)?;

    let machine = kvm::Options::for_bench(false);
    let mut call = Call::here(vec![
        kvm::own_program(&machine)?.into_os_string(),
        "bench-lifecycle".into(),
        "--program".into(),
        program.into_os_string(),
        "--report".into(),
        dir.join("lifecycle.json").into_os_string(),
        "--rounds".into(),
        options.rounds.to_string().into(),
    ])?;
    call.cwd = paths::workspace().into_os_string();
    product.show_to(&mut call)?;
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

/// One line of the program.
#[derive(Debug, Deserialize)]
#[serde(untagged)]
enum Line {
    Time { what: String, ms: f64 },
    Idle { idle: Processes },
}

/// A sandbox that does nothing.
#[derive(Debug, Deserialize)]
struct Processes {
    runtime: u32,
    vmm: u32,
    memory_mib: u64,
}

/// What it costs.
#[derive(Debug)]
struct Idle {
    runtime_wakeups: f64,
    vmm_wakeups: f64,
    /// The same by the names of their threads.
    threads: serde_json::Value,
    runtime_mib: f64,
    vmm_mib: f64,
}

impl Inside {
    /// Measures, writes the report, and ends with the line that says it all.
    pub(crate) fn run(&self) -> Result<ExitCode> {
        let home = tempfile::tempdir().context("cannot make a temporary directory")?;
        let mut command = Command::new(&self.program);
        command.arg(self.rounds.to_string());
        // A catalog that is in use elsewhere must not take part.
        command.env("MSB_HOME", home.path());
        let (times, idle) = listen(&mut Running::start(command)?)?;

        let mut report = json!({ "rounds": self.rounds });
        let mut line = "lifecycle:".to_owned();
        for what in TIMES {
            let values = times.get(what).map(Vec::as_slice).unwrap_or_default();
            let median = stats::median(values)
                .with_context(|| format!("the program did not measure {what}"))?;
            line.push_str(&format!(" {what}={median:.2}"));
            report[what] = json!(median);
            report["all"][what] = json!(values);
        }
        for (what, value) in [
            ("runtime_wakeups", idle.runtime_wakeups),
            ("vmm_wakeups", idle.vmm_wakeups),
            ("runtime_mib", idle.runtime_mib),
            ("vmm_mib", idle.vmm_mib),
        ] {
            line.push_str(&format!(" {what}={value:.2}"));
            report[what] = json!(value);
        }
        report["wakeups"] = idle.threads;
        fs::write(&self.report, format!("{report:#}\n"))
            .with_context(|| format!("cannot write {}", self.report.display()))?;
        println!("{line}");
        Ok(ExitCode::SUCCESS)
    }
}

fn listen(running: &mut Running) -> Result<(BTreeMap<String, Vec<f64>>, Idle)> {
    let mut times = BTreeMap::<String, Vec<f64>>::new();
    let mut idle = None;
    let stdout = running.child.stdout.take().context("it has no output")?;
    for line in BufReader::new(stdout).lines() {
        let line = line.context("cannot read what the program says")?;
        match serde_json::from_str(&line).with_context(|| format!("it said {line}"))? {
            Line::Time { what, ms } => {
                if what != "get_ms" {
                    println!("{what} {ms:.1}");
                }
                times.entry(what).or_default().push(ms);
            }
            Line::Idle { idle: processes } => {
                idle = Some(processes.look()?);
                let mut stdin = running.child.stdin.take().context("it has no input")?;
                stdin.write_all(b"seen\n")?;
            }
        }
    }
    running.succeeded()?;
    Ok((times, idle.context("it had no idle sandbox")?))
}

impl Processes {
    fn look(&self) -> Result<Idle> {
        thread::sleep(SETTLE);
        let wakeups = wakeups::per_second(&[self.runtime, self.vmm], COUNTED)?;
        let [runtime, vmm] = <[Wakeups; 2]>::try_from(wakeups)
            .map_err(|_| anyhow!("two processes were counted, and not two numbers came of it"))?;
        Ok(Idle {
            runtime_wakeups: runtime.all,
            vmm_wakeups: vmm.all,
            threads: json!({ "runtime": runtime.threads, "vmm": vmm.threads }),
            runtime_mib: smaps::private_mib(self.runtime, None)?,
            vmm_mib: smaps::private_mib(self.vmm, Some(self.memory_mib))?,
        })
    }
}
