//! What the steps say, and what is refused of them.

mod image;
mod storage;

use std::time::Duration;

use msb_types::SecurityProfile;
use msb_types::network::{NetworkPolicy, PortProtocol};

use super::*;
use crate::exec::RlimitResource;
use crate::network::BuildError;

fn built(
    describe: impl FnOnce(SandboxBuilder) -> SandboxBuilder,
) -> MicrosandboxResult<SandboxConfig> {
    describe(SandboxBuilder::new("web").image("/disk.ext4")).finish()
}

/// Asserts that a description is refused as invalid, for this reason.
#[track_caller]
fn refused(describe: impl FnOnce(SandboxBuilder) -> SandboxBuilder, why: &str) {
    match built(describe) {
        Err(MicrosandboxError::InvalidConfig(text)) => assert!(text.contains(why), "{text}"),
        other => panic!("{why}: {other:?}"),
    }
}

#[test]
fn an_interval_of_nothing_turns_metrics_off() {
    let interval = |interval: Duration| {
        let config = built(|builder| builder.metrics_sample_interval(interval)).unwrap();
        config.runtime.metrics_interval()
    };
    assert_eq!(interval(Duration::ZERO), None);
    let ms = Duration::from_millis(1);
    assert_eq!(interval(Duration::from_micros(3)), Some(ms));
    assert_eq!(interval(ms * 250), Some(ms * 250));
    let default = built(|builder| builder).unwrap().runtime.metrics_interval();
    assert_eq!(default, Some(Duration::from_secs(1)));
}

#[test]
fn what_cannot_be_is_refused_with_its_reason() {
    use RlimitResource::Nofile;
    refused(|builder| builder.max_duration(0), "max_duration is 0");
    refused(|builder| builder.idle_timeout(0), "idle_timeout is 0");
    refused(|builder| builder.label("sandbox.x", "1"), "reserved");
    refused(|builder| builder.label("", "1"), "1 to 128 bytes");
    let range = |builder: SandboxBuilder| builder.rlimit_range(Nofile, 2, 1);
    refused(range, "above its hard limit");
    refused(|builder| builder.env("MSB_X", "1"), "reserved");
    refused(|builder| builder.env("A=B", "1"), "not a usable");
    refused(|builder| builder.cpus(0), "at least one CPU");
    refused(|builder| builder.memory(0), "needs memory");
    refused(|builder| builder.hostname("a b"), "host name");
}

#[test]
fn a_configuration_survives_being_stored() {
    let config = built(|builder| {
        builder
            .label("team", "blue")
            .ephemeral(true)
            .max_duration(60)
            .rlimit(RlimitResource::Core, 0)
            .replace()
    })
    .unwrap();
    let json = serde_json::to_string(&config).unwrap();
    let stored: SandboxConfig = serde_json::from_str(&json).unwrap();
    // To be a replacement is a matter of one creation.
    assert!(config.replace_existing && !stored.replace_existing);
    let again = SandboxConfig {
        replace_existing: true,
        ..stored
    };
    assert_eq!(again, config);
    assert!(serde_json::from_str::<SandboxConfig>("{\"name\": \"web\"}").is_err());
    let unknown = json.replacen('{', "{\"surprise\": 1, ", 1);
    assert!(serde_json::from_str::<SandboxConfig>(&unknown).is_err());
}

#[test]
fn what_commands_find() {
    let config = built(|builder| {
        builder
            .entrypoint(["python", "-u"])
            .script("up", "#!/bin/sh\n")
            .scripts([("down", "a"), ("up", "b")])
            .init("/sbin/init")
            .init_with("auto", |init| {
                init.arg("-v").args(["a"]).env("A", "1").envs([("B", "2")])
            })
            .security(SecurityProfile::Restricted)
    })
    .unwrap();
    assert_eq!(config.runtime.entrypoint.unwrap(), ["python", "-u"]);
    assert_eq!(config.runtime.scripts["up"], "b");
    assert_eq!(config.runtime.scripts.len(), 2);
    let init = config.init.unwrap();
    assert_eq!(
        (init.cmd, init.args.len(), init.env.len()),
        ("auto".into(), 2, 2)
    );
    assert_eq!(config.security_profile, SecurityProfile::Restricted);

    refused(|builder| builder.entrypoint(["a\0"]), "zero byte");
    for name in ["", "a/b", "a\0", ".."] {
        refused(|builder| builder.script(name, ""), "script's name");
    }
    refused(
        |builder| builder.script("a", "x".repeat(1 << 20)),
        "at most",
    );
    let many = (0..300).map(|index| (index.to_string(), ""));
    refused(|builder| builder.scripts(many), "300 scripts");
    refused(|builder| builder.init("init"), "absolute path");
    let named = |builder: SandboxBuilder| builder.init_with("auto", |init| init.env("", "1"));
    refused(named, "not a usable");
    let zero = |builder: SandboxBuilder| builder.init_with("auto", |init| init.arg("\0"));
    refused(zero, "zero byte");
    refused(
        |builder| builder.env("A", "x".repeat(1 << 20)),
        "can be stored",
    );
}

#[test]
fn commands_that_run_first() {
    let first = built(|builder| {
        builder
            .persistent_initial_command(["a"])
            .initial_command(["b"])
    });
    let first = first.unwrap();
    assert_eq!(first.initial_command.unwrap(), ["b"]);
    assert!(!first.startup_command_requested);
    let always = built(|builder| {
        builder
            .initial_command(["b"])
            .persistent_initial_command(["a"])
    });
    let always = always.unwrap();
    assert_eq!(always.runtime.cmd.unwrap(), ["a"]);
    assert!(always.startup_command_requested && always.initial_command.is_none());
    refused(|builder| builder.initial_command([""; 0]), "is empty");
    refused(
        |builder| builder.persistent_initial_command(["\0"]),
        "zero byte",
    );
}

#[test]
fn networks() {
    let config = built(|builder| {
        builder
            .port(8080, 80)
            .port_udp(5353, 53)
            .port_bind([0, 0, 0, 0].into(), 8081, 80)
            .port_udp_bind([0, 0, 0, 0].into(), 5354, 53)
            .network(|network| network.max_connections(4))
            .secret(|secret| secret.env("A").value("hunter2").allow_host("a.example"))
            .secret_env("B", "hunter2", "b.example")
    })
    .unwrap();
    let ports: Vec<_> = (config.network.ports.iter())
        .map(|port| (port.host_port, port.guest_port, port.protocol))
        .collect();
    let (tcp, udp) = (PortProtocol::Tcp, PortProtocol::Udp);
    let expected = [
        (8080, 80, tcp),
        (5353, 53, udp),
        (8081, 80, tcp),
        (5354, 53, udp),
    ];
    assert_eq!(ports, expected);
    assert_eq!(config.network.max_connections, Some(4));
    let secrets = &config.network.secrets.secrets;
    assert_eq!(secrets[1].value.expose(), "hunter2");
    let again = built(|builder| builder.secret_entry(secrets[0].clone()));
    assert_eq!(again.unwrap().network.secrets.secrets, secrets[..1]);
    for text in [
        format!("{config:?}"),
        serde_json::to_string(&config).unwrap(),
    ] {
        assert!(!text.contains("hunter2"), "{text}");
    }

    let off = built(SandboxBuilder::disable_network).unwrap().network;
    assert!(!off.enabled);
    assert_eq!(off.policy, NetworkPolicy::none());

    let refused = built(|builder| builder.port(80, 1).port(80, 2));
    assert!(matches!(
        refused,
        Err(MicrosandboxError::NetworkBuilder(
            BuildError::DuplicatePort { .. }
        ))
    ));
    let refused = built(|builder| builder.secret_env("A", "", "a.example"));
    assert!(matches!(
        refused,
        Err(MicrosandboxError::NetworkBuilder(
            BuildError::InvalidSecretConfig { .. }
        ))
    ));
}

#[test]
fn the_first_mistake_is_told() {
    let twice = |builder: SandboxBuilder| {
        let first = builder.volume("/first", |mount| mount);
        first.volume("/second", |mount| mount)
    };
    refused(twice, "/first");
}

#[test]
fn a_configuration_can_be_described_further() {
    let config = built(|builder| builder.label("a", "1")).unwrap();
    let again = SandboxBuilder::from(config.clone()).finish().unwrap();
    assert_eq!(again, config);
}
