//! A program of the library that measures, and writes what it has measured in lines.

use std::process::{Child, Command, Stdio};

use anyhow::{Context, Result};

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
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
