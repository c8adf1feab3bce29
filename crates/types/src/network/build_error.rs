//! What can be wrong with the description of a network.

use super::{DomainNameError, PortProtocol};
use crate::secret::InvalidSecret;

/// What is wrong with the description of a network. `rule_index` counts the rules of a policy from 0.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum BuildError {
    /// A rule that goes no way.
    #[error("rule {rule_index} has no direction; call egress(), ingress() or any() before it")]
    DirectionNotSet {
        /// The rule.
        rule_index: usize,
    },
    /// A rule for nobody.
    #[error("rule {rule_index} has no destination; allow() and deny() need one after them")]
    MissingDestination {
        /// The rule.
        rule_index: usize,
    },
    /// A text that is no address.
    #[error("rule {rule_index}: {raw:?} is no IP address")]
    InvalidIp {
        /// The rule.
        rule_index: usize,
        /// The text.
        raw: String,
    },
    /// A text that is no network.
    #[error("rule {rule_index}: {raw:?} is no network; write address/length")]
    InvalidCidr {
        /// The rule.
        rule_index: usize,
        /// The text.
        raw: String,
    },
    /// A text that is no domain name.
    #[error("rule {rule_index}: {raw:?} is no domain name")]
    InvalidDomain {
        /// The rule.
        rule_index: usize,
        /// The text.
        raw: String,
        /// Why.
        source: DomainNameError,
    },
    /// A range that ends before it begins.
    #[error("rule {rule_index}: the ports {lo} to {hi} are none")]
    InvalidPortRange {
        /// The rule.
        rule_index: usize,
        /// Its beginning.
        lo: u16,
        /// Its end.
        hi: u16,
    },
    /// ICMP to the guest.
    #[error("rule {rule_index}: ICMP goes from the guest only; make it a rule of egress")]
    IngressDoesNotSupportIcmp {
        /// The rule.
        rule_index: usize,
    },
    /// A pool too small for one sandbox.
    #[error("{raw} is no pool of IPv4 subnets; it needs room for a /30")]
    InvalidIpv4Pool {
        /// The pool.
        raw: String,
    },
    /// A pool too small for one sandbox.
    #[error("{raw} is no pool of IPv6 prefixes; it needs room for a /64")]
    InvalidIpv6Pool {
        /// The pool.
        raw: String,
    },
    /// A port that cannot be published.
    #[error("guest port {guest_port} cannot be published: a port is 1 to 65535")]
    InvalidGuestPort {
        /// The guest's port.
        guest_port: u16,
    },
    /// One port of the host for two of the guest.
    #[error("host port {host_port} ({protocol:?}) is published twice")]
    DuplicatePort {
        /// TCP or UDP.
        protocol: PortProtocol,
        /// The host's port.
        host_port: u16,
    },
    /// Name servers that have no time to answer.
    #[error("name servers are given no time; query_timeout_ms() must be above 0")]
    NoQueryTimeout,
    /// A pattern that fits no host.
    #[error("{raw:?} is no pattern of hosts; write a name, or *. and a name")]
    InvalidHostPattern {
        /// The pattern.
        raw: String,
    },
    /// Half of an authority.
    #[error("the intercepting authority needs both its certificate and its key")]
    IncompleteInterceptCa,
    /// A secret that cannot be used.
    #[error("a secret cannot be used")]
    InvalidSecretConfig {
        /// Why.
        source: InvalidSecret,
    },
}
