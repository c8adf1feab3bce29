//! A program that starts a command in somebody else's sandbox: what the session tests kill.
//!
//! `msb-test-visitor NAME detachable|tied SCRIPT` connects to the sandbox, starts the script, and
//! says the session's number and then each line that the script writes, until it is killed.

use std::io::Write;

use anyhow::{Context, Result};
use microsandbox::{ExecEvent, Sandbox};

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<()> {
    let mut args = std::env::args().skip(1);
    let name = args.next().context("no name")?;
    let detachable = args.next().context("no mode")? == "detachable";
    let script = args.next().context("no script")?;
    let sandbox = Sandbox::get(&name).await?.connect().await?;
    let mut handle = sandbox
        .shell_stream_with(script, |options| options.detachable(detachable))
        .await?;
    let mut out = std::io::stdout();
    writeln!(out, "session {}", handle.id())?;
    while let Some(event) = handle.recv().await {
        if let ExecEvent::Stdout(bytes) = event {
            out.write_all(&bytes)?;
            out.flush()?;
        }
    }
    Ok(())
}
