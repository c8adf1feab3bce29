//! A policy, rule by rule.

use super::build_error::BuildError;
use super::check;
use super::policy::{Action, Direction, NetworkPolicy};
use super::rule::{Draft, RuleBuilder};

/// Describes a policy. Setters never fail; [`build`](Self::build) tells what was wrong first.
///
/// Without more, it lets nothing out, and what is published in.
#[derive(Clone, Debug)]
pub struct NetworkPolicyBuilder {
    default_egress: Action,
    default_ingress: Action,
    rules: Vec<Draft>,
}

impl Default for NetworkPolicyBuilder {
    fn default() -> Self {
        Self {
            default_egress: Action::Deny,
            default_ingress: Action::Allow,
            rules: Vec::new(),
        }
    }
}

impl NetworkPolicy {
    /// Begins to describe a policy.
    pub fn builder() -> NetworkPolicyBuilder {
        NetworkPolicyBuilder::default()
    }
}

impl NetworkPolicyBuilder {
    /// What no rule fits passes, both ways.
    #[must_use]
    pub fn default_allow(self) -> Self {
        self.default_egress(Action::Allow)
            .default_ingress(Action::Allow)
    }

    /// What no rule fits is dropped, both ways.
    #[must_use]
    pub fn default_deny(self) -> Self {
        self.default_egress(Action::Deny)
            .default_ingress(Action::Deny)
    }

    /// What becomes of traffic from the guest that no rule fits.
    #[must_use]
    pub fn default_egress(mut self, action: Action) -> Self {
        self.default_egress = action;
        self
    }

    /// What becomes of traffic to the guest that no rule fits.
    #[must_use]
    pub fn default_ingress(mut self, action: Action) -> Self {
        self.default_ingress = action;
        self
    }

    /// Adds rules, which say their direction themselves.
    #[must_use]
    pub fn rule<F>(self, f: F) -> Self
    where
        F: for<'a> FnOnce(&'a mut RuleBuilder) -> &'a mut RuleBuilder,
    {
        self.add(None, f)
    }

    /// Adds rules of traffic from the guest.
    #[must_use]
    pub fn egress<F>(self, f: F) -> Self
    where
        F: for<'a> FnOnce(&'a mut RuleBuilder) -> &'a mut RuleBuilder,
    {
        self.add(Some(Direction::Egress), f)
    }

    /// Adds rules of traffic to the guest.
    #[must_use]
    pub fn ingress<F>(self, f: F) -> Self
    where
        F: for<'a> FnOnce(&'a mut RuleBuilder) -> &'a mut RuleBuilder,
    {
        self.add(Some(Direction::Ingress), f)
    }

    /// Adds rules of traffic either way.
    #[must_use]
    pub fn any<F>(self, f: F) -> Self
    where
        F: for<'a> FnOnce(&'a mut RuleBuilder) -> &'a mut RuleBuilder,
    {
        self.add(Some(Direction::Any), f)
    }

    fn add<F>(mut self, direction: Option<Direction>, f: F) -> Self
    where
        F: for<'a> FnOnce(&'a mut RuleBuilder) -> &'a mut RuleBuilder,
    {
        let mut rule = RuleBuilder::new(direction);
        f(&mut rule);
        self.rules.append(&mut rule.rules);
        self
    }

    /// The policy, or what is wrong with the first rule that is.
    pub fn build(self) -> Result<NetworkPolicy, BuildError> {
        let rules: Result<_, _> = (self.rules.into_iter().enumerate())
            .map(|(index, draft)| draft.read(index))
            .collect();
        let policy = NetworkPolicy {
            default_egress: self.default_egress,
            default_ingress: self.default_ingress,
            rules: rules?,
        };
        check::policy(&policy)?;
        Ok(policy)
    }
}

#[cfg(test)]
mod tests {
    use super::super::{Destination, DestinationGroup, PortRange, Protocol};
    use super::*;

    fn egress<F>(f: F) -> Result<NetworkPolicy, BuildError>
    where
        F: for<'a> FnOnce(&'a mut RuleBuilder) -> &'a mut RuleBuilder,
    {
        NetworkPolicy::builder().egress(f).build()
    }

    #[test]
    fn rules_have_what_was_said_before_them() {
        let policy = NetworkPolicy::builder()
            .default_deny()
            .egress(|rule| {
                rule.tcp().port(443).allow_public();
                rule.udp().deny().domain("Ads.example.")
            })
            .any(|rule| rule.deny().cidr("198.51.100.0/24").allow().ip("::1"))
            .rule(|rule| rule.ingress().ports([80, 81, 80]).allow().any())
            .build()
            .unwrap();
        assert_eq!(policy.default_ingress, Action::Deny);
        let [public, ads, network, address, published] = &policy.rules[..] else {
            panic!("{policy:?}");
        };
        assert_eq!(public.protocols, [Protocol::Tcp]);
        assert_eq!(public.ports, [PortRange::single(443)]);
        assert_eq!(
            public.destination,
            Destination::Group(DestinationGroup::Public)
        );
        assert_eq!(ads.protocols, [Protocol::Tcp, Protocol::Udp]);
        assert_eq!(
            ads.destination,
            Destination::Domain("ads.example".parse().unwrap())
        );
        assert_eq!(
            network.destination,
            Destination::Cidr("198.51.100.0/24".parse().unwrap())
        );
        assert_eq!(
            (address.direction, address.action),
            (Direction::Any, Action::Allow)
        );
        assert_eq!(published.direction, Direction::Ingress);
        assert_eq!(
            published.ports,
            [PortRange::single(80), PortRange::single(81)]
        );
    }

    #[test]
    fn each_group_has_its_rule() {
        let policy = egress(|rule| {
            rule.allow_local()
                .deny_private()
                .deny_meta()
                .allow_multicast()
        });
        let groups: Vec<_> = (policy.unwrap().rules.into_iter())
            .map(|rule| (rule.action, rule.destination))
            .collect();
        use DestinationGroup::{Host, LinkLocal, Loopback, Metadata, Multicast, Private};
        let expected = [
            (Action::Allow, Loopback),
            (Action::Allow, LinkLocal),
            (Action::Allow, Host),
            (Action::Deny, Private),
            (Action::Deny, Metadata),
            (Action::Allow, Multicast),
        ];
        assert_eq!(
            groups,
            expected.map(|(action, group)| (action, Destination::Group(group)))
        );
    }

    #[test]
    fn what_is_wrong_is_said_with_its_rule() {
        use BuildError as E;
        let two = |rule_index| rule_index == 1;
        let refused = egress(|rule| rule.allow_public().allow().ip("1.2.3"));
        assert!(matches!(refused, Err(E::InvalidIp { rule_index, .. }) if two(rule_index)));
        let refused = egress(|rule| rule.allow_public().allow().cidr("1.2.3.4/33"));
        assert!(matches!(refused, Err(E::InvalidCidr { rule_index, .. }) if two(rule_index)));
        let refused = egress(|rule| rule.allow_domains(["a.example", "b c"]));
        assert!(matches!(refused, Err(E::InvalidDomain { rule_index, .. }) if two(rule_index)));
        let refused = egress(|rule| rule.deny_domain_suffixes(["a.example", "com"]));
        assert!(matches!(refused, Err(E::InvalidDomain { rule_index, .. }) if two(rule_index)));
        let refused = egress(|rule| rule.port_range(2, 1).allow_public());
        assert!(matches!(
            refused,
            Err(E::InvalidPortRange { lo: 2, hi: 1, .. })
        ));
        let refused = egress(|rule| {
            rule.allow();
            rule
        });
        assert!(matches!(
            refused,
            Err(E::MissingDestination { rule_index: 0 })
        ));
        let refused = NetworkPolicy::builder().rule(|rule| rule.allow_public());
        assert_eq!(refused.build(), Err(E::DirectionNotSet { rule_index: 0 }));
        let refused = NetworkPolicy::builder().any(|rule| rule.icmpv4().allow_public());
        assert_eq!(
            refused.build(),
            Err(E::IngressDoesNotSupportIcmp { rule_index: 0 })
        );
        assert!(egress(|rule| rule.icmpv6().allow_public()).is_ok());
    }
}
