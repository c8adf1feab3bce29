//! What the agent does as the guest's first process, as its user sees it: the file systems and names
//! that programs expect, what the configuration asks for beside the root, the clock, and another init.

mod clock;
mod init;
mod init_ends;
mod memory;
mod places;
mod restricted;
mod scripts;

use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use microsandbox::{MicrosandboxError, Sandbox, SandboxBuilder};
use msb_tests::{PATIENCE, within};

/// How often something is looked at that is waited for.
const LOOK: Duration = Duration::from_millis(100);

/// Creates what `builder` describes.
async fn create(builder: SandboxBuilder) -> Result<Sandbox, MicrosandboxError> {
    within(builder.create()).await
}

/// What a script prints; it must succeed.
async fn prints(sandbox: &Sandbox, script: &str) -> Result<String> {
    let output = within(sandbox.shell(script)).await?;
    let stderr = output.stderr()?;
    ensure!(output.status().success, "{script}: {stderr}");
    Ok(output.stdout()?)
}

/// Whether a script succeeds.
async fn succeeds(sandbox: &Sandbox, script: &str) -> Result<bool> {
    Ok(within(sandbox.shell(script)).await?.status().success)
}

/// Runs a script again and again until it succeeds.
async fn until(sandbox: &Sandbox, script: &str) -> Result<()> {
    let deadline = Instant::now() + PATIENCE;
    while !succeeds(sandbox, script).await? {
        ensure!(Instant::now() < deadline, "still waiting for: {script}");
        tokio::time::sleep(LOOK).await;
    }
    Ok(())
}

/// Changes a fixture's disk by a script that runs on it.
async fn prepare(builder: SandboxBuilder, script: &str) -> Result<()> {
    let sandbox = within(builder.ephemeral(true).create()).await?;
    prints(&sandbox, script).await?;
    within(sandbox.stop_with_timeout(PATIENCE)).await?;
    Ok(())
}
