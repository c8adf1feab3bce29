//! Describing a sandbox, step by step.
//!
//! Each file has the steps of one concern. What a sandbox may be is said once, in `check`, for those
//! that are described here and for configurations that come from elsewhere.

mod image;
mod lifecycle;
mod network;
mod resources;
mod runtime;
mod storage;

#[cfg(test)]
mod tests;

use msb_types::{Mebibytes, RootfsSource, SandboxConfig};
use tokio::task::JoinHandle;

use super::image::set_upper_size;
use super::{PullProgressHandle, Sandbox, check};
use crate::error::{MicrosandboxError, MicrosandboxResult};
use crate::snapshot;

/// Describes a sandbox. Setters never fail; [`build`](Self::build) and
/// [`create`](Self::create) tell what was wrong first.
#[derive(Clone, Debug)]
pub struct SandboxBuilder {
    config: SandboxConfig,
    image: Option<RootfsSource>,
    upper_size: Option<Mebibytes>,
    snapshot: Option<String>,
    detached: bool,
    /// What was first said that no configuration can hold.
    mistake: Option<String>,
}

impl SandboxBuilder {
    /// A sandbox of this name, with one CPU and 512 MiB of memory.
    pub fn new(name: impl Into<String>) -> Self {
        Self {
            config: SandboxConfig {
                name: name.into(),
                ..SandboxConfig::default()
            },
            image: None,
            upper_size: None,
            snapshot: None,
            detached: false,
            mistake: None,
        }
    }

    fn mistake(&mut self, mistake: String) {
        self.mistake.get_or_insert(mistake);
    }

    /// The configuration, or what is wrong with it.
    pub async fn build(self) -> MicrosandboxResult<SandboxConfig> {
        self.finish()
    }

    fn finish(self) -> MicrosandboxResult<SandboxConfig> {
        if let Some(mistake) = self.mistake {
            return Err(invalid(mistake));
        }
        if let Some(name) = self.snapshot {
            return Err(from_snapshot(&name, &self.config));
        }
        let mut image = self.image.ok_or_else(|| {
            invalid("no image was given; name one with image(\"/path/to/disk.ext4\")")
        })?;
        if let Some(size) = self.upper_size {
            set_upper_size(&mut image, size).map_err(invalid)?;
        }
        let config = SandboxConfig {
            image,
            ..self.config
        };
        check::check(&config)?;
        Ok(config)
    }

    /// Creates and boots the sandbox; it belongs to this program unless it is
    /// [`detached`](Self::detached).
    pub async fn create(self) -> MicrosandboxResult<Sandbox> {
        match self.detached {
            true => self.create_detached().await,
            false => Sandbox::create(self.finish()?).await,
        }
    }

    /// Creates and boots the sandbox; it outlives this program.
    pub async fn create_detached(self) -> MicrosandboxResult<Sandbox> {
        Sandbox::create_detached(self.finish()?).await
    }

    /// Creates and boots the sandbox in a task, as [`create`](Self::create) does, and says how far
    /// its image has come. Must be called in a tokio runtime.
    pub fn create_with_pull_progress(
        self,
    ) -> MicrosandboxResult<(PullProgressHandle, JoinHandle<MicrosandboxResult<Sandbox>>)> {
        let detached = self.detached;
        Ok(Sandbox::pulling(self.finish()?, detached))
    }

    /// The same, for a sandbox that outlives this program.
    pub fn create_detached_with_pull_progress(
        self,
    ) -> MicrosandboxResult<(PullProgressHandle, JoinHandle<MicrosandboxResult<Sandbox>>)> {
        Ok(Sandbox::pulling(self.finish()?, true))
    }
}

impl From<SandboxConfig> for SandboxBuilder {
    fn from(config: SandboxConfig) -> Self {
        Self {
            image: Some(config.image.clone()),
            config,
            ..Self::new("")
        }
    }
}

/// Why there is nothing to begin from.
fn from_snapshot(name: &str, config: &SandboxConfig) -> MicrosandboxError {
    if name.is_empty() || name.contains('\0') {
        return invalid(format!("{name:?} is no snapshot's name, digest or path"));
    }
    if !config.patches.is_empty() {
        return invalid("what begins from a snapshot cannot be changed by patches; leave them out");
    }
    snapshot::unsupported(format!("beginning from the snapshot {name:?}"))
}

fn invalid(message: impl Into<String>) -> MicrosandboxError {
    MicrosandboxError::InvalidConfig(message.into())
}
