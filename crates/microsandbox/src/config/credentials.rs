//! Who one is to a registry, when nobody says: the places that are asked, one after the other.
//!
//! 1. the keyring of the desktop
//! 2. `config.json`, `registries.hosts[HOST].auth`
//! 3. Docker's configuration
//!
//! A place that has nothing, or cannot be asked, is passed over. One that was named on purpose, in `config.json`,
//! is not: its failure is the caller's.

use std::ffi::OsString;
use std::path::{Component, Path, PathBuf};

use futures::future::BoxFuture;
use msb_image::registry::{Credential, CredentialSource, DockerConfig};
use msb_types::RegistryAuth;

use super::registries::{RegistriesConfig, RegistryAuthEntry, RegistryCredentialStore};
use super::{file, keyring};
use crate::blocking::elsewhere;
use crate::error::{MicrosandboxError, MicrosandboxResult};

/// The places.
pub(crate) struct Sources {
    home: PathBuf,
    docker: Option<DockerConfig>,
    variable: fn(&str) -> Option<OsString>,
    keyring: fn(&str) -> Kept<'_>,
}

/// What the keyring has, or why it has nothing to say.
type Kept<'a> = BoxFuture<'a, Result<Option<RegistryAuth>, String>>;

impl Sources {
    /// Those of this process and its user.
    pub(crate) fn of_user(home: &Path) -> Self {
        Self {
            home: home.to_path_buf(),
            docker: DockerConfig::of_user(),
            variable: |name| std::env::var_os(name),
            keyring: |hostname| Box::pin(keyring::lookup(hostname)),
        }
    }

    /// Who one is to a registry.
    ///
    /// # Errors
    ///
    /// [`InvalidConfig`](MicrosandboxError::InvalidConfig) when the place that `config.json` names for the
    /// password is none, or does not have it.
    pub(crate) async fn credential(
        &self,
        hostname: &str,
        registries: &RegistriesConfig,
    ) -> MicrosandboxResult<Credential> {
        let kept = (self.keyring)(hostname).await;
        match &kept {
            Ok(Some(auth)) => {
                return Ok(Credential::new(CredentialSource::Keyring, auth.clone()));
            }
            Ok(None) => {}
            Err(error) => tracing::debug!(%error, hostname, "the keyring is passed over"),
        }
        let entry = registries.hosts.get(hostname);
        if let Some(auth) = entry.and_then(|entry| entry.auth.as_ref()) {
            let password = self.password(hostname, auth, kept).await;
            let password = password.map_err(|why| {
                MicrosandboxError::InvalidConfig(format!(
                    "registries.hosts[{hostname:?}].auth in config.json {why}"
                ))
            })?;
            let auth = RegistryAuth::Basic {
                username: auth.username.clone(),
                password,
            };
            return Ok(Credential::new(CredentialSource::Config, auth));
        }
        if let Some(docker) = &self.docker {
            match docker.credential(hostname).await {
                Ok(Some(credential)) => return Ok(credential),
                Ok(None) => {}
                Err(error) => {
                    tracing::warn!(%error, hostname, "Docker's credentials are passed over")
                }
            }
        }
        Ok(Credential::anonymous())
    }

    /// The password of an entry, or what is wrong with it.
    async fn password(
        &self,
        hostname: &str,
        entry: &RegistryAuthEntry,
        kept: Result<Option<RegistryAuth>, String>,
    ) -> Result<String, String> {
        match (entry.store, &entry.password_env, &entry.secret_name) {
            (Some(RegistryCredentialStore::Keyring), None, None) => match kept {
                Err(error) => Err(format!("names the keyring: {error}")),
                Ok(_) => Err(format!(
                    "names the keyring, which has nothing for {hostname}; store it with \
                     config::set_registry_keyring_auth()"
                )),
            },
            (None, Some(variable), None) => match (self.variable)(variable) {
                Some(password) => password.into_string().map_err(|_| {
                    format!("names the environment variable {variable:?}, which is no text")
                }),
                None => Err(format!(
                    "names the environment variable {variable:?}, which is not set"
                )),
            },
            (None, None, Some(name)) => self.secret(name).await,
            (None, None, None) => {
                Err("has no password; say store, password_env or secret_name".to_owned())
            }
            _ => Err("names several places for the password; leave one".to_owned()),
        }
    }

    async fn secret(&self, name: &str) -> Result<String, String> {
        let mut parts = Path::new(name).components();
        let plain = matches!((parts.next(), parts.next()), (Some(Component::Normal(only)), None) if only == name);
        if !plain {
            return Err(format!(
                "has the secret_name {name:?}, which is no file's name"
            ));
        }
        let path = self.home.join("secrets").join("registries").join(name);
        let wrong = |why: &str| format!("names the secret {name:?}, and {} {why}", path.display());
        let read = path.clone();
        let read = elsewhere(move || file::read(&read)).await;
        let bytes = read
            .map_err(|error| error.to_string())?
            .map_err(|error| wrong(&format!("cannot be read: {error}")))?;
        let bytes = bytes.ok_or_else(|| wrong("is not there"))?;
        // The error would have the bytes.
        let text = String::from_utf8(bytes).map_err(|_| wrong("is no text"))?;
        Ok(text.trim().to_owned())
    }
}

#[cfg(test)]
#[path = "credentials_tests.rs"]
mod tests;
