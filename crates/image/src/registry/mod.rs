//! Pulling: from a reference to an image in the store.
//!
//! ```text
//! reference ──resolve──> manifest, configuration        by digest, from the registry
//! manifest ───blob─────> blobs                          four at once, each gone on with after a cut
//! blobs ──────store────> layers, image, reference       what the rest of this crate does
//! ```
//!
//! A registry is a stranger: each document has a limit, each wait a deadline, each byte is hashed before it is
//! believed. What goes wrong on the way and may pass (a cut, a silence, "too many requests", "server error") is
//! tried again a few times; what comes of it otherwise is a [`RegistryError`] that says what to do.

mod blob;
mod client;
mod credential;
mod document;
mod error;
mod outcome;
mod pull;
mod refusal;
mod resolve;
#[cfg(any(test, feature = "testing"))]
pub mod testing;
#[cfg(test)]
mod tests;
mod timing;
mod tls;
mod token;

pub use client::{RegistryOptions, Repository};
pub use credential::{Credential, CredentialSource, DockerConfig, DockerError};
#[cfg(feature = "keyring")]
pub use credential::{Keyring, KeyringError};
pub use error::RegistryError;
pub use pull::{Progress, Pull, PullError, PullEvent, Pulled};
pub use timing::Timing;
