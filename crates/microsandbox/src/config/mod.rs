//! What this library is told once for all sandboxes of a home: `config.json`.
//!
//! The file is `<home>/config.json`, or the one that `MSB_CONFIG_PATH` names. What is read of it here is about
//! registries, and the size of writable layers over OCI images where a sandbox does not say it:
//!
//! ```json
//! {
//!   "oci": { "upper_size_mib": 8192 },
//!   "registries": {
//!     "ca_certs": "/etc/ssl/company.pem",
//!     "hosts": {
//!       "localhost:5000": { "insecure": true },
//!       "ghcr.io": { "auth": { "username": "ann", "password_env": "GHCR_TOKEN" } }
//!     }
//!   }
//! }
//! ```
//!
//! Passwords are not in it: they are in the keyring of the desktop ([`set_registry_keyring_auth`]), in an
//! environment variable, or in a file of their own, `<home>/secrets/registries/<name>`.

mod credentials;
mod file;
mod keyring;
mod oci;
mod registries;

pub(crate) use credentials::Sources;
pub use keyring::{
    delete_registry_keyring_auth, get_registry_keyring_auth, set_registry_keyring_auth,
};
pub(crate) use oci::upper_size_mib;
pub use registries::{RegistriesConfig, RegistryAuthEntry, RegistryCredentialStore, RegistryEntry};
