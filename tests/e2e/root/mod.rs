//! Roots of two disks: one that many sandboxes share and nobody writes to, and over it one for what a
//! sandbox changes.

mod disk;
mod duties;
mod ends;
pub(crate) mod image;
mod mapped;
mod space;

use std::fs;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use microsandbox::{Sandbox, SandboxBuilder};
use msb_tests::{Fixture, PATIENCE, erofs, home, within};

/// How often something is looked at that is waited for.
const LOOK: Duration = Duration::from_millis(100);

/// A sandbox on the read-only disk of this name in the fixture, yet to be created. Its record stays.
fn kept(fixture: &Fixture, disk: &str, name: &str) -> SandboxBuilder {
    let disk = fixture.path().join(disk);
    Sandbox::builder(name).image(disk).memory(128u32)
}

/// A fixture with the read-only disk `root.erofs`, which has busybox and some files of its own.
fn fixture() -> Result<Fixture> {
    let fixture = Fixture::new()?;
    erofs::make(&fixture.path().join("root.erofs"), |tree| {
        fs::create_dir_all(tree.join("srv/deep/down"))?;
        fs::write(tree.join("srv/text"), "from the image\n")?;
        fs::write(tree.join("srv/deep/down/text"), "from below\n")?;
        Ok(())
    })?;
    Ok(fixture)
}

/// The writable layer of a sandbox.
fn upper(name: &str) -> Result<PathBuf> {
    Ok(home()?.join("sandboxes").join(name).join("upper.ext4"))
}

/// What a script prints; it must succeed.
pub(crate) async fn prints(sandbox: &Sandbox, script: &str) -> Result<String> {
    let output = within(sandbox.shell(script)).await?;
    let stderr = output.stderr()?;
    ensure!(output.status().success, "{script}: {stderr}");
    Ok(output.stdout()?)
}

/// Whether a script succeeds.
async fn succeeds(sandbox: &Sandbox, script: &str) -> Result<bool> {
    Ok(within(sandbox.shell(script)).await?.status().success)
}

/// Looks until it is so.
async fn until(what: &str, mut look: impl AsyncFnMut() -> Result<bool>) -> Result<()> {
    let deadline = Instant::now() + PATIENCE;
    while !look().await? {
        ensure!(Instant::now() < deadline, "still waiting: {what}");
        tokio::time::sleep(LOOK).await;
    }
    Ok(())
}

/// Stops a sandbox in good order and removes it.
pub(crate) async fn removed(sandbox: &Sandbox) -> Result<()> {
    within(sandbox.stop_with_timeout(PATIENCE)).await?;
    within(sandbox.remove_persisted()).await?;
    Ok(())
}
