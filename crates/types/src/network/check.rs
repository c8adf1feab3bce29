//! What makes a network's description a good one, however it was made.

use std::net::IpAddr;

use super::build_error::BuildError;
use super::policy::{Direction, NetworkPolicy, Protocol};
use super::{InterfaceOverrides, NetworkSpec, PortProtocol, TlsConfig};
use crate::secret::{HostPattern, ViolationAction};

/// The longest prefix of an IPv4 pool: one subnet.
const IPV4_POOL: u8 = 30;

/// The longest prefix of an IPv6 pool: one prefix.
const IPV6_POOL: u8 = 64;

/// Checks a network.
pub(super) fn network(network: &NetworkSpec) -> Result<(), BuildError> {
    interface(&network.interface)?;
    ports(network)?;
    policy(&network.policy)?;
    if network.dns.query_timeout_ms == 0 {
        return Err(BuildError::NoQueryTimeout);
    }
    tls(&network.tls)?;
    let secrets = &network.secrets;
    for secret in &secrets.secrets {
        secret
            .validate()
            .map_err(|source| BuildError::InvalidSecretConfig { source })?;
        hosts(secret.on_violation.as_ref())?;
    }
    hosts(Some(&secrets.on_violation))
}

fn interface(interface: &InterfaceOverrides) -> Result<(), BuildError> {
    match (interface.ipv4_pool, interface.ipv6_pool) {
        (Some(pool), _) if pool.prefix() > IPV4_POOL => Err(BuildError::InvalidIpv4Pool {
            raw: pool.to_string(),
        }),
        (_, Some(pool)) if pool.prefix() > IPV6_POOL => Err(BuildError::InvalidIpv6Pool {
            raw: pool.to_string(),
        }),
        _ => Ok(()),
    }
}

fn ports(network: &NetworkSpec) -> Result<(), BuildError> {
    let mut taken: Vec<(IpAddr, u16, PortProtocol)> = Vec::new();
    for port in &network.ports {
        if port.guest_port == 0 {
            return Err(BuildError::InvalidGuestPort { guest_port: 0 });
        }
        let here = (port.host_bind, port.host_port, port.protocol);
        // Port 0 is whichever is free, and so never the same twice.
        if port.host_port != 0 && taken.contains(&here) {
            return Err(BuildError::DuplicatePort {
                protocol: port.protocol,
                host_port: port.host_port,
            });
        }
        taken.push(here);
    }
    Ok(())
}

/// Checks a policy.
pub(super) fn policy(policy: &NetworkPolicy) -> Result<(), BuildError> {
    for (rule_index, rule) in policy.rules.iter().enumerate() {
        let icmp = |protocol: &Protocol| matches!(protocol, Protocol::Icmpv4 | Protocol::Icmpv6);
        if rule.direction != Direction::Egress && rule.protocols.iter().any(icmp) {
            return Err(BuildError::IngressDoesNotSupportIcmp { rule_index });
        }
        if let Some(range) = rule.ports.iter().find(|range| range.start > range.end) {
            return Err(BuildError::InvalidPortRange {
                rule_index,
                lo: range.start,
                hi: range.end,
            });
        }
    }
    Ok(())
}

fn tls(tls: &TlsConfig) -> Result<(), BuildError> {
    for raw in &tls.bypass {
        if !HostPattern::written(raw).is_valid() {
            return Err(BuildError::InvalidHostPattern { raw: raw.clone() });
        }
    }
    match tls.intercept_ca_cert.is_some() == tls.intercept_ca_key.is_some() {
        true => Ok(()),
        false => Err(BuildError::IncompleteInterceptCa),
    }
}

fn hosts(action: Option<&ViolationAction>) -> Result<(), BuildError> {
    let Some(ViolationAction::Passthrough(hosts)) = action else {
        return Ok(());
    };
    match hosts.iter().find(|host| !HostPattern::is_valid(host)) {
        None => Ok(()),
        Some(host) => Err(BuildError::InvalidHostPattern {
            raw: host.to_string(),
        }),
    }
}
