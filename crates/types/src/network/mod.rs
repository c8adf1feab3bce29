//! What network a sandbox has.
//!
//! Plain data: what may be reached is a [`NetworkPolicy`], names are looked up by [`DnsConfig`],
//! encrypted traffic is opened by [`TlsConfig`], and what the host publishes is a list of
//! [`PublishedPort`]s.

mod build_error;
mod check;
mod domain;
mod nameserver;
mod policy;
mod policy_builder;
mod rule;

pub use build_error::BuildError;
pub use domain::{DomainName, DomainNameError};
pub use nameserver::{Nameserver, ParseNameserverError};
pub use policy::{
    Action, Destination, DestinationGroup, Direction, NetworkPolicy, PortRange, Protocol, Rule,
};
pub use policy_builder::NetworkPolicyBuilder;
pub use rule::{RuleBuilder, RuleDestinationBuilder};

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::path::PathBuf;

use ipnetwork::{Ipv4Network, Ipv6Network};
use serde::{Deserialize, Serialize};

use crate::secret::SecretsConfig;

/// The most connections of one sandbox at once, when nobody says.
pub const DEFAULT_MAX_CONNECTIONS: usize = 256;

/// What network a sandbox has.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct NetworkSpec {
    /// Whether it has one.
    pub enabled: bool,
    /// What its interface is given, rather than what is derived.
    pub interface: InterfaceOverrides,
    /// What the host publishes.
    pub ports: Vec<PublishedPort>,
    /// What may be reached, and from where.
    pub policy: NetworkPolicy,
    /// How names are looked up.
    pub dns: DnsConfig,
    /// How encrypted traffic is opened.
    pub tls: TlsConfig,
    /// What the guest may use and not see.
    pub secrets: SecretsConfig,
    /// The most connections at once; 256 when not given.
    pub max_connections: Option<usize>,
    /// Whether the guest trusts the authorities that the host trusts.
    pub trust_host_cas: bool,
}

impl Default for NetworkSpec {
    /// One that reaches public addresses, and nothing else.
    fn default() -> Self {
        Self {
            enabled: true,
            interface: InterfaceOverrides::default(),
            ports: Vec::new(),
            policy: NetworkPolicy::public_only(),
            dns: DnsConfig::default(),
            tls: TlsConfig::default(),
            secrets: SecretsConfig::default(),
            max_connections: None,
            trust_host_cas: false,
        }
    }
}

impl NetworkSpec {
    /// None at all.
    pub fn disabled() -> Self {
        Self {
            enabled: false,
            policy: NetworkPolicy::none(),
            ..Self::default()
        }
    }

    /// Checks it.
    pub fn validate(&self) -> Result<(), BuildError> {
        check::network(self)
    }

    /// Whether it is what every sandbox has that asks for nothing.
    pub fn is_default(&self) -> bool {
        *self == Self::default()
    }
}

/// What a guest's interface is given, rather than what is derived.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct InterfaceOverrides {
    /// Its hardware address.
    pub mac: Option<[u8; 6]>,
    /// The largest packet, in bytes.
    pub mtu: Option<u16>,
    /// Its IPv4 address.
    pub ipv4_address: Option<Ipv4Addr>,
    /// What IPv4 subnets are taken from, at most a `/30`.
    pub ipv4_pool: Option<Ipv4Network>,
    /// Its IPv6 address.
    pub ipv6_address: Option<Ipv6Addr>,
    /// What IPv6 prefixes are taken from, at most a `/64`.
    pub ipv6_pool: Option<Ipv6Network>,
}

/// A port of the host that leads to one of the guest.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PublishedPort {
    /// The host's address.
    pub host_bind: IpAddr,
    /// The host's port.
    pub host_port: u16,
    /// The guest's port.
    pub guest_port: u16,
    /// TCP or UDP.
    #[serde(default)]
    pub protocol: PortProtocol,
}

/// What a published port speaks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum PortProtocol {
    /// TCP.
    #[default]
    Tcp,
    /// UDP.
    Udp,
}

/// How names are looked up.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct DnsConfig {
    /// Whether a public name may not turn out to be a private address.
    pub rebind_protection: bool,
    /// Who is asked; the host's servers when none is given.
    pub nameservers: Vec<Nameserver>,
    /// How long a query may take, in milliseconds.
    pub query_timeout_ms: u64,
}

impl Default for DnsConfig {
    fn default() -> Self {
        Self {
            rebind_protection: true,
            nameservers: Vec::new(),
            query_timeout_ms: 5000,
        }
    }
}

/// How encrypted traffic is opened.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct TlsConfig {
    /// Whether it is.
    pub enabled: bool,
    /// The hosts whose traffic is left alone: names, or `*.` and a name.
    pub bypass: Vec<String>,
    /// Whether the far end must have a valid certificate.
    pub verify_upstream: bool,
    /// The ports where it is opened.
    pub intercepted_ports: Vec<u16>,
    /// Whether QUIC is refused on those ports, so that TCP is used.
    pub block_quic: bool,
    /// Authorities that far ends may have theirs from, PEM files.
    pub upstream_ca_certs: Vec<PathBuf>,
    /// The authority that the guest is shown, a PEM file; made when not given.
    pub intercept_ca_cert: Option<PathBuf>,
    /// Its key, a PEM file.
    pub intercept_ca_key: Option<PathBuf>,
}

impl Default for TlsConfig {
    fn default() -> Self {
        Self {
            enabled: false,
            bypass: Vec::new(),
            verify_upstream: true,
            intercepted_ports: vec![443],
            block_quic: true,
            upstream_ca_certs: Vec::new(),
            intercept_ca_cert: None,
            intercept_ca_key: None,
        }
    }
}
