//! Runs test binaries one after the other and adds up what they say. This is the part of
//! `cargo xtask test` that runs inside the machine.

use std::ffi::OsString;
use std::io::{BufRead, BufReader};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Stdio};
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result};
use rustix::process::{Pid, Signal};

/// No single binary may take longer.
const BINARY_DEADLINE: Duration = Duration::from_secs(3300);

/// How many tests ended how.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
struct Count {
    passed: u64,
    failed: u64,
}

/// Runs all binaries, whatever becomes of each; the last line says `N passed, N failed`.
pub(crate) fn main(binaries: &[PathBuf], names: &[OsString]) -> Result<ExitCode> {
    let mut total = Count::default();
    for binary in binaries {
        println!("running {}", binary.display());
        let count = run(binary, names)?;
        total.passed += count.passed;
        total.failed += count.failed;
    }
    if total == Count::default() && !names.is_empty() {
        println!("no end-to-end test has such a name");
    }
    println!("{} passed, {} failed", total.passed, total.failed);
    Ok(if total.failed == 0 {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}

fn run(binary: &Path, names: &[OsString]) -> Result<Count> {
    // One at a time: the tests measure what is left over on the host, and the processors are few.
    let mut child = Command::new(binary)
        .arg("--test-threads=1")
        .args(names)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .process_group(0)
        .spawn()
        .with_context(|| format!("cannot start {}", binary.display()))?;
    let group = Pid::from_child(&child);
    let (done, watch) = mpsc::channel::<()>();
    let watchdog = thread::spawn(move || {
        let late = watch.recv_timeout(BINARY_DEADLINE) == Err(mpsc::RecvTimeoutError::Timeout);
        if late {
            let _ = rustix::process::kill_process_group(group, Signal::KILL);
        }
        late
    });

    let mut count = None;
    if let Some(stdout) = child.stdout.take() {
        for line in BufReader::new(stdout).split(b'\n') {
            let line = line.context("cannot read a test's output")?;
            let line = String::from_utf8_lossy(&line);
            println!("{line}");
            count = parse_result(&line).or(count);
        }
    }
    let status = child.wait().context("cannot wait for a test")?;
    drop(done);
    let late = watchdog.join().unwrap_or(false);

    let mut count = count.unwrap_or_default();
    if !status.success() && count.failed == 0 {
        // It died before it could say what failed.
        let why = if late {
            "took too long".to_owned()
        } else {
            format!("ended with {status}")
        };
        println!("test binary {} {why}", binary.display());
        count.failed = 1;
    }
    Ok(count)
}

/// The numbers of a test harness's closing line.
fn parse_result(line: &str) -> Option<Count> {
    let rest = line.trim().strip_prefix("test result: ")?;
    let number = |what: &str| {
        rest.split(['.', ';'])
            .find_map(|part| part.trim().strip_suffix(what))
            .and_then(|number| number.trim().parse().ok())
    };
    Some(Count {
        passed: number("passed")?,
        failed: number("failed")?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn closing_lines_are_read() {
        let line = "test result: FAILED. 12 passed; 3 failed; 1 ignored; 0 measured; \
                    0 filtered out; finished in 1.25s";
        assert_eq!(
            parse_result(line),
            Some(Count {
                passed: 12,
                failed: 3
            })
        );
        let line = "test result: ok. 0 passed; 0 failed; 0 ignored; 0 measured";
        assert_eq!(parse_result(line), Some(Count::default()));
        assert_eq!(parse_result("test boot ... ok"), None);
    }

    #[test]
    fn a_binary_that_dies_counts_as_one_failure() {
        let count = run(Path::new("/bin/false"), &[]).unwrap();
        assert_eq!(
            count,
            Count {
                passed: 0,
                failed: 1
            }
        );
    }
}
