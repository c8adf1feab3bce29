//! The end-to-end tests where KVM is real.
//!
//! A host with KVM runs them itself. Elsewhere a nested machine does, or rather as many as the host
//! has processors, with one processor each: the emulator gets a machine with several wrong now and
//! then (docs/hacking.md), and machines of one use the host as well. Each runs its part of the tests.

use std::ffi::OsString;
use std::fs::File;
use std::io::{BufRead, BufReader, Read};
use std::process::ExitCode;
use std::sync::{Mutex, PoisonError};
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result};

use super::files::TestFiles;
use super::suite::{Count, Part};
use crate::cargo::{self, Executable};
use crate::kvm::{self, Call, Outcome, Streams};
use crate::paths;
use crate::product::Product;

/// More would want more memory than hosts have.
const MACHINES: usize = 4;
/// Where tests find the VMM that attacks its host.
const ATTACKER: &str = "MSB_TEST_ATTACKER";
/// From this line on a harness tells of what failed, over several lines.
const DETAILS: &str = "failures:";

/// Runs all tests that have one of the names.
pub(super) fn run(names: &[String], timeout: Duration) -> Result<ExitCode> {
    let product = Product::build()?;
    let files = TestFiles::build()?;
    let attacker = cargo::attacker()?;
    let tests = cargo::end_to_end_tests()?;
    let options = kvm::Options::with_timeout(timeout);
    let call = |part: Part| -> Result<Call> {
        let mut call = Call::here(suite_command(&options, part, &tests, names)?)?;
        call.cwd = paths::workspace().join("tests").into_os_string();
        product.show_to(&mut call)?;
        files.show_to(&mut call);
        call.set(ATTACKER, attacker.clone());
        Ok(call)
    };
    if kvm::is_direct(&options) {
        let outcome = kvm::run(&options, call(Part { index: 0, count: 1 })?);
        return Ok(said(outcome.context("the end-to-end tests could not run")?).into_exit_code());
    }

    let count = thread::available_parallelism()
        .map_or(1, usize::from)
        .min(MACHINES);
    let options = options.clone().one_of(count)?;
    let calls: Vec<Call> = (0..count)
        .map(|index| call(Part { index, count }))
        .collect::<Result<_>>()?;
    let printer = Mutex::new(());
    let ends: Vec<Result<(Outcome, Count)>> = thread::scope(|scope| {
        let machines: Vec<_> = calls
            .iter()
            .map(|call| scope.spawn(|| one(&options, call, &printer)))
            .collect();
        let join = |machine: thread::ScopedJoinHandle<'_, _>| {
            machine
                .join()
                .unwrap_or_else(|_| Err(anyhow::anyhow!("its thread panicked")))
        };
        machines.into_iter().map(join).collect()
    });

    let mut total = Count::default();
    let mut worst = Outcome::Exited(0);
    for end in ends {
        let (outcome, count) = end.context("the end-to-end tests could not run")?;
        total += count;
        if outcome != Outcome::Exited(0) {
            worst = outcome;
        }
    }
    if total == Count::default() && !names.is_empty() {
        println!("no end-to-end test has such a name");
    }
    println!("{total}");
    Ok(said(worst).into_exit_code())
}

/// One machine's part, once more if the machine itself fails.
fn one(options: &kvm::Options, call: &Call, printer: &Mutex<()>) -> Result<(Outcome, Count)> {
    match attempt(options, call.clone(), printer) {
        Err(error) if kvm::is_machine_crash(&error) => {
            // The emulator's fault, not the code's: see kvm/steady.rs. Said aloud, tried once more.
            eprintln!("xtask test: the nested machine's own kernel crashed; once more\n{error:#}");
            attempt(options, call.clone(), printer)
        }
        other => other,
    }
}

fn attempt(options: &kvm::Options, call: Call, printer: &Mutex<()>) -> Result<(Outcome, Count)> {
    let (stdout, write_stdout) = std::io::pipe().context("cannot make a pipe")?;
    let (stderr, write_stderr) = std::io::pipe().context("cannot make a pipe")?;
    let streams = Streams {
        stdin: None,
        stdout: File::from(std::os::fd::OwnedFd::from(write_stdout)),
        stderr: File::from(std::os::fd::OwnedFd::from(write_stderr)),
    };
    thread::scope(|scope| {
        let count = scope.spawn(|| print(stdout, printer));
        let errors = scope.spawn(|| print(stderr, printer));
        let outcome = kvm::run_nested(options, call, streams);
        let count = count.join().unwrap_or_default();
        let _ = errors.join();
        Ok((outcome?, count))
    })
}

/// Prints what a machine says, by whole lines, so that machines do not mix within one; what tells of
/// failures stays together at the end. Returns the count that it closes with.
fn print(output: impl Read, printer: &Mutex<()>) -> Count {
    let mut count = Count::default();
    let mut details = Vec::new();
    for line in BufReader::new(output).split(b'\n') {
        let Ok(line) = line else { break };
        let line = String::from_utf8_lossy(&line).into_owned();
        if let Some(total) = Count::parse(&line) {
            count = total;
        } else if !details.is_empty() || line == DETAILS {
            details.push(line);
        } else {
            let _alone = printer.lock().unwrap_or_else(PoisonError::into_inner);
            println!("{line}");
        }
    }
    let _alone = printer.lock().unwrap_or_else(PoisonError::into_inner);
    details.iter().for_each(|line| println!("{line}"));
    count
}

fn said(outcome: Outcome) -> Outcome {
    if let Outcome::TimedOut(_) = outcome {
        eprintln!("xtask test: the end-to-end tests took too long");
    }
    outcome
}

/// Ourselves again, inside: `run-suite --part I/N BINARY... -- NAME...`.
fn suite_command(
    options: &kvm::Options,
    part: Part,
    tests: &[Executable],
    names: &[String],
) -> Result<Vec<OsString>> {
    let mut argv = vec![
        kvm::own_program(options)?.into_os_string(),
        "run-suite".into(),
        format!("--part={part}").into(),
    ];
    argv.extend(tests.iter().map(|test| test.path.clone().into_os_string()));
    argv.push("--".into());
    argv.extend(names.iter().map(OsString::from));
    Ok(argv)
}
