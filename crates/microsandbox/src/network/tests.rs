//! What the builders make of good and of bad descriptions.

use super::*;

fn built(f: impl FnOnce(NetworkBuilder) -> NetworkBuilder) -> Result<NetworkSpec, BuildError> {
    f(NetworkBuilder::new()).build()
}

#[test]
fn a_description_is_what_was_said() {
    let network = built(|network| {
        network
            .port(8080, 80)
            .port_udp_bind([0, 0, 0, 0].into(), 5353, 53)
            .policy(NetworkPolicy::allow_all())
            .dns(|dns| {
                dns.nameservers([std::net::IpAddr::from([127, 0, 0, 1])])
                    .query_timeout_ms(10)
            })
            .dns(|dns| dns.rebind_protection(false))
            .tls(|tls| {
                tls.bypass("*.bank.example")
                    .verify_upstream(false)
                    .block_quic(false)
            })
            .max_connections(4)
            .ipv4_pool("10.0.0.0/8".parse().unwrap())
            .trust_host_cas(true)
            .on_secret_violation(|violation| violation.block_and_terminate())
    })
    .unwrap();
    assert_eq!(network.ports[0].protocol, PortProtocol::Tcp);
    assert!(network.ports[0].host_bind.is_loopback());
    assert_eq!(network.ports[1].protocol, PortProtocol::Udp);
    // What was said before stays.
    assert_eq!(
        (network.dns.query_timeout_ms, network.dns.rebind_protection),
        (10, false)
    );
    assert!(network.tls.enabled && !network.tls.verify_upstream);
    assert_eq!(network.max_connections, Some(4));
    assert_eq!(
        network.secrets.on_violation,
        ViolationAction::BlockAndTerminate
    );
    assert_eq!(
        NetworkBuilder::from_config(network.clone()).build(),
        Ok(network)
    );
    assert_eq!(built(|network| network), Ok(NetworkSpec::default()));
}

#[test]
fn a_secret_has_its_placeholder_and_opens_traffic() {
    let network = built(|network| {
        network
            .secret(|secret| {
                secret
                    .env("KEY")
                    .value("hunter2")
                    .allow_host("api.example.com")
                    .allow_host_pattern("*.example.com")
                    .allow_any_host_dangerous(false)
                    .inject_body(true)
                    .on_violation(|violation| violation.passthrough_host("log.example.com"))
            })
            .secret_env("B", "hunter3", "BBB", "b.example.com")
    })
    .unwrap();
    let [key, b] = &network.secrets.secrets[..] else {
        panic!("{network:?}");
    };
    assert_eq!(
        (key.placeholder.as_str(), key.value.expose()),
        ("$MSB_KEY", "hunter2")
    );
    assert_eq!(key.allowed_hosts.len(), 2);
    assert!(key.injection.headers && key.injection.body && !key.injection.query_params);
    assert_eq!(b.placeholder, "BBB");
    assert!(network.tls.enabled);
    let shown = format!("{network:?} {:?}", SecretBuilder::new().value("hunter2"));
    assert!(!shown.contains("hunter"), "{shown}");
}

#[test]
fn what_is_wrong_is_said() {
    use BuildError as E;
    let secret = |f: fn(SecretBuilder) -> SecretBuilder| built(|network| network.secret(f));
    assert!(matches!(
        secret(|secret| secret.env("KEY").value("x")),
        Err(E::InvalidSecretConfig {
            source: InvalidSecret::NoHost { .. }
        })
    ));
    assert!(matches!(
        secret(|secret| secret.value("x").allow_host("a.example")),
        Err(E::InvalidSecretConfig {
            source: InvalidSecret::EnvVar { .. }
        })
    ));
    assert!(matches!(
        built(|network| network.port(80, 0)),
        Err(E::InvalidGuestPort { .. })
    ));
    assert!(matches!(
        built(|network| network.port(80, 1).port(80, 2)),
        Err(E::DuplicatePort { host_port: 80, .. })
    ));
    assert!(built(|network| network.port(80, 1).port_udp(80, 2).port(0, 1).port(0, 1)).is_ok());
    assert!(matches!(
        built(|network| network.dns(|dns| dns.query_timeout_ms(0))),
        Err(E::NoQueryTimeout)
    ));
    assert_eq!(
        DnsBuilder::new().query_timeout_ms(0).build(),
        Err(E::NoQueryTimeout)
    );
    assert!(matches!(
        built(|network| network.tls(|tls| tls.bypass("*bank"))),
        Err(E::InvalidHostPattern { .. })
    ));
    assert!(matches!(
        built(|network| network.tls(|tls| tls.intercept_ca_key("/key.pem"))),
        Err(E::IncompleteInterceptCa)
    ));
    assert!(matches!(
        built(|network| network.on_secret_violation(|on| on.passthrough_host("a b"))),
        Err(E::InvalidHostPattern { .. })
    ));
    assert!(matches!(
        built(|network| network.ipv4_pool("10.0.0.0/31".parse().unwrap())),
        Err(E::InvalidIpv4Pool { .. })
    ));
    assert!(matches!(
        built(|network| network.ipv6_pool("fd00::/65".parse().unwrap())),
        Err(E::InvalidIpv6Pool { .. })
    ));
    // A policy that was put together by hand is looked at as well.
    let mut policy = NetworkPolicy::allow_all();
    policy.rules.push(Rule {
        protocols: vec![Protocol::Icmpv4],
        ..Rule::deny_any(Destination::Any)
    });
    assert!(matches!(
        built(|network| network.policy(policy)),
        Err(E::IngressDoesNotSupportIcmp { rule_index: 0 })
    ));
}
