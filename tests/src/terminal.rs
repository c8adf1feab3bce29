//! A program that gives its terminal to a command in a sandbox: what the tests of terminals type at.
//!
//! `msb-test-terminal NAME DISK CMD ARGS...` attaches CMD and says on standard output how that
//! ended. `MSB_TEST_KEYS` are its detach keys, `MSB_TEST_AFTER` is a script that it runs in the
//! sandbox after that, and with `MSB_TEST_TWICE` it tries to attach once more meanwhile.

use std::io::Write;

use anyhow::{Context, Result};
use microsandbox::Sandbox;

fn say(line: &str) -> Result<()> {
    let mut stdout = std::io::stdout();
    writeln!(stdout, "{line}")?;
    Ok(stdout.flush()?)
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<()> {
    let mut args = std::env::args().skip(1);
    let name = args.next().context("no name")?;
    let disk = std::path::PathBuf::from(args.next().context("no disk")?);
    let command = args.next().context("no command")?;
    let variable = |name| std::env::var(name).ok();
    let sandbox = Sandbox::builder(name)
        .image(disk)
        .memory(128u32)
        .ephemeral(true)
        .create()
        .await?;
    say(&format!("pid {}", std::process::id()))?;
    let first = sandbox.attach_with(command, |mut options| {
        if let Some(keys) = variable("MSB_TEST_KEYS") {
            options = options.detach_keys(keys);
        }
        options.args(args)
    });
    let ended = if variable("MSB_TEST_TWICE").is_some() {
        let second = sandbox.attach_shell();
        let (first, second) = tokio::join!(biased; first, second);
        say(&format!("second {second:?}"))?;
        first
    } else {
        first.await
    };
    match ended {
        Ok(code) => say(&format!("code {code}"))?,
        Err(error) => say(&format!("error {error:?}"))?,
    }
    if let Some(script) = variable("MSB_TEST_AFTER") {
        let output = sandbox.shell(script).await?;
        say(&format!("after {}", output.stdout()?.trim_end()))?;
    }
    sandbox.stop().await?;
    Ok(())
}
