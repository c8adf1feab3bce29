//! Runs test binaries one after the other and adds up what they say. This is the part of
//! `cargo xtask test` that runs inside the machine. Where several machines share the tests, each
//! runs its part: of all tests, in the order of the list, every n-th.

use std::ffi::OsString;
use std::fmt;
use std::io::{BufRead, BufReader};
use std::ops::AddAssign;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Stdio};
use std::str::FromStr;
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result};
use rustix::process::{Pid, Signal};

use crate::proc;

/// No single binary may take longer.
const BINARY_DEADLINE: Duration = Duration::from_secs(3300);

/// How many tests ended how.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub(super) struct Count {
    passed: u64,
    failed: u64,
}

impl Count {
    /// Reads what [`fmt::Display`] wrote.
    pub(super) fn parse(line: &str) -> Option<Self> {
        let (passed, failed) = line.trim().split_once(" passed, ")?;
        Some(Self {
            passed: passed.parse().ok()?,
            failed: failed.strip_suffix(" failed")?.parse().ok()?,
        })
    }
}

impl AddAssign for Count {
    fn add_assign(&mut self, other: Self) {
        self.passed += other.passed;
        self.failed += other.failed;
    }
}

impl fmt::Display for Count {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} passed, {} failed", self.passed, self.failed)
    }
}

/// One of several equal parts of the tests, `INDEX/COUNT`, from 0.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Part {
    pub(super) index: usize,
    pub(super) count: usize,
}

impl FromStr for Part {
    type Err = anyhow::Error;

    fn from_str(text: &str) -> Result<Self> {
        let numbers = text.split_once('/').and_then(|(index, count)| {
            let part = Self {
                index: index.parse().ok()?,
                count: count.parse().ok()?,
            };
            (part.index < part.count).then_some(part)
        });
        numbers.with_context(|| format!("{text:?} is no part: one is, say, 0/2"))
    }
}

impl fmt::Display for Part {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.index, self.count)
    }
}

impl Part {
    /// The tests of the binary that have one of the names and fall to this part.
    fn of(self, binary: &Path, names: &[OsString]) -> Result<Vec<OsString>> {
        let list = proc::text(Command::new(binary).arg("--list").args(names))?;
        let tests = list.lines().filter_map(|line| line.strip_suffix(": test"));
        let mine = tests.skip(self.index).step_by(self.count);
        Ok(mine.map(OsString::from).collect())
    }
}

/// Runs all binaries, whatever becomes of each; the last line says `N passed, N failed`.
pub(crate) fn main(part: Part, binaries: &[PathBuf], names: &[OsString]) -> Result<ExitCode> {
    let mut total = Count::default();
    for binary in binaries {
        println!("running {}", binary.display());
        let mine = part.of(binary, names)?;
        if mine.is_empty() {
            continue;
        }
        total += run(binary, &mine)?;
    }
    println!("{total}");
    Ok(if total.failed == 0 {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}

fn run(binary: &Path, tests: &[OsString]) -> Result<Count> {
    // One at a time: the tests measure what is left over on the host, and the processors are few.
    let mut child = Command::new(binary)
        .args(["--test-threads=1", "--exact"])
        .args(tests)
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
    fn counts_and_parts_are_read_as_they_are_written() {
        let count = Count {
            passed: 151,
            failed: 2,
        };
        assert_eq!(Count::parse(&count.to_string()), Some(count));
        assert_eq!(Count::parse("1 passed, 2 failed tests"), None);
        let part: Part = "1/2".parse().unwrap();
        assert_eq!((part.index, part.count), (1, 2));
        assert_eq!(part.to_string(), "1/2");
        for bad in ["", "1", "2/2", "0/0", "-1/2", "1/x"] {
            bad.parse::<Part>().unwrap_err();
        }
    }

    #[test]
    fn parts_together_are_the_whole() {
        let own = std::env::current_exe().unwrap();
        let of = |index, count| Part { index, count }.of(&own, &["suite".into()]).unwrap();
        let whole = of(0, 1);
        assert!(whole.len() >= 4);
        let mut parts = [of(0, 3), of(1, 3), of(2, 3)].concat();
        parts.sort();
        assert_eq!(parts, whole);
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
