//! A program that owns a sandbox: what the kill tests kill.
//!
//! `msb-test-owner NAME DISK [kept]` creates the sandbox, says `up`, runs commands in it for as
//! long as it can, and says how that ended.

use std::io::Write;

use anyhow::{Context, Result};
use microsandbox::Sandbox;

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<()> {
    let mut args = std::env::args().skip(1);
    let name = args.next().context("no name")?;
    let disk = std::path::PathBuf::from(args.next().context("no disk")?);
    let kept = args.next().is_some_and(|word| word == "kept");
    let sandbox = Sandbox::builder(name)
        .image(disk)
        .memory(64u32)
        // Its name is free again however it ends, unless its record is what matters.
        .ephemeral(!kept)
        .create()
        .await?;
    writeln!(std::io::stdout(), "up")?;
    let mut commands = 0;
    while sandbox.exec("true", [""; 0]).await.is_ok() {
        commands += 1;
    }
    let reason = sandbox.wait_until_ended().await;
    writeln!(std::io::stdout(), "{commands} commands, then {reason:?}")?;
    Ok(())
}
