//! The desktop's secret service (GNOME Keyring, KWallet, KeePassXC), by D-Bus.
//!
//! An entry is found by the attributes that the `keyring` crate gives its own, so those that other programs
//! stored for this library are found as well. That crate blocks without a deadline, and a keyring that is
//! locked asks a person; so what is behind it, `secret-service`, is used as it is, in a future that can be
//! dropped.

use std::collections::HashMap;
use std::time::Duration;

use msb_types::RegistryAuth;
use secret_service::{EncryptionType, Error, Item, SecretService};
use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

/// What all entries of this library are filed under.
const SERVICE: &str = "dev.microsandbox.registry";

/// How long the service may take for what it does by itself.
const CALL: Duration = Duration::from_secs(10);

/// How long a person may take to unlock it.
const PERSON: Duration = Duration::from_secs(120);

/// The longest secret that is read, in bytes.
const MAX_SECRET: usize = 1 << 20;

/// The desktop's secret service.
#[derive(Clone, Copy, Debug)]
pub struct Keyring;

/// The secret service was of no help.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum KeyringError {
    /// There is none.
    #[error(
        "there is no keyring: no secret service runs in this session; name the password's place in \
         config.json, or use `docker login`"
    )]
    Unavailable,
    /// It does not answer.
    #[error("the keyring does not answer; is somebody to unlock it?")]
    Silent,
    /// Nobody unlocked it.
    #[error("the keyring is locked; unlock it")]
    Locked,
    /// What it has is not of this library.
    #[error("the keyring's entry for {registry} is not one of this library; delete it")]
    Malformed {
        /// The registry.
        registry: String,
    },
    /// It refused.
    #[error("the keyring refused: {0}")]
    Refused(String),
}

#[derive(Serialize, Deserialize)]
struct Entry {
    username: String,
    password: Zeroizing<String>,
}

impl Keyring {
    /// The credentials for a registry.
    ///
    /// # Errors
    ///
    /// [`KeyringError`].
    pub async fn get(self, registry: &str) -> Result<Option<RegistryAuth>, KeyringError> {
        let service = connect().await?;
        let Some(item) = find(&service, registry).await?.into_iter().next() else {
            return Ok(None);
        };
        // It asks a person only when there is something to be had.
        unlock(&item).await?;
        let secret = Zeroizing::new(within(CALL, item.get_secret()).await?);
        let malformed = || KeyringError::Malformed {
            registry: registry.to_owned(),
        };
        if secret.len() > MAX_SECRET {
            return Err(malformed());
        }
        let entry: Entry = serde_json::from_slice(&secret).map_err(|_| malformed())?;
        Ok(Some(RegistryAuth::Basic {
            username: entry.username,
            password: entry.password.to_string(),
        }))
    }

    /// Stores the credentials for a registry, in the place of those that are there.
    ///
    /// # Errors
    ///
    /// [`KeyringError`].
    pub async fn set(
        self,
        registry: &str,
        username: &str,
        password: &str,
    ) -> Result<(), KeyringError> {
        let entry = Entry {
            username: username.to_owned(),
            password: Zeroizing::new(password.to_owned()),
        };
        let refused = |error: serde_json::Error| KeyringError::Refused(error.to_string());
        let secret = Zeroizing::new(serde_json::to_vec(&entry).map_err(refused)?);
        let service = connect().await?;
        let collection = within(CALL, service.get_any_collection()).await?;
        within(PERSON, collection.unlock()).await?;
        let mut attributes = attributes(registry);
        attributes.insert("target", "default");
        let label = format!("{registry} (microsandbox)");
        let created = collection.create_item(&label, attributes, &secret, true, "application/json");
        within(PERSON, created).await.map(drop)
    }

    /// Deletes the credentials for a registry. It is fine when there are none.
    ///
    /// # Errors
    ///
    /// [`KeyringError`].
    pub async fn delete(self, registry: &str) -> Result<(), KeyringError> {
        let service = connect().await?;
        for item in find(&service, registry).await? {
            unlock(&item).await?;
            within(PERSON, item.delete()).await?;
        }
        Ok(())
    }
}

/// Has a person unlock what is locked.
async fn unlock(item: &Item<'_>) -> Result<(), KeyringError> {
    match within(CALL, item.is_locked()).await? {
        true => within(PERSON, item.unlock()).await,
        false => Ok(()),
    }
}

async fn connect() -> Result<SecretService<'static>, KeyringError> {
    match within(CALL, SecretService::connect(EncryptionType::Dh)).await {
        // There is no bus, or nobody on it who keeps secrets.
        Err(KeyringError::Refused(detail)) => {
            tracing::debug!(%detail, "there is no keyring");
            Err(KeyringError::Unavailable)
        }
        connected => connected,
    }
}

/// The entries of a registry, those first that are not locked.
async fn find<'a>(
    service: &'a SecretService<'a>,
    registry: &str,
) -> Result<Vec<Item<'a>>, KeyringError> {
    let found = within(CALL, service.search_items(attributes(registry))).await?;
    Ok(found.unlocked.into_iter().chain(found.locked).collect())
}

fn attributes(registry: &str) -> HashMap<&str, &str> {
    HashMap::from([("service", SERVICE), ("username", registry)])
}

async fn within<T>(
    limit: Duration,
    call: impl Future<Output = Result<T, Error>>,
) -> Result<T, KeyringError> {
    match tokio::time::timeout(limit, call).await {
        Err(_) => Err(KeyringError::Silent),
        Ok(Ok(done)) => Ok(done),
        Ok(Err(Error::Unavailable)) => Err(KeyringError::Unavailable),
        Ok(Err(Error::Locked | Error::Prompt | Error::PromptDisconnected)) => {
            Err(KeyringError::Locked)
        }
        Ok(Err(error)) => Err(KeyringError::Refused(super::super::outcome::cut(
            &error.to_string(),
        ))),
    }
}
