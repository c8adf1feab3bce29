//! Registries' credentials in the keyring of the desktop (`org.freedesktop.secrets`).
//!
//! These calls wait for the keyring, and for a person to unlock it if need be, for two minutes at most.

use std::thread;

use msb_types::RegistryAuth;

use crate::error::{MicrosandboxError, MicrosandboxResult};

/// Stores the credentials for a registry, in the place of those that are there. Pulls from there use them from
/// now on, unless they are given others.
///
/// # Errors
///
/// [`Custom`](MicrosandboxError::Custom) when there is no keyring, or it stays locked.
pub fn set_registry_keyring_auth(
    hostname: &str,
    username: &str,
    password: &str,
) -> MicrosandboxResult<()> {
    keyring(async |keyring: Ring| keyring.set(hostname, username, password).await)
}

/// The credentials for a registry that are in the keyring.
///
/// # Errors
///
/// As [`set_registry_keyring_auth`].
pub fn get_registry_keyring_auth(hostname: &str) -> MicrosandboxResult<Option<RegistryAuth>> {
    keyring(async |keyring: Ring| keyring.get(hostname).await)
}

/// Deletes the credentials for a registry. It is fine when there are none.
///
/// # Errors
///
/// As [`set_registry_keyring_auth`].
pub fn delete_registry_keyring_auth(hostname: &str) -> MicrosandboxResult<()> {
    keyring(async |keyring: Ring| keyring.delete(hostname).await)
}

#[cfg(feature = "keyring")]
use msb_image::registry::{Keyring as Ring, KeyringError as RingError};

#[cfg(not(feature = "keyring"))]
use absent::{Ring, RingError};

/// Does something with the keyring in a thread of its own: the caller may be in an event loop, in which another
/// must not run.
fn keyring<T: Send>(
    work: impl AsyncFnOnce(Ring) -> Result<T, RingError> + Send,
) -> MicrosandboxResult<T> {
    let done = thread::scope(|scope| {
        let thread = thread::Builder::new().spawn_scoped(scope, || {
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build()?;
            Ok(runtime.block_on(work(Ring)))
        });
        let joined = thread?.join();
        joined.unwrap_or_else(|_| Err(std::io::Error::other("the keyring's thread ended early")))
    });
    done.map_err(MicrosandboxError::Io)?
        .map_err(|error| MicrosandboxError::Custom(error.to_string()))
}

/// What there is without the feature `keyring`.
#[cfg(not(feature = "keyring"))]
mod absent {
    use msb_types::RegistryAuth;

    #[derive(Clone, Copy, Debug)]
    pub(super) struct Ring;

    #[derive(Clone, Copy, Debug, thiserror::Error)]
    #[error("this program was built without the keyring; build it with the feature `keyring`")]
    pub(super) struct RingError;

    impl Ring {
        pub(super) async fn set(self, _: &str, _: &str, _: &str) -> Result<(), RingError> {
            Err(RingError)
        }

        pub(super) async fn get(self, _: &str) -> Result<Option<RegistryAuth>, RingError> {
            Err(RingError)
        }

        pub(super) async fn delete(self, _: &str) -> Result<(), RingError> {
            Err(RingError)
        }
    }
}

/// What the keyring has for a registry, for a pull.
pub(super) async fn lookup(hostname: &str) -> Result<Option<RegistryAuth>, String> {
    Ring.get(hostname).await.map_err(|error| error.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Where there is a keyring it has nothing, and where there is none that is said; within an event loop or not.
    #[test]
    fn the_keyring_answers_or_is_not_there() {
        let asked = || match get_registry_keyring_auth("nobody.invalid") {
            Ok(found) => assert_eq!(found, None),
            Err(error) => assert!(matches!(error, MicrosandboxError::Custom(_)), "{error:?}"),
        };
        asked();
        let runtime = tokio::runtime::Builder::new_current_thread()
            .build()
            .unwrap();
        runtime.block_on(async { asked() });
    }
}
