//! Who one is to a registry, and from where that is known.
//!
//! A value is shown to the registry and to the token service that the registry names, and to nobody else: not
//! to a log, not in an error, not by `Debug`. Where it came from is no secret, and helps who is refused.

mod docker;
#[cfg(feature = "keyring")]
mod keyring;

#[cfg(any(test, feature = "testing"))]
pub(super) use docker::read_hostile;

use std::fmt;

use msb_types::RegistryAuth;
use zeroize::Zeroizing;

pub use docker::{DockerConfig, DockerError};
#[cfg(feature = "keyring")]
pub use keyring::{Keyring, KeyringError};

/// Where credentials came from.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum CredentialSource {
    /// There are none.
    Anonymous,
    /// They were given with the image.
    Given,
    /// The secret service of the desktop.
    Keyring,
    /// The configuration of this library.
    Config,
    /// Docker's configuration, or a program that it names.
    Docker,
}

impl fmt::Display for CredentialSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Anonymous => "somebody without credentials",
            Self::Given => "the credentials that were given",
            Self::Keyring => "the credentials of the keyring",
            Self::Config => "the credentials of config.json",
            Self::Docker => "the credentials of Docker's configuration",
        })
    }
}

/// Credentials for one registry.
#[derive(Clone, PartialEq, Eq)]
pub struct Credential {
    source: CredentialSource,
    pub(super) secret: Secret,
}

#[derive(Clone, PartialEq, Eq)]
pub(super) enum Secret {
    None,
    Password {
        username: String,
        password: Zeroizing<String>,
    },
    /// What stands for a login and buys tokens (OAuth 2, "refresh token").
    Identity(Zeroizing<String>),
}

impl Credential {
    /// Nobody in particular.
    pub fn anonymous() -> Self {
        Self {
            source: CredentialSource::Anonymous,
            secret: Secret::None,
        }
    }

    /// What was told of it, by whom.
    pub fn new(source: CredentialSource, auth: RegistryAuth) -> Self {
        let secret = match auth {
            RegistryAuth::Anonymous => Secret::None,
            RegistryAuth::Basic { username, password } => Secret::Password {
                username,
                password: Zeroizing::new(password),
            },
        };
        Self { source, secret }
    }

    fn identity(source: CredentialSource, token: String) -> Self {
        Self {
            source,
            secret: Secret::Identity(Zeroizing::new(token)),
        }
    }

    /// Where they came from.
    pub fn source(&self) -> &CredentialSource {
        &self.source
    }
}

impl fmt::Debug for Credential {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Credential")
            .field("source", &self.source)
            .finish_non_exhaustive()
    }
}
