//! Rules of a policy, as sentences: `rule.egress().tcp().port(443).allow().domain("example.com")`.
//!
//! Direction, protocols and ports hold for every rule that is made after them in the same closure;
//! a destination makes the rule. What was written as text is read when the policy is built.

use super::DomainName;
use super::build_error::BuildError;
use super::policy::{Action, Destination, DestinationGroup, Direction, PortRange, Protocol, Rule};

/// Makes rules, each with what was said before it.
#[derive(Clone, Debug, Default)]
pub struct RuleBuilder {
    direction: Option<Direction>,
    protocols: Vec<Protocol>,
    ports: Vec<PortRange>,
    pub(super) rules: Vec<Draft>,
}

/// A rule whose destination is not read yet.
#[derive(Clone, Debug)]
pub(super) struct Draft {
    direction: Option<Direction>,
    protocols: Vec<Protocol>,
    ports: Vec<PortRange>,
    action: Action,
    destination: Option<Target>,
}

#[derive(Clone, Debug)]
enum Target {
    Known(Destination),
    Ip(String),
    Cidr(String),
    Domain(String),
    Suffix(String),
}

/// The second half of a rule: for whom it is. One without it is an error of the policy.
#[derive(Debug)]
pub struct RuleDestinationBuilder<'a> {
    rule: &'a mut RuleBuilder,
}

macro_rules! groups {
    ($($allow:ident $deny:ident $group:ident $whom:literal)*) => {$(
        #[doc = concat!("Lets traffic pass that has at its other end ", $whom, ".")]
        pub fn $allow(&mut self) -> &mut Self {
            self.allow().group(DestinationGroup::$group)
        }

        #[doc = concat!("Drops traffic that has at its other end ", $whom, ".")]
        pub fn $deny(&mut self) -> &mut Self {
            self.deny().group(DestinationGroup::$group)
        }
    )*};
}

impl RuleBuilder {
    pub(super) fn new(direction: Option<Direction>) -> Self {
        Self {
            direction,
            ..Self::default()
        }
    }

    /// The next rules are of traffic from the guest.
    pub fn egress(&mut self) -> &mut Self {
        self.direction = Some(Direction::Egress);
        self
    }

    /// The next rules are of traffic to the guest.
    pub fn ingress(&mut self) -> &mut Self {
        self.direction = Some(Direction::Ingress);
        self
    }

    /// The next rules are of traffic either way.
    pub fn any(&mut self) -> &mut Self {
        self.direction = Some(Direction::Any);
        self
    }

    fn protocol(&mut self, protocol: Protocol) -> &mut Self {
        if !self.protocols.contains(&protocol) {
            self.protocols.push(protocol);
        }
        self
    }

    /// The next rules are of TCP, too.
    pub fn tcp(&mut self) -> &mut Self {
        self.protocol(Protocol::Tcp)
    }

    /// The next rules are of UDP, too.
    pub fn udp(&mut self) -> &mut Self {
        self.protocol(Protocol::Udp)
    }

    /// The next rules are of ICMP over IPv4, too. From the guest only.
    pub fn icmpv4(&mut self) -> &mut Self {
        self.protocol(Protocol::Icmpv4)
    }

    /// The next rules are of ICMP over IPv6, too. From the guest only.
    pub fn icmpv6(&mut self) -> &mut Self {
        self.protocol(Protocol::Icmpv6)
    }

    /// The next rules are of this port, too: that of the destination, or the guest's own for
    /// traffic to it.
    pub fn port(&mut self, port: u16) -> &mut Self {
        self.port_range(port, port)
    }

    /// The next rules are of these ports, too, the first and the last of them in.
    pub fn port_range(&mut self, lo: u16, hi: u16) -> &mut Self {
        let range = PortRange::range(lo, hi);
        if !self.ports.contains(&range) {
            self.ports.push(range);
        }
        self
    }

    /// The next rules are of these ports, too.
    pub fn ports<I: IntoIterator<Item = u16>>(&mut self, ports: I) -> &mut Self {
        for port in ports {
            self.port(port);
        }
        self
    }

    groups! {
        allow_public deny_public Public "a public address"
        allow_private deny_private Private "a private address"
        allow_loopback deny_loopback Loopback "the guest itself"
        allow_link_local deny_link_local LinkLocal "an address of the guest's link"
        allow_meta deny_meta Metadata "the place where clouds keep credentials"
        allow_multicast deny_multicast Multicast "many at once"
        allow_host deny_host Host "the host"
    }

    /// Lets traffic pass with the guest itself, its link and the host.
    pub fn allow_local(&mut self) -> &mut Self {
        self.allow_loopback().allow_link_local().allow_host()
    }

    /// Drops traffic with the guest itself, its link and the host.
    pub fn deny_local(&mut self) -> &mut Self {
        self.deny_loopback().deny_link_local().deny_host()
    }

    fn each<S: Into<String>>(
        &mut self,
        action: Action,
        names: impl IntoIterator<Item = S>,
        target: impl Fn(String) -> Target,
    ) -> &mut Self {
        for name in names {
            self.draft(action, Some(target(name.into())));
        }
        self
    }

    /// Lets traffic pass with the hosts of these names.
    pub fn allow_domains<I, S>(&mut self, names: I) -> &mut Self
    where
        I: IntoIterator<Item = S>,
        S: Into<String>,
    {
        self.each(Action::Allow, names, Target::Domain)
    }

    /// Drops traffic with the hosts of these names.
    pub fn deny_domains<I, S>(&mut self, names: I) -> &mut Self
    where
        I: IntoIterator<Item = S>,
        S: Into<String>,
    {
        self.each(Action::Deny, names, Target::Domain)
    }

    /// Lets traffic pass with the hosts of these names, and those below them.
    pub fn allow_domain_suffixes<I, S>(&mut self, suffixes: I) -> &mut Self
    where
        I: IntoIterator<Item = S>,
        S: Into<String>,
    {
        self.each(Action::Allow, suffixes, Target::Suffix)
    }

    /// Drops traffic with the hosts of these names, and those below them.
    pub fn deny_domain_suffixes<I, S>(&mut self, suffixes: I) -> &mut Self
    where
        I: IntoIterator<Item = S>,
        S: Into<String>,
    {
        self.each(Action::Deny, suffixes, Target::Suffix)
    }

    /// Lets traffic pass with whom is said next.
    pub fn allow(&mut self) -> RuleDestinationBuilder<'_> {
        self.draft(Action::Allow, None);
        RuleDestinationBuilder { rule: self }
    }

    /// Drops traffic with whom is said next.
    pub fn deny(&mut self) -> RuleDestinationBuilder<'_> {
        self.draft(Action::Deny, None);
        RuleDestinationBuilder { rule: self }
    }

    fn draft(&mut self, action: Action, destination: Option<Target>) {
        self.rules.push(Draft {
            direction: self.direction,
            protocols: self.protocols.clone(),
            ports: self.ports.clone(),
            action,
            destination,
        });
    }
}

impl<'a> RuleDestinationBuilder<'a> {
    fn to(self, target: Target) -> &'a mut RuleBuilder {
        if let Some(draft) = self.rule.rules.last_mut() {
            draft.destination = Some(target);
        }
        self.rule
    }

    /// The host with this address.
    pub fn ip(self, ip: impl Into<String>) -> &'a mut RuleBuilder {
        self.to(Target::Ip(ip.into()))
    }

    /// The hosts of this network.
    pub fn cidr(self, cidr: impl Into<String>) -> &'a mut RuleBuilder {
        self.to(Target::Cidr(cidr.into()))
    }

    /// The host of this name.
    pub fn domain(self, domain: impl Into<String>) -> &'a mut RuleBuilder {
        self.to(Target::Domain(domain.into()))
    }

    /// The host of this name, and those below it.
    pub fn domain_suffix(self, suffix: impl Into<String>) -> &'a mut RuleBuilder {
        self.to(Target::Suffix(suffix.into()))
    }

    /// The hosts of this group.
    pub fn group(self, group: DestinationGroup) -> &'a mut RuleBuilder {
        self.to(Target::Known(Destination::Group(group)))
    }

    /// Anyone.
    pub fn any(self) -> &'a mut RuleBuilder {
        self.to(Target::Known(Destination::Any))
    }
}

impl Draft {
    /// The rule, with its texts read.
    pub(super) fn read(self, rule_index: usize) -> Result<Rule, BuildError> {
        let domain = |raw: String, suffix: bool| {
            let name = raw.parse::<DomainName>();
            let name = name.and_then(|name| match suffix {
                true => name.try_into_suffix(),
                false => Ok(name),
            });
            name.map_err(|source| BuildError::InvalidDomain {
                rule_index,
                raw,
                source,
            })
        };
        let direction = self
            .direction
            .ok_or(BuildError::DirectionNotSet { rule_index })?;
        let target = self
            .destination
            .ok_or(BuildError::MissingDestination { rule_index })?;
        let destination = match target {
            Target::Known(destination) => destination,
            Target::Ip(raw) => match raw.parse::<std::net::IpAddr>() {
                Ok(address) => Destination::Cidr(address.into()),
                Err(_) => return Err(BuildError::InvalidIp { rule_index, raw }),
            },
            Target::Cidr(raw) => match raw.parse() {
                Ok(network) => Destination::Cidr(network),
                Err(_) => return Err(BuildError::InvalidCidr { rule_index, raw }),
            },
            Target::Domain(raw) => Destination::Domain(domain(raw, false)?),
            Target::Suffix(raw) => Destination::DomainSuffix(domain(raw, true)?),
        };
        Ok(Rule {
            direction,
            destination,
            protocols: self.protocols,
            ports: self.ports,
            action: self.action,
        })
    }
}
