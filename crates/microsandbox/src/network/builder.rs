//! A sandbox's network, step by step.

use std::net::{IpAddr, Ipv4Addr};

use ipnetwork::{Ipv4Network, Ipv6Network};
use msb_types::network::{
    BuildError, InterfaceOverrides, NetworkPolicy, NetworkSpec, PortProtocol, PublishedPort,
};

use super::{DnsBuilder, SecretBuilder, SecretEntry, TlsBuilder, ViolationActionBuilder};

/// Describes what network a sandbox has. Setters never fail; [`build`](Self::build) tells what was
/// wrong.
#[derive(Clone, Debug, Default)]
pub struct NetworkBuilder {
    network: NetworkSpec,
}

impl NetworkBuilder {
    /// One that reaches public addresses, and nothing else.
    pub fn new() -> Self {
        Self::default()
    }

    /// One like this.
    pub fn from_config(network: NetworkSpec) -> Self {
        Self { network }
    }

    /// Whether there is one; true when not set.
    #[must_use]
    pub fn enabled(mut self, enabled: bool) -> Self {
        self.network.enabled = enabled;
        self
    }

    /// Publishes a TCP port of the guest on this host's loopback address.
    #[must_use]
    pub fn port(self, host_port: u16, guest_port: u16) -> Self {
        self.port_bind(Ipv4Addr::LOCALHOST.into(), host_port, guest_port)
    }

    /// Publishes a UDP port of the guest on this host's loopback address.
    #[must_use]
    pub fn port_udp(self, host_port: u16, guest_port: u16) -> Self {
        self.port_udp_bind(Ipv4Addr::LOCALHOST.into(), host_port, guest_port)
    }

    /// Publishes a TCP port of the guest on this address of the host.
    #[must_use]
    pub fn port_bind(self, host_bind: IpAddr, host_port: u16, guest_port: u16) -> Self {
        self.publish(host_bind, host_port, guest_port, PortProtocol::Tcp)
    }

    /// Publishes a UDP port of the guest on this address of the host.
    #[must_use]
    pub fn port_udp_bind(self, host_bind: IpAddr, host_port: u16, guest_port: u16) -> Self {
        self.publish(host_bind, host_port, guest_port, PortProtocol::Udp)
    }

    fn publish(
        mut self,
        host_bind: IpAddr,
        host_port: u16,
        guest_port: u16,
        protocol: PortProtocol,
    ) -> Self {
        self.network.ports.push(PublishedPort {
            host_bind,
            host_port,
            guest_port,
            protocol,
        });
        self
    }

    /// What may be reached, and from where.
    #[must_use]
    pub fn policy(mut self, policy: NetworkPolicy) -> Self {
        self.network.policy = policy;
        self
    }

    /// How names are looked up.
    #[must_use]
    pub fn dns(mut self, f: impl FnOnce(DnsBuilder) -> DnsBuilder) -> Self {
        let before = std::mem::take(&mut self.network.dns);
        self.network.dns = f(DnsBuilder::from_config(before)).into_config();
        self
    }

    /// How encrypted traffic is opened; that it is, too.
    #[must_use]
    pub fn tls(mut self, f: impl FnOnce(TlsBuilder) -> TlsBuilder) -> Self {
        let before = std::mem::take(&mut self.network.tls);
        self.network.tls = f(TlsBuilder::from_config(before)).build();
        self
    }

    /// Gives the guest a secret to use and not to see.
    #[must_use]
    pub fn secret(self, f: impl FnOnce(SecretBuilder) -> SecretBuilder) -> Self {
        self.secret_entry(f(SecretBuilder::new()).build())
    }

    /// Gives the guest a secret to use and not to see. Encrypted traffic is opened for that.
    #[must_use]
    pub fn secret_entry(mut self, entry: SecretEntry) -> Self {
        self.network.secrets.secrets.push(entry);
        self.network.tls.enabled = true;
        self
    }

    /// Gives the guest a secret, which one host may have.
    #[must_use]
    pub fn secret_env(
        self,
        env_var: impl Into<String>,
        value: impl Into<String>,
        placeholder: impl Into<String>,
        allowed_host: impl Into<String>,
    ) -> Self {
        self.secret(|secret| {
            secret
                .env(env_var)
                .value(value)
                .placeholder(placeholder)
                .allow_host(allowed_host)
        })
    }

    /// What happens when a secret is sent where it may not go.
    #[must_use]
    pub fn on_secret_violation(
        mut self,
        f: impl FnOnce(ViolationActionBuilder) -> ViolationActionBuilder,
    ) -> Self {
        self.network.secrets.on_violation = f(ViolationActionBuilder::new()).build();
        self
    }

    /// The most connections at once; 256 when not set.
    #[must_use]
    pub fn max_connections(mut self, max: usize) -> Self {
        self.network.max_connections = Some(max);
        self
    }

    /// What the guest's interface is given, rather than what is derived.
    #[must_use]
    pub fn interface(mut self, overrides: InterfaceOverrides) -> Self {
        self.network.interface = overrides;
        self
    }

    /// What the guests' IPv4 subnets are taken from, `172.16.0.0/12` when not set.
    #[must_use]
    pub fn ipv4_pool(mut self, pool: Ipv4Network) -> Self {
        self.network.interface.ipv4_pool = Some(pool);
        self
    }

    /// What the guests' IPv6 prefixes are taken from, `fd42:6d73:62::/48` when not set.
    #[must_use]
    pub fn ipv6_pool(mut self, pool: Ipv6Network) -> Self {
        self.network.interface.ipv6_pool = Some(pool);
        self
    }

    /// Whether the guest trusts the authorities that the host trusts; false when not set.
    #[must_use]
    pub fn trust_host_cas(mut self, enabled: bool) -> Self {
        self.network.trust_host_cas = enabled;
        self
    }

    /// The network, or what is wrong with it.
    pub fn build(self) -> Result<NetworkSpec, BuildError> {
        self.network.validate()?;
        Ok(self.network)
    }

    /// The network, be it right or wrong: who takes it says so.
    pub(crate) fn into_spec(self) -> NetworkSpec {
        self.network
    }
}
