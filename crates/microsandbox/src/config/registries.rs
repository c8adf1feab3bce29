//! Registries: who one is to them, and how they are talked to.

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::file::{self, read};
use crate::error::{MicrosandboxError, MicrosandboxResult};

/// What is known of registries.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct RegistriesConfig {
    /// A file with the certificates of authorities that are trusted beside the host's, PEM.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ca_certs: Option<PathBuf>,
    /// Each registry by its name: `ghcr.io`, `localhost:5000`, `docker.io`.
    #[serde(skip_serializing_if = "HashMap::is_empty")]
    pub hosts: HashMap<String, RegistryEntry>,
}

/// What is known of one registry.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct RegistryEntry {
    /// Who one is to it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub auth: Option<RegistryAuthEntry>,
    /// Whether it is talked to without TLS.
    #[serde(skip_serializing_if = "is_false")]
    pub insecure: bool,
}

/// Who one is to a registry, and where the password is: in exactly one of three places.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct RegistryAuthEntry {
    /// The user.
    pub username: String,
    /// It is in a store of credentials.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub store: Option<RegistryCredentialStore>,
    /// It is in an environment variable of this name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub password_env: Option<String>,
    /// It is in the file `<home>/secrets/registries/<secret_name>`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub secret_name: Option<String>,
}

/// Stores of credentials.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum RegistryCredentialStore {
    /// The keyring of the desktop.
    Keyring,
}

#[allow(clippy::trivially_copy_pass_by_ref)]
fn is_false(value: &bool) -> bool {
    !value
}

/// The part of the file that is read here.
#[derive(Default, Deserialize)]
#[serde(default)]
struct File {
    registries: RegistriesConfig,
}

impl RegistriesConfig {
    /// What the file of this home says; nothing if there is none. May block.
    pub(crate) fn read(home: &Path) -> MicrosandboxResult<Self> {
        Self::read_file(&file::path(home))
    }

    fn read_file(path: &Path) -> MicrosandboxResult<Self> {
        Ok(file::parse::<File>(path)?.registries)
    }

    /// The certificates of the authorities. May block.
    pub(crate) fn authorities(&self) -> MicrosandboxResult<Option<Vec<u8>>> {
        let Some(path) = &self.ca_certs else {
            return Ok(None);
        };
        let wrong = |why: String| {
            MicrosandboxError::InvalidConfig(format!(
                "the authorities' certificates {} {why}; see registries.ca_certs in config.json",
                path.display()
            ))
        };
        match read(path) {
            Ok(Some(pem)) => Ok(Some(pem)),
            Ok(None) => Err(wrong("are not there".to_owned())),
            Err(error) => Err(wrong(format!("cannot be read: {error}"))),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_file_is_read_and_what_else_is_in_it_is_left_alone() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("config.json");
        let read = || RegistriesConfig::read_file(&path);
        assert_eq!(read().unwrap(), RegistriesConfig::default());
        let text = r#"{"log_level": "debug", "registries": {"ca_certs": "/ca.pem", "hosts": {
            "localhost:5000": {"insecure": true},
            "ghcr.io": {"auth": {"username": "ann", "store": "keyring"}}}}}"#;
        std::fs::write(&path, text).unwrap();
        let config = read().unwrap();
        assert_eq!(config.ca_certs, Some("/ca.pem".into()));
        assert!(config.hosts["localhost:5000"].insecure);
        let auth = config.hosts["ghcr.io"].auth.as_ref().unwrap();
        assert_eq!(auth.store, Some(RegistryCredentialStore::Keyring));
        for text in [
            "",
            r#"{"registries": 1}"#,
            r#"{"registries": {"hosts": {"a": {"auth": {}}}}}"#,
        ] {
            std::fs::write(&path, text).unwrap();
            let error = read().unwrap_err();
            assert!(error.to_string().contains("config.json"), "{error}");
        }
        std::fs::write(&path, vec![b' '; 2 << 20]).unwrap();
        assert!(read().is_err());
    }

    #[test]
    fn authorities_that_are_named_must_be_there() {
        let dir = tempfile::tempdir().unwrap();
        let mut config = RegistriesConfig::default();
        assert_eq!(config.authorities().unwrap(), None);
        let path = dir.path().join("ca.pem");
        config.ca_certs = Some(path.clone());
        let error = config.authorities().unwrap_err();
        assert!(matches!(error, MicrosandboxError::InvalidConfig(_)));
        std::fs::write(&path, "pem").unwrap();
        assert_eq!(config.authorities().unwrap(), Some(b"pem".to_vec()));
    }
}
