//! A program of the library that measures, and writes what it has measured in lines.

use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Stdio};

use anyhow::{Context, Result, bail};
use serde::Deserialize;

use super::figures::Measured;

/// The program, ended when this is dropped.
pub(super) struct Running {
    pub(super) child: Child,
}

impl Running {
    pub(super) fn start(mut command: Command) -> Result<Self> {
        let child = command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .with_context(|| format!("cannot start {}", command.get_program().display()))?;
        Ok(Self { child })
    }

    /// Hears it out: one value in each line, shown with so many decimals.
    pub(super) fn measured(&mut self, decimals: usize) -> Result<Measured> {
        let mut measured = Measured::new();
        let stdout = self.child.stdout.take().context("it has no output")?;
        for line in BufReader::new(stdout).lines() {
            let line = line.context("cannot read what the program says")?;
            let Line { what, value } =
                serde_json::from_str(&line).with_context(|| format!("it said {line}"))?;
            println!("{what} {value:.decimals$}");
            measured.entry(what).or_default().push(value);
        }
        self.succeeded()?;
        Ok(measured)
    }

    /// Waits for its end, which has to be a success.
    pub(super) fn succeeded(&mut self) -> Result<()> {
        let status = self.child.wait()?;
        if !status.success() {
            bail!("the program failed: {status}");
        }
        Ok(())
    }
}

/// One line of a program that only measures.
#[derive(Debug, Deserialize)]
struct Line {
    what: String,
    value: f64,
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
