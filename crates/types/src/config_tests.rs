//! What is stored of a configuration, and what is read back.

use serde_json::{Value, json};

use super::*;
use crate::mount::{MountOptions, MountSource};
use crate::network::{NetworkPolicy, PortProtocol, PublishedPort};
use crate::registry::RegistryAuth;
use crate::rootfs::DiskImageFormat;
use crate::secret::{HostPattern, SecretEntry, SecretInjection};

fn plain() -> SandboxConfig {
    SandboxConfig {
        name: "web".to_owned(),
        image: RootfsSource::DiskImage {
            path: "/disk.ext4".into(),
            format: DiskImageFormat::Raw,
            fstype: None,
        },
        ..SandboxConfig::default()
    }
}

/// One with something in every field that is stored.
fn full() -> SandboxConfig {
    let mut config = SandboxConfig {
        env: vec![EnvVar {
            key: "A".to_owned(),
            value: "1".to_owned(),
        }],
        mounts: vec![VolumeMount {
            guest: "/data".to_owned(),
            source: MountSource::Tmpfs { size_mib: Some(64) },
            options: MountOptions {
                noexec: true,
                ..MountOptions::default()
            },
        }],
        patches: vec![Patch::File {
            path: "/etc/key".to_owned(),
            content: vec![0, 159, 146, 150],
            mode: Some(0o600),
            replace: false,
        }],
        init: Some(HandoffInit {
            cmd: "auto".into(),
            args: vec!["--unit=x".to_owned()],
            env: Vec::new(),
        }),
        pull_policy: PullPolicy::Never,
        manifest_digest: Some(format!("sha256:{}", "0".repeat(64))),
        security_profile: SecurityProfile::Restricted,
        require_isolation: Some(IsolationLevel::Landlock),
        ..plain()
    };
    config.runtime.entrypoint = Some(Vec::new());
    config.runtime.cmd = Some(vec!["serve".to_owned()]);
    config
        .runtime
        .scripts
        .insert("up".to_owned(), "#!/bin/sh\n".to_owned());
    config.network.policy = NetworkPolicy::non_local();
    config.network.ports.push(PublishedPort {
        host_bind: [127, 0, 0, 1].into(),
        host_port: 8080,
        guest_port: 80,
        protocol: PortProtocol::Udp,
    });
    config.network.interface.ipv4_pool = Some("10.0.0.0/8".parse().unwrap());
    config.network.dns.nameservers = vec!["dns.example".parse().unwrap()];
    config
}

/// What is in the file of a sandbox that was made before there was anything but this.
fn before() -> Value {
    json!({
        "name": "web",
        "image": {"disk_image": {"path": "/disk.ext4", "format": "raw", "fstype": null}},
        "resources": {"cpus": 1, "memory_mib": 512},
        "runtime": {
            "workdir": null, "shell": null, "hostname": null, "user": null, "log_level": null,
            "metrics_sample_interval_ms": null, "disable_metrics_sample": false
        },
        "env": [],
        "labels": {},
        "rlimits": [],
        "lifecycle": {"ephemeral": false, "max_duration_secs": null, "idle_timeout_secs": null}
    })
}

#[test]
fn who_asks_for_nothing_new_stores_nothing_new() {
    assert_eq!(serde_json::to_value(plain()).unwrap(), before());
    assert_eq!(
        serde_json::from_value::<SandboxConfig>(before()).unwrap(),
        plain()
    );
}

#[test]
fn the_defaults_are_the_documented_ones() {
    let image = json!({"oci": {"reference": "alpine", "upper_size_mib": null}});
    let least = json!({"name": "web", "image": image});
    let config: SandboxConfig = serde_json::from_value(least).unwrap();
    assert_eq!(
        (config.resources.cpus, config.resources.memory_mib),
        (1, 512)
    );
    assert!(config.network.enabled && !config.network.trust_host_cas);
    assert_eq!(config.network.policy, NetworkPolicy::public_only());
    assert!(config.network.dns.rebind_protection && config.network.tls.verify_upstream);
    assert_eq!(config.network.dns.query_timeout_ms, 5000);
    assert_eq!(config.network.tls.intercepted_ports, [443]);
    assert_eq!(config.pull_policy, PullPolicy::IfMissing);
    assert_eq!(config.security_profile, SecurityProfile::Default);
    assert_eq!(config.replace_with_timeout, Duration::from_secs(10));
    let runtime = &config.runtime;
    assert_eq!((&runtime.entrypoint, &runtime.cmd), (&None, &None));
    assert!(runtime.scripts.is_empty() && config.mounts.is_empty() && config.patches.is_empty());
    assert!(config.init.is_none() && config.registry_auth.is_none());
}

#[test]
fn everything_survives_being_stored() {
    let json = serde_json::to_string(&full()).unwrap();
    assert_eq!(
        serde_json::from_str::<SandboxConfig>(&json).unwrap(),
        full()
    );
}

#[test]
fn what_an_image_was_found_to_be_is_stored() {
    let digest = format!("sha256:{}", "ab".repeat(32));
    let config = SandboxConfig {
        manifest_digest: Some(digest.clone()),
        ..plain()
    };
    let mut stored = before();
    stored["manifest_digest"] = json!(digest);
    assert_eq!(serde_json::to_value(&config).unwrap(), stored);
    assert_eq!(
        serde_json::from_value::<SandboxConfig>(stored).unwrap(),
        config
    );
}

#[test]
fn where_it_began_is_stored() {
    let digest = format!("sha256:{}", "cd".repeat(32));
    let config = SandboxConfig {
        parent_snapshot: Some(digest.clone()),
        ..plain()
    };
    let mut stored = before();
    stored["parent_snapshot"] = json!(digest);
    assert_eq!(serde_json::to_value(&config).unwrap(), stored);
    assert_eq!(
        serde_json::from_value::<SandboxConfig>(stored).unwrap(),
        config
    );
}

#[test]
fn what_is_a_matter_of_one_creation_or_secret_is_not_stored() {
    let mut config = SandboxConfig {
        registry_auth: Some(RegistryAuth::Basic {
            username: "ann".to_owned(),
            password: "hunter2".to_owned(),
        }),
        insecure: true,
        ca_certs: vec![b"hunter2".to_vec()],
        initial_command: Some(vec!["hunter2".to_owned()]),
        startup_command_requested: true,
        snapshot_upper_source: Some("hunter2".into()),
        replace_existing: true,
        ..plain()
    };
    assert_eq!(serde_json::to_value(&config).unwrap(), before());
    config.network.secrets.secrets.push(SecretEntry {
        env_var: "KEY".to_owned(),
        value: "hunter2".into(),
        placeholder: "$MSB_KEY".to_owned(),
        allowed_hosts: vec![HostPattern::Any],
        injection: SecretInjection::default(),
        require_tls_identity: true,
        on_violation: None,
    });
    let json = serde_json::to_string(&config).unwrap();
    assert!(
        json.contains("$MSB_KEY") && !json.contains("hunter2"),
        "{json}"
    );
    config.initial_command = None;
    config.snapshot_upper_source = None;
    config.ca_certs.clear();
    assert!(!format!("{config:?}").contains("hunter2"));
}

#[test]
fn what_is_not_known_is_refused() {
    for path in [
        "",
        "/network",
        "/mounts/0",
        "/mounts/0/source/tmpfs",
        "/init",
    ] {
        let mut stored = serde_json::to_value(full()).unwrap();
        let part = stored.pointer_mut(path).unwrap().as_object_mut().unwrap();
        part.insert("surprise".to_owned(), json!(1));
        let read = serde_json::from_value::<SandboxConfig>(stored);
        assert!(read.is_err(), "{path}");
    }
}
