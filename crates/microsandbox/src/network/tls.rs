//! How encrypted traffic is opened.

use std::path::PathBuf;

use msb_types::network::TlsConfig;

/// Describes how a guest's encrypted traffic is opened. To describe it turns it on.
#[derive(Clone, Debug)]
pub struct TlsBuilder {
    config: TlsConfig,
}

impl Default for TlsBuilder {
    fn default() -> Self {
        Self::new()
    }
}

impl TlsBuilder {
    /// Port 443, checking the far end, and with an authority that is made.
    pub fn new() -> Self {
        Self::from_config(TlsConfig::default())
    }

    pub(super) fn from_config(config: TlsConfig) -> Self {
        Self {
            config: TlsConfig {
                enabled: true,
                ..config
            },
        }
    }

    /// Leaves the traffic with these hosts alone: a name, or `*.` and a name.
    #[must_use]
    pub fn bypass(mut self, pattern: impl Into<String>) -> Self {
        self.config.bypass.push(pattern.into());
        self
    }

    /// Whether the far end must have a valid certificate; true when not set.
    #[must_use]
    pub fn verify_upstream(mut self, verify: bool) -> Self {
        self.config.verify_upstream = verify;
        self
    }

    /// The ports where traffic is opened; 443 when not set.
    #[must_use]
    pub fn intercepted_ports(mut self, ports: Vec<u16>) -> Self {
        self.config.intercepted_ports = ports;
        self
    }

    /// Whether QUIC is refused on those ports, so that TCP is used; true when not set.
    #[must_use]
    pub fn block_quic(mut self, block: bool) -> Self {
        self.config.block_quic = block;
        self
    }

    /// Trusts the authorities in this PEM file to vouch for far ends, too.
    #[must_use]
    pub fn upstream_ca_cert(mut self, path: impl Into<PathBuf>) -> Self {
        self.config.upstream_ca_certs.push(path.into());
        self
    }

    /// The certificate of the authority that the guest is shown, a PEM file.
    #[must_use]
    pub fn intercept_ca_cert(mut self, path: impl Into<PathBuf>) -> Self {
        self.config.intercept_ca_cert = Some(path.into());
        self
    }

    /// The key of that authority, a PEM file.
    #[must_use]
    pub fn intercept_ca_key(mut self, path: impl Into<PathBuf>) -> Self {
        self.config.intercept_ca_key = Some(path.into());
        self
    }

    /// The description.
    pub fn build(self) -> TlsConfig {
        self.config
    }
}
