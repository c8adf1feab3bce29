//! Describing this machine's backend, where it is not to be as the environment says.

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use super::LocalBackend;
use crate::config::{RegistriesConfig, RegistryEntry};
use crate::error::MicrosandboxResult;

/// Describes a [`LocalBackend`].
#[derive(Clone, Debug, Default)]
pub struct LocalBackendBuilder {
    home: Option<PathBuf>,
    registries: Registries,
}

/// What is said of registries in the place of `config.json`.
#[derive(Clone, Debug, Default)]
pub(super) struct Registries {
    ca_certs: Option<Option<PathBuf>>,
    hosts: Option<HashMap<String, RegistryEntry>>,
}

impl Registries {
    /// What holds; the file is read for what is not said. May block.
    pub(super) fn resolve(&self, home: &Path) -> MicrosandboxResult<RegistriesConfig> {
        let (ca_certs, hosts) = (self.ca_certs.clone(), self.hosts.clone());
        if let (Some(ca_certs), Some(hosts)) = (&ca_certs, &hosts) {
            return Ok(RegistriesConfig {
                ca_certs: ca_certs.clone(),
                hosts: hosts.clone(),
            });
        }
        let file = RegistriesConfig::read(home)?;
        Ok(RegistriesConfig {
            ca_certs: ca_certs.unwrap_or(file.ca_certs),
            hosts: hosts.unwrap_or(file.hosts),
        })
    }
}

impl LocalBackendBuilder {
    /// The home directory, instead of the one that the environment names.
    #[must_use]
    pub fn home(mut self, home: impl AsRef<Path>) -> Self {
        self.home = Some(home.as_ref().to_path_buf());
        self
    }

    /// The file with the authorities that registries are trusted by beside the host's, PEM, instead of the one
    /// that `config.json` names; `None` for none.
    #[must_use]
    pub fn ca_certs(mut self, path: Option<PathBuf>) -> Self {
        self.registries.ca_certs = Some(path);
        self
    }

    /// What is known of registries, instead of all that `config.json` says of them.
    #[must_use]
    pub fn registry_hosts(mut self, hosts: HashMap<String, RegistryEntry>) -> Self {
        self.registries.hosts = Some(hosts);
        self
    }

    /// Opens it.
    ///
    /// # Errors
    ///
    /// When the home cannot be made, read or written, or its catalog is damaged or of a newer
    /// release.
    pub async fn build(self) -> MicrosandboxResult<LocalBackend> {
        let backend = self.lazy();
        backend.registry().await?;
        Ok(backend)
    }

    /// Leaves the opening to the first call that needs it.
    pub fn lazy(self) -> LocalBackend {
        LocalBackend::new_lazy(self.home, self.registries)
    }
}
