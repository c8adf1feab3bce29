//! How the registry of an image is talked to, step by step.

use msb_types::RegistryAuth;

/// Describes how the registry of an image is talked to.
#[derive(Clone, Debug, Default)]
pub struct RegistryConfigBuilder {
    pub(super) auth: Option<RegistryAuth>,
    pub(super) insecure: bool,
    pub(super) ca_certs: Vec<Vec<u8>>,
}

impl RegistryConfigBuilder {
    /// Who pulls. It is never stored.
    #[must_use]
    pub fn auth(mut self, auth: RegistryAuth) -> Self {
        self.auth = Some(auth);
        self
    }

    /// Talks to it without TLS.
    #[must_use]
    pub fn insecure(mut self) -> Self {
        self.insecure = true;
        self
    }

    /// Trusts these authorities to vouch for it, too: PEM.
    #[must_use]
    pub fn ca_certs(mut self, pem: Vec<u8>) -> Self {
        self.ca_certs.push(pem);
        self
    }
}
