//! What network a sandbox has, described step by step.
//!
//! This release gives a sandbox no network: what is described here is checked and kept, and a sandbox
//! that asks for more than no network and more than the default is refused when it is created.

mod builder;
mod dns;
mod secret;
mod tls;

#[cfg(test)]
mod tests;

pub use builder::NetworkBuilder;
pub use dns::DnsBuilder;
pub use ipnetwork::{IpNetwork, Ipv4Network, Ipv6Network};
pub use msb_types::network::{
    Action, BuildError, DEFAULT_MAX_CONNECTIONS, Destination, DestinationGroup, Direction,
    DnsConfig, DomainName, DomainNameError, InterfaceOverrides, Nameserver, NetworkPolicy,
    NetworkPolicyBuilder, NetworkSpec as NetworkConfig, NetworkSpec, ParseNameserverError,
    PortProtocol, PortRange, Protocol, PublishedPort, Rule, RuleBuilder, RuleDestinationBuilder,
    TlsConfig,
};
pub use msb_types::{
    HostPattern, InvalidSecret, SecretEntry, SecretInjection, SecretValue, SecretsConfig,
    ViolationAction,
};
pub use secret::{SecretBuilder, ViolationActionBuilder};
pub use tls::TlsBuilder;
