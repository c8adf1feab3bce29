//! The files of a sandbox: what a program reads, writes, lists, copies, and what a guest's own
//! programs see of it and can do against it.

mod copies;
mod large;
mod operations;
mod races;

use microsandbox::fs::FsError;
use microsandbox::{MicrosandboxError, MicrosandboxResult, Sandbox};

use anyhow::{Result, ensure};

/// What a call failed of, that had to do with files.
fn failure<T: std::fmt::Debug>(result: MicrosandboxResult<T>) -> FsError {
    match result {
        Err(MicrosandboxError::SandboxFsOps(error)) => error,
        other => panic!("not an error of files: {other:?}"),
    }
}

/// Runs a script that has to succeed, and returns what it printed.
async fn script(sandbox: &Sandbox, script: &str) -> Result<String> {
    let output = sandbox.shell(script).await?;
    ensure!(
        output.status().success,
        "{script}: {}",
        String::from_utf8_lossy(output.stderr_bytes())
    );
    Ok(output.stdout()?)
}
