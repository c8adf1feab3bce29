//! Snapshots of real guests, and sandboxes that begin from them.
//!
//! Each test has a home of its own. What a test writes in a guest is in /srv: /tmp is memory.

mod begun;
mod forks;
mod meanwhile;
mod travels;

use anyhow::Result;
use microsandbox::sandbox::PullPolicy;
use microsandbox::{Sandbox, SandboxBuilder, Snapshot};
use msb_tests::{PATIENCE, within};

use crate::root::image::{app, at_home, load, of, patched};
use crate::root::{prints, removed};

/// A sandbox that begins from a snapshot, yet to be created. Its image has to be here.
pub(crate) fn from(snapshot: &str, name: &str) -> SandboxBuilder {
    Sandbox::builder(name)
        .from_snapshot(snapshot)
        .memory(128u32)
        .pull_policy(PullPolicy::Never)
}

/// Runs a script in a new sandbox and takes a snapshot of what it wrote. The sandbox is stopped then.
async fn prepared(builder: SandboxBuilder, script: &str, snapshot: &str) -> Result<Snapshot> {
    let sandbox = within(builder.create()).await?;
    prints(&sandbox, script).await?;
    within(sandbox.stop_with_timeout(PATIENCE)).await?;
    let taken = Snapshot::builder(sandbox.name()).name(snapshot);
    Ok(within(taken.record_integrity().create()).await?)
}
