//! What network it has.

use std::net::IpAddr;

use msb_types::{NetworkSpec, SecretEntry};

use super::SandboxBuilder;
use crate::network::{NetworkBuilder, SecretBuilder};

impl SandboxBuilder {
    /// It has none.
    #[must_use]
    pub fn disable_network(mut self) -> Self {
        let disabled = NetworkSpec::disabled();
        self.config.network.enabled = disabled.enabled;
        self.config.network.policy = disabled.policy;
        self
    }

    /// Describes it. What was described before stays.
    #[must_use]
    pub fn network(mut self, f: impl FnOnce(NetworkBuilder) -> NetworkBuilder) -> Self {
        let before = std::mem::take(&mut self.config.network);
        self.config.network = f(NetworkBuilder::from_config(before)).into_spec();
        self
    }

    /// Publishes a TCP port of the guest on this host's loopback address.
    #[must_use]
    pub fn port(self, host_port: u16, guest_port: u16) -> Self {
        self.network(|network| network.port(host_port, guest_port))
    }

    /// Publishes a TCP port of the guest on this address of the host.
    #[must_use]
    pub fn port_bind(self, host_bind: IpAddr, host_port: u16, guest_port: u16) -> Self {
        self.network(|network| network.port_bind(host_bind, host_port, guest_port))
    }

    /// Publishes a UDP port of the guest on this host's loopback address.
    #[must_use]
    pub fn port_udp(self, host_port: u16, guest_port: u16) -> Self {
        self.network(|network| network.port_udp(host_port, guest_port))
    }

    /// Publishes a UDP port of the guest on this address of the host.
    #[must_use]
    pub fn port_udp_bind(self, host_bind: IpAddr, host_port: u16, guest_port: u16) -> Self {
        self.network(|network| network.port_udp_bind(host_bind, host_port, guest_port))
    }

    /// Gives the guest a secret to use and not to see. Its value is never stored.
    #[must_use]
    pub fn secret(self, f: impl FnOnce(SecretBuilder) -> SecretBuilder) -> Self {
        self.network(|network| network.secret(f))
    }

    /// Gives the guest a secret to use and not to see. Its value is never stored.
    #[must_use]
    pub fn secret_entry(self, entry: SecretEntry) -> Self {
        self.network(|network| network.secret_entry(entry))
    }

    /// Gives the guest a secret, which one host may have. Its value is never stored.
    #[must_use]
    pub fn secret_env(
        self,
        env_var: impl Into<String>,
        value: impl Into<String>,
        allowed_host: impl Into<String>,
    ) -> Self {
        self.secret(|secret| secret.env(env_var).value(value).allow_host(allowed_host))
    }
}
