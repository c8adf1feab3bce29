//! Sandboxes of this machine.
//!
//! All state is in the home: the catalog, the sandboxes' directories, and the run directories of
//! those that run. Any number of programs share one home, each through its own backend.

mod builder;
mod control;
mod images;
mod link;
mod sandboxes;
pub(crate) mod snapshots;
mod wait;

pub use builder::LocalBackendBuilder;
use builder::Registries;
pub(crate) use link::{End, Link};

use std::path::PathBuf;
use std::sync::{Arc, OnceLock};

use msb_runtime::registry::{Registry, RegistryError};
use msb_runtime::rundir::RunDir;
use msb_runtime::sandbox_dir::SandboxDir;
use tokio::sync::OnceCell;

use super::{Backend, BackendKind, SandboxBackend};
use crate::blocking::elsewhere;
use crate::error::{MicrosandboxError, MicrosandboxResult};
use crate::home;

/// This machine's sandboxes.
#[derive(Clone, Debug)]
pub struct LocalBackend {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    /// `None`: where the environment says, once it is needed.
    asked: Option<PathBuf>,
    registries: Registries,
    home: OnceLock<PathBuf>,
    registry: OnceCell<Registry>,
}

impl LocalBackend {
    /// The home that the environment names, looked at when it is first needed.
    pub fn lazy() -> Self {
        Self::builder().lazy()
    }

    /// The home that the environment names, opened now.
    pub async fn new() -> MicrosandboxResult<Self> {
        Self::builder().build().await
    }

    /// Describes another.
    pub fn builder() -> LocalBackendBuilder {
        LocalBackendBuilder::default()
    }

    fn new_lazy(asked: Option<PathBuf>, registries: Registries) -> Self {
        Self {
            shared: Arc::new(Shared {
                asked,
                registries,
                home: OnceLock::new(),
                registry: OnceCell::new(),
            }),
        }
    }

    /// The home directory.
    pub fn home(&self) -> MicrosandboxResult<PathBuf> {
        if let Some(home) = self.shared.home.get() {
            return Ok(home.clone());
        }
        let home = match &self.shared.asked {
            Some(home) => std::path::absolute(home)?,
            None => home::home()?,
        };
        Ok(self.shared.home.get_or_init(|| home).clone())
    }

    /// The directory with the sandboxes' own directories.
    pub fn sandboxes_dir(&self) -> MicrosandboxResult<PathBuf> {
        Ok(self.home()?.join("sandboxes"))
    }

    /// Makes the catalog anew from the sandboxes' directories, for when it is damaged. Sandboxes
    /// that run go on; the damaged file is kept beside the new one.
    pub async fn rebuild_catalog(&self) -> MicrosandboxResult<()> {
        let home = self.home()?;
        blocking(move || Registry::rebuild(&home).map(drop)).await
    }

    pub(crate) async fn registry(&self) -> MicrosandboxResult<&Registry> {
        self.shared
            .registry
            .get_or_try_init(|| async {
                let home = self.home()?;
                blocking(move || Registry::open(&home)).await
            })
            .await
    }

    /// Looks something up in the registry, on a thread that may block.
    async fn look<T: Send + 'static>(
        &self,
        look: impl FnOnce(&Registry) -> Result<T, RegistryError> + Send + 'static,
    ) -> MicrosandboxResult<T> {
        let registry = self.registry().await?.clone();
        blocking(move || look(&registry)).await
    }

    pub(crate) fn run_dir(&self, name: &str) -> MicrosandboxResult<RunDir> {
        Ok(RunDir::of(&self.home()?, name))
    }

    pub(crate) fn sandbox_dir(&self, name: &str) -> MicrosandboxResult<SandboxDir> {
        Ok(SandboxDir::of(&self.home()?, name))
    }
}

impl Backend for LocalBackend {
    fn kind(&self) -> BackendKind {
        BackendKind::Local
    }

    fn sandboxes(&self) -> &dyn SandboxBackend {
        self
    }

    fn as_local(&self) -> Option<&LocalBackend> {
        Some(self)
    }
}

/// Runs what may block, elsewhere.
async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, RegistryError> + Send + 'static,
) -> MicrosandboxResult<T> {
    let done = elsewhere(work).await?;
    done.map_err(|error| MicrosandboxError::Database(error.into()))
}
