//! What a guest may reach, and who may reach it.
//!
//! Rules are looked at in their order, and the first that fits decides; where none does, the
//! direction's default decides.

use ipnetwork::IpNetwork;
use serde::{Deserialize, Serialize};

use super::{DomainName, DomainNameError};

/// Rules, and what holds where none fits.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NetworkPolicy {
    /// What becomes of traffic from the guest that no rule fits.
    pub default_egress: Action,
    /// What becomes of traffic to the guest that no rule fits.
    pub default_ingress: Action,
    /// The rules, the first that fits first.
    #[serde(default)]
    pub rules: Vec<Rule>,
}

/// One rule.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Rule {
    /// Which way the traffic goes.
    pub direction: Direction,
    /// Who is at the other end.
    pub destination: Destination,
    /// What it speaks; anything when empty.
    #[serde(default)]
    pub protocols: Vec<Protocol>,
    /// The port at the destination, or of the guest for traffic to it; any when empty.
    #[serde(default)]
    pub ports: Vec<PortRange>,
    /// What becomes of it.
    pub action: Action,
}

/// What becomes of traffic.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Action {
    /// It passes.
    Allow,
    /// It is dropped.
    Deny,
}

/// Which way traffic goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Direction {
    /// From the guest.
    Egress,
    /// To the guest.
    Ingress,
    /// Either.
    Any,
}

/// Who is at the other end.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Destination {
    /// Anyone.
    Any,
    /// An address of this network.
    Cidr(IpNetwork),
    /// The host of this name.
    Domain(DomainName),
    /// The host of this name, and those below it.
    DomainSuffix(DomainName),
    /// An address of this group.
    Group(DestinationGroup),
}

/// Groups of addresses.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum DestinationGroup {
    /// Those that are in no other group.
    Public,
    /// The guest itself.
    Loopback,
    /// Private networks, and those of carriers.
    Private,
    /// The guest's own link.
    LinkLocal,
    /// Where clouds keep their machines' credentials.
    Metadata,
    /// Many at once.
    Multicast,
    /// The host, as the guest sees it.
    Host,
}

/// What traffic speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Protocol {
    /// TCP.
    Tcp,
    /// UDP.
    Udp,
    /// ICMP of IPv4; from the guest only.
    Icmpv4,
    /// ICMP of IPv6; from the guest only.
    Icmpv6,
}

/// Ports from one to another, both of them in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PortRange {
    /// The first.
    pub start: u16,
    /// The last.
    pub end: u16,
}

impl PortRange {
    /// This port alone.
    pub const fn single(port: u16) -> Self {
        Self::range(port, port)
    }

    /// From one to another.
    pub const fn range(start: u16, end: u16) -> Self {
        Self { start, end }
    }

    /// Whether a port is in it.
    pub const fn contains(&self, port: u16) -> bool {
        self.start <= port && port <= self.end
    }
}

impl Rule {
    /// One for every protocol and port.
    fn all(direction: Direction, destination: Destination, action: Action) -> Self {
        Self {
            direction,
            destination,
            protocols: Vec::new(),
            ports: Vec::new(),
            action,
        }
    }

    /// The guest may reach it.
    pub fn allow_egress(destination: Destination) -> Self {
        Self::all(Direction::Egress, destination, Action::Allow)
    }

    /// The guest may not reach it.
    pub fn deny_egress(destination: Destination) -> Self {
        Self::all(Direction::Egress, destination, Action::Deny)
    }

    /// It may reach the guest.
    pub fn allow_ingress(destination: Destination) -> Self {
        Self::all(Direction::Ingress, destination, Action::Allow)
    }

    /// It may not reach the guest.
    pub fn deny_ingress(destination: Destination) -> Self {
        Self::all(Direction::Ingress, destination, Action::Deny)
    }

    /// Either may reach the other.
    pub fn allow_any(destination: Destination) -> Self {
        Self::all(Direction::Any, destination, Action::Allow)
    }

    /// Neither may reach the other.
    pub fn deny_any(destination: Destination) -> Self {
        Self::all(Direction::Any, destination, Action::Deny)
    }

    /// The guest may ask the host for names.
    pub fn allow_dns() -> Self {
        Self {
            protocols: vec![Protocol::Udp, Protocol::Tcp],
            ports: vec![PortRange::single(53)],
            ..Self::allow_egress(Destination::Group(DestinationGroup::Host))
        }
    }

    /// The guest may not ask the host for names.
    pub fn deny_dns() -> Self {
        Self {
            action: Action::Deny,
            ..Self::allow_dns()
        }
    }
}

impl Default for NetworkPolicy {
    fn default() -> Self {
        Self::public_only()
    }
}

impl NetworkPolicy {
    fn open_to(groups: &[DestinationGroup]) -> Self {
        let groups = groups.iter().copied();
        let allow = |group| Rule::allow_egress(Destination::Group(group));
        Self {
            default_egress: Action::Deny,
            default_ingress: Action::Allow,
            rules: std::iter::once(Rule::allow_dns())
                .chain(groups.map(allow))
                .collect(),
        }
    }

    /// Nothing passes, either way.
    pub fn none() -> Self {
        Self {
            default_egress: Action::Deny,
            default_ingress: Action::Deny,
            rules: Vec::new(),
        }
    }

    /// Everything passes, both ways.
    pub fn allow_all() -> Self {
        Self {
            default_egress: Action::Allow,
            default_ingress: Action::Allow,
            rules: Vec::new(),
        }
    }

    /// The guest reaches public addresses, and what is published reaches the guest.
    pub fn public_only() -> Self {
        Self::open_to(&[DestinationGroup::Public])
    }

    /// The guest reaches public and private addresses, but neither the host nor its link.
    pub fn non_local() -> Self {
        Self::open_to(&[DestinationGroup::Public, DestinationGroup::Private])
    }

    /// Puts rules for names before all others.
    fn prepend<S: AsRef<str>>(
        mut self,
        names: impl IntoIterator<Item = S>,
        rule: impl Fn(DomainName) -> Result<Rule, DomainNameError>,
    ) -> Result<Self, DomainNameError> {
        let first: Result<Vec<_>, _> = names
            .into_iter()
            .map(|name| rule(name.as_ref().parse()?))
            .collect();
        self.rules.splice(0..0, first?);
        Ok(self)
    }

    /// Lets the guest reach the host of this name.
    pub fn allow_domain<S: AsRef<str>>(self, name: S) -> Result<Self, DomainNameError> {
        self.allow_domains([name])
    }

    /// Keeps the guest from the host of this name.
    pub fn deny_domain<S: AsRef<str>>(self, name: S) -> Result<Self, DomainNameError> {
        self.deny_domains([name])
    }

    /// Lets the guest reach the hosts of these names.
    pub fn allow_domains<I, S>(self, names: I) -> Result<Self, DomainNameError>
    where
        I: IntoIterator<Item = S>,
        S: AsRef<str>,
    {
        self.prepend(names, |name| {
            Ok(Rule::allow_egress(Destination::Domain(name)))
        })
    }

    /// Keeps the guest from the hosts of these names.
    pub fn deny_domains<I, S>(self, names: I) -> Result<Self, DomainNameError>
    where
        I: IntoIterator<Item = S>,
        S: AsRef<str>,
    {
        self.prepend(names, |name| {
            Ok(Rule::deny_egress(Destination::Domain(name)))
        })
    }

    /// Lets the guest reach the host of this name, and those below it.
    pub fn allow_domain_suffix<S: AsRef<str>>(self, suffix: S) -> Result<Self, DomainNameError> {
        self.allow_domain_suffixes([suffix])
    }

    /// Keeps the guest from the host of this name, and those below it.
    pub fn deny_domain_suffix<S: AsRef<str>>(self, suffix: S) -> Result<Self, DomainNameError> {
        self.deny_domain_suffixes([suffix])
    }

    /// Lets the guest reach the hosts of these names, and those below them.
    pub fn allow_domain_suffixes<I, S>(self, suffixes: I) -> Result<Self, DomainNameError>
    where
        I: IntoIterator<Item = S>,
        S: AsRef<str>,
    {
        self.prepend(suffixes, |name| {
            let suffix = Destination::DomainSuffix(name.try_into_suffix()?);
            Ok(Rule::allow_egress(suffix))
        })
    }

    /// Keeps the guest from the hosts of these names, and those below them.
    pub fn deny_domain_suffixes<I, S>(self, suffixes: I) -> Result<Self, DomainNameError>
    where
        I: IntoIterator<Item = S>,
        S: AsRef<str>,
    {
        self.prepend(suffixes, |name| {
            let suffix = Destination::DomainSuffix(name.try_into_suffix()?);
            Ok(Rule::deny_egress(suffix))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rules_for_names_come_first_and_in_their_order() {
        let policy = NetworkPolicy::default()
            .allow_domain("a.example")
            .and_then(|policy| policy.deny_domains(["B.example", "c.example."]))
            .and_then(|policy| policy.deny_domain_suffix(".ads.example"))
            .unwrap();
        let names: Vec<_> = policy
            .rules
            .iter()
            .filter_map(|rule| match &rule.destination {
                Destination::Domain(name) | Destination::DomainSuffix(name) => {
                    Some((name.as_str(), rule.action))
                }
                _ => None,
            })
            .collect();
        assert_eq!(
            names,
            [
                ("ads.example", Action::Deny),
                ("b.example", Action::Deny),
                ("c.example", Action::Deny),
                ("a.example", Action::Allow),
            ]
        );
        let after = &policy.rules[names.len()..];
        assert_eq!(after, NetworkPolicy::public_only().rules);
    }

    #[test]
    fn a_bad_name_is_refused() {
        let policy = NetworkPolicy::none;
        assert!(policy().allow_domain("a b").is_err());
        assert_eq!(
            policy().allow_domain_suffixes(["example.com", "com"]),
            Err(DomainNameError::SuffixTooShort)
        );
    }

    #[test]
    fn a_policy_survives_being_stored() {
        let mut policy = NetworkPolicy::non_local().deny_domain("x.example").unwrap();
        let network = "10.0.0.0/8".parse().unwrap();
        policy.rules.push(Rule {
            ports: vec![PortRange::range(1, 1024)],
            ..Rule::deny_any(Destination::Cidr(network))
        });
        let json = serde_json::to_string(&policy).unwrap();
        assert_eq!(
            serde_json::from_str::<NetworkPolicy>(&json).unwrap(),
            policy
        );
    }
}
