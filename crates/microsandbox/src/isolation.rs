//! What stands between a guest that has taken its virtual machine monitor and this host.
//!
//! Before a guest runs, its VMM gives up all that the kernel lets it give up, layer by layer. How far each layer came
//! is in [`SandboxLocalState::isolation`](crate::sandbox::SandboxLocalState::isolation) and
//! [`SandboxHandleLocalState::isolation`](crate::sandbox::SandboxHandleLocalState::isolation), and what is less than
//! all is in the sandbox's log. [`SandboxBuilder::require_isolation`](crate::SandboxBuilder::require_isolation)
//! refuses to start with less than a level; [`of_host`] says beforehand what there will be.

use std::process::Stdio;
use std::time::Duration;

use tokio::io::AsyncReadExt;
use tokio::process::Command;

pub use msb_runtime::isolation::{Isolation, Layer, LayerReport, Requirement, Strength};
use msb_runtime::isolation::{bounded, requirements};
pub use msb_types::IsolationLevel;

use crate::backend::LocalBackend;
use crate::error::{Component, MicrosandboxError, MicrosandboxResult};
use crate::home;

/// How long the VMM may take to try.
const PATIENCE: Duration = Duration::from_secs(30);

/// The longest report that is read, in bytes.
const MAX_REPORT: u64 = 64 << 10;

/// What the VMM of a sandbox has on this host, started by this user: it goes to jail, without a machine, and tells.
/// [`Layer::advice`] says what to do about a layer that is not [`Strength::Full`].
///
/// # Errors
///
/// [`ComponentNotFound`](MicrosandboxError::ComponentNotFound) when the VMM is not installed;
/// [`Runtime`](MicrosandboxError::Runtime) when it cannot shut itself in at all, and so no sandbox starts.
pub async fn of_host() -> MicrosandboxResult<Isolation> {
    let home = LocalBackend::lazy().home()?;
    let mut vmm = Command::new(home::find(Component::Vmm, &home)?)
        .arg("--isolation")
        .env_clear()
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .kill_on_drop(true)
        .spawn()?;
    let failed = |why: &str| {
        MicrosandboxError::Runtime(format!(
            "the VMM cannot say how far its jail comes on this host: {why}; `msb-vmm --isolation` shows more"
        ))
    };
    let told = async {
        let mut text = Vec::new();
        if let Some(out) = vmm.stdout.take() {
            out.take(MAX_REPORT).read_to_end(&mut text).await?;
        }
        Ok::<_, std::io::Error>((text, vmm.wait().await?))
    };
    let (text, status) = match tokio::time::timeout(PATIENCE, told).await {
        Ok(told) => told?,
        Err(_) => return Err(failed("it took too long")),
    };
    if !status.success() {
        return Err(failed(&status.to_string()));
    }
    let layers = serde_json::Deserializer::from_slice(&text).into_iter::<LayerReport>();
    let layers = layers
        .collect::<Result<Vec<_>, _>>()
        .map_err(|error| failed(&error.to_string()))?;
    Ok(bounded(Isolation { layers }))
}

/// What a host that has this lacks for a level, of those layers that it was asked for; nothing when it has it.
pub fn lacking_for(isolation: &Isolation, level: IsolationLevel) -> Vec<LayerReport> {
    let root = rustix::process::geteuid().is_root();
    isolation.unmet(&requirements(level, root)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_lacking_for_a_level_is_named() {
        let nothing = Isolation::default();
        let layers = |level| -> Vec<Layer> {
            lacking_for(&nothing, level)
                .iter()
                .map(|it| it.layer)
                .collect()
        };
        let seccomp = layers(IsolationLevel::Seccomp);
        assert!(seccomp.contains(&Layer::Seccomp) && !seccomp.contains(&Layer::Landlock));
        assert!(layers(IsolationLevel::Landlock).contains(&Layer::Landlock));
        assert!(layers(IsolationLevel::Full).contains(&Layer::EmptyRoot));
    }
}
