//! Running other programs: say which, run it, and turn its failure into an error that names it.

use std::io::{BufRead, BufReader, Read};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail};

/// Runs a command with our own standard streams, after saying which.
pub(crate) fn run(command: &mut Command) -> Result<()> {
    eprintln!("+ {}", describe(command));
    let status = command
        .status()
        .with_context(|| format!("cannot start {}", command.get_program().display()))?;
    if !status.success() {
        bail!("`{}` failed: {status}", describe(command));
    }
    Ok(())
}

/// Runs a command quietly and returns its standard output; standard error goes into the error.
pub(crate) fn output(command: &mut Command) -> Result<Vec<u8>> {
    let output = command
        .stdin(Stdio::null())
        .output()
        .with_context(|| format!("cannot start {}", command.get_program().display()))?;
    if !output.status.success() {
        bail!(
            "`{}` failed: {}\n{}",
            describe(command),
            output.status,
            String::from_utf8_lossy(&output.stderr).trim_end()
        );
    }
    Ok(output.stdout)
}

/// Like [`output`], as text.
pub(crate) fn text(command: &mut Command) -> Result<String> {
    let bytes = output(command)?;
    String::from_utf8(bytes).with_context(|| format!("`{}` wrote no UTF-8", describe(command)))
}

/// Runs a command and calls `line` for each line of its output and errors together; on failure the
/// last lines are in the error.
pub(crate) fn lines(command: &mut Command, mut line: impl FnMut(&str)) -> Result<()> {
    const KEPT: usize = 40;
    let (reader, writer) = std::io::pipe().context("cannot make a pipe")?;
    let mut child = command
        .stdin(Stdio::null())
        .stdout(writer.try_clone().context("cannot copy a pipe")?)
        .stderr(writer)
        .spawn()
        .with_context(|| format!("cannot start {}", command.get_program().display()))?;
    // The command keeps copies of the pipe's writing end; without this the pipe has no end.
    command.stdout(Stdio::null()).stderr(Stdio::null());

    let mut kept = std::collections::VecDeque::with_capacity(KEPT);
    let mut reader = BufReader::new(reader);
    let mut bytes = Vec::new();
    while reader
        .by_ref()
        .take(64 * 1024)
        .read_until(b'\n', &mut bytes)
        .context("cannot read a command's output")?
        != 0
    {
        let text = String::from_utf8_lossy(&bytes).trim_end().to_owned();
        bytes.clear();
        line(&text);
        if kept.len() == KEPT {
            kept.pop_front();
        }
        kept.push_back(text);
    }
    let status = child.wait().context("cannot wait for a command")?;
    if !status.success() {
        let tail = Vec::from(kept).join("\n");
        bail!("`{}` failed: {status}\n{tail}", describe(command));
    }
    Ok(())
}

/// Whether a program is found in `PATH`.
pub(crate) fn on_path(program: &str) -> bool {
    find_on_path(program).is_some()
}

/// Where in `PATH` (and in the administrator's directories) a program is.
pub(crate) fn find_on_path(program: &str) -> Option<std::path::PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path)
        .chain(["/usr/sbin", "/sbin"].map(std::path::PathBuf::from))
        .map(|dir| dir.join(program))
        .find(|path| path.is_file())
}

/// A command as one would type it, for messages.
fn describe(command: &Command) -> String {
    let mut text = command.get_program().to_string_lossy().into_owned();
    for arg in command.get_args() {
        text.push(' ');
        let arg = arg.to_string_lossy();
        if arg.is_empty() || arg.contains(char::is_whitespace) {
            text.push_str(&format!("'{arg}'"));
        } else {
            text.push_str(&arg);
        }
    }
    text
}
