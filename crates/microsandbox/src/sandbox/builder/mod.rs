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

use std::sync::Arc;

use msb_types::{Mebibytes, RootfsSource, SandboxConfig};
use tokio::task::JoinHandle;

use super::image::set_upper_size;
use super::{PullProgressHandle, Sandbox, check};
use crate::backend::{Backend, default_backend};
use crate::error::{MicrosandboxError, MicrosandboxResult};

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
    ///
    /// A snapshot to begin from is looked up now, in the ambient backend: the configuration names the image that
    /// it pins, by its digest.
    pub async fn build(self) -> MicrosandboxResult<SandboxConfig> {
        self.build_on(&default_backend()).await
    }

    async fn build_on(mut self, backend: &Arc<dyn Backend>) -> MicrosandboxResult<SandboxConfig> {
        if let Some(snapshot) = self.beginning()? {
            let found = crate::snapshot::local(backend)?
                .beginning(&snapshot)
                .await?;
            let upper_mib = match self.upper_size.take() {
                Some(asked) if asked.as_u32() < found.upper_mib => {
                    return Err(invalid(format!(
                        "a writable layer of {} MiB is too small for the snapshot {snapshot:?}, whose own has {}",
                        asked.as_u32(),
                        found.upper_mib
                    )));
                }
                Some(asked) => asked.as_u32(),
                None => found.upper_mib,
            };
            self.image = Some(RootfsSource::Oci {
                reference: found.reference,
                upper_size_mib: Some(upper_mib),
            });
            self.config.manifest_digest = Some(found.manifest_digest);
            self.config.snapshot_upper_source = Some(found.upper);
        }
        self.finish()
    }

    /// The snapshot to begin from, if there is one and what else was said goes with it.
    fn beginning(&mut self) -> MicrosandboxResult<Option<String>> {
        if let Some(mistake) = self.mistake.take() {
            return Err(invalid(mistake));
        }
        let Some(snapshot) = self.snapshot.take() else {
            return Ok(None);
        };
        if snapshot.is_empty() || snapshot.contains('\0') {
            return Err(invalid(format!(
                "{snapshot:?} is no snapshot's name, digest or path"
            )));
        }
        if self.image.is_some() {
            return Err(invalid(
                "a sandbox begins from an image or from a snapshot, which has its own; give one of the two",
            ));
        }
        if !self.config.patches.is_empty() {
            return Err(invalid(
                "what begins from a snapshot cannot be changed by patches; leave them out",
            ));
        }
        Ok(Some(snapshot))
    }

    fn finish(self) -> MicrosandboxResult<SandboxConfig> {
        if let Some(mistake) = self.mistake {
            return Err(invalid(mistake));
        }
        let mut image = self.image.ok_or_else(|| {
            invalid("no image was given; name one, as in image(\"python:3.12\"), or a snapshot with from_snapshot()")
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
            false => Sandbox::create(self.build().await?).await,
        }
    }

    /// Creates and boots the sandbox; it outlives this program.
    pub async fn create_detached(self) -> MicrosandboxResult<Sandbox> {
        Sandbox::create_detached(self.build().await?).await
    }

    /// Creates and boots the sandbox in a task, as [`create`](Self::create) does, and says how far
    /// its image has come. Must be called in a tokio runtime.
    pub fn create_with_pull_progress(
        self,
    ) -> MicrosandboxResult<(PullProgressHandle, JoinHandle<MicrosandboxResult<Sandbox>>)> {
        let detached = self.detached;
        self.pulling(detached)
    }

    /// The same, for a sandbox that outlives this program.
    pub fn create_detached_with_pull_progress(
        self,
    ) -> MicrosandboxResult<(PullProgressHandle, JoinHandle<MicrosandboxResult<Sandbox>>)> {
        self.pulling(true)
    }

    /// What can be told at once is; a snapshot is looked up in the task.
    fn pulling(
        mut self,
        detached: bool,
    ) -> MicrosandboxResult<(PullProgressHandle, JoinHandle<MicrosandboxResult<Sandbox>>)> {
        match self.beginning()? {
            None => Ok(Sandbox::pulling(self.finish()?, detached)),
            Some(snapshot) => {
                self.snapshot = Some(snapshot);
                let backend = default_backend();
                let built = async move { self.build_on(&backend).await };
                Ok(Sandbox::pulling_built(built, detached))
            }
        }
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

fn invalid(message: impl Into<String>) -> MicrosandboxError {
    MicrosandboxError::InvalidConfig(message.into())
}
