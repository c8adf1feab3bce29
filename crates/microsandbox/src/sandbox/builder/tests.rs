//! What the steps say, and what is refused of them.

use std::time::Duration;

use msb_types::network::{NetworkPolicy, PortProtocol};
use msb_types::{
    DiskImageFormat, MountSource, NamedVolumeMode, Patch, PullPolicy, RegistryAuth, RootfsSource,
    SecurityProfile, SizeExt, StatVirtualization, VolumeKind,
};

use super::*;
use crate::exec::RlimitResource;
use crate::network::BuildError;
use crate::sandbox::{ImageBuilder, MountBuilder};

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
fn images() {
    let image = |f: fn(ImageBuilder) -> ImageBuilder| f(ImageBuilder::new()).build();
    let oci = RootfsSource::Oci {
        reference: "python:3.12".to_owned(),
        upper_size_mib: Some(8192),
    };
    assert_eq!(
        image(|image| image.oci("python:3.12").upper_size(8.gib())).unwrap(),
        oci
    );
    let config = SandboxBuilder::new("web")
        .image("python:3.12")
        .oci_upper_size(8192)
        .pull_policy(PullPolicy::Never)
        .finish()
        .unwrap();
    assert_eq!((config.image, config.pull_policy), (oci, PullPolicy::Never));
    assert_eq!(
        image(|image| image.disk("/a.qcow2").fstype("xfs")).unwrap(),
        RootfsSource::DiskImage {
            path: "/a.qcow2".into(),
            format: DiskImageFormat::Qcow2,
            fstype: Some("xfs".to_owned()),
        }
    );
    assert_eq!(
        image(|image| image.bind("/root")).unwrap(),
        RootfsSource::Bind("/root".into())
    );
    let wrong: [fn(ImageBuilder) -> ImageBuilder; 5] = [
        |image| image,
        |image| image.oci("a").bind("/b"),
        |image| image.oci("a").fstype("ext4"),
        |image| image.disk("/a").upper_size(1),
        |image| image.bind("/a").upper_size(1),
    ];
    for wrong in wrong {
        assert!(matches!(
            image(wrong),
            Err(MicrosandboxError::InvalidConfig(_))
        ));
        let builder = SandboxBuilder::new("web").image_with(wrong).finish();
        assert!(matches!(builder, Err(MicrosandboxError::InvalidConfig(_))));
    }
    refused(|builder| builder.oci_upper_size(1), "for OCI images");
    refused(|builder| builder.image(std::path::PathBuf::new()), "empty");
    let sized = |builder: SandboxBuilder| builder.image("a").oci_upper_size(0);
    refused(sized, "holds nothing");
    for reference in ["", "a b", "a\n"] {
        let refused = built(|builder| builder.image(reference));
        assert!(matches!(refused, Err(MicrosandboxError::Image(_))));
    }
    let none = SandboxBuilder::new("web").finish();
    assert!(matches!(none, Err(MicrosandboxError::InvalidConfig(_))));
}

#[test]
fn registries_and_snapshots() {
    let auth = RegistryAuth::Basic {
        username: "ann".to_owned(),
        password: "hunter2".to_owned(),
    };
    let builder = SandboxBuilder::new("web")
        .image("a")
        .registry(|registry| registry.auth(auth.clone()).ca_certs(vec![1]))
        .registry(|registry| registry.insecure().ca_certs(vec![2]));
    assert!(!format!("{builder:?}").contains("hunter2"));
    let config = builder.finish().unwrap();
    assert_eq!(config.registry_auth, Some(auth));
    assert!(config.insecure);
    assert_eq!(config.ca_certs, [vec![1], vec![2]]);
    assert!(!serde_json::to_string(&config).unwrap().contains("hunter2"));

    let config = built(|builder| builder.image("a").snapshot_resolved("sha256:1", "/upper"));
    let config = config.unwrap();
    assert_eq!(config.manifest_digest.as_deref(), Some("sha256:1"));
    assert_eq!(config.snapshot_upper_source, Some("/upper".into()));
    refused(|builder| builder.from_snapshot(""), "no snapshot's name");
    let patched = |builder: SandboxBuilder| builder.from_snapshot("a").patch(|p| p.remove("/x"));
    refused(patched, "leave them out");
    let found = |builder: SandboxBuilder| {
        let patched = builder.image("a").patch(|patch| patch.remove("/x"));
        patched.snapshot_resolved("sha256:1", "/upper")
    };
    refused(found, "leave them out");
    // It needs no image besides.
    let beginning = SandboxBuilder::new("web").from_snapshot("a").finish();
    assert!(matches!(
        beginning,
        Err(MicrosandboxError::Unsupported { .. })
    ));
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
fn mounts() {
    let config = built(|builder| {
        builder
            .volume("/a", |mount| mount.bind("/host").readonly().quota(1.gib()))
            .volume("/b", |mount| {
                let relaxed = mount.stat_virtualization(StatVirtualization::Relaxed);
                relaxed.named_with("cache", |volume| volume.ensure_exists().disk().size(64))
            })
            .volume("/c", |mount| {
                mount.tmpfs().size(64).noexec().nosuid().nodev()
            })
            .volume("/d", |mount| mount.disk("/d.vmdk").fstype("ext4"))
    })
    .unwrap();
    let [a, b, c, d] = &config.mounts[..] else {
        panic!("{config:?}");
    };
    assert!(a.options.readonly && !a.options.noexec);
    assert!(matches!(
        a.source,
        MountSource::Bind {
            quota_mib: Some(1024),
            ..
        }
    ));
    let MountSource::Named {
        mode,
        create,
        stat_virtualization,
        ..
    } = &b.source
    else {
        panic!("{b:?}");
    };
    assert_eq!(
        (*mode, create.kind),
        (NamedVolumeMode::EnsureExists, VolumeKind::Disk)
    );
    assert_eq!(*stat_virtualization, StatVirtualization::Relaxed);
    assert!(c.options.noexec && c.options.nosuid && c.options.nodev);
    let vmdk = DiskImageFormat::Vmdk;
    assert!(matches!(&d.source, MountSource::Disk { format, .. } if *format == vmdk));

    type Describe = fn(MountBuilder) -> MountBuilder;
    let wrong: [(&str, Describe, &str); 16] = [
        ("/a", |mount| mount, "is nothing"),
        ("/a", |mount| mount.tmpfs().bind("/b"), "two things"),
        ("/a", |mount| mount.bind("/b").size(1), "size()"),
        ("/a", |mount| mount.tmpfs().quota(1), "quota()"),
        ("/a", |mount| mount.tmpfs().fstype("ext4"), "fstype()"),
        (
            "/a",
            |mount| mount.bind("/b").format(DiskImageFormat::Raw),
            "format()",
        ),
        (
            "/a",
            |mount| mount.tmpfs().stat_virtualization(StatVirtualization::Off),
            "stat_virtualization()",
        ),
        ("/a", |mount| mount.bind(""), "empty path"),
        ("/a", |mount| mount.bind("/b").quota(0), "quota of 0"),
        ("/a", |mount| mount.tmpfs().size(0), "size of 0"),
        ("/a", |mount| mount.named("../x"), "volume name"),
        (
            "/a",
            |mount| mount.named_with("x", |volume| volume.disk().size(1)),
            "must be there already",
        ),
        (
            "/a",
            |mount| mount.named_with("x", |volume| volume.create().size(1)),
            "no size()",
        ),
        (
            "/a",
            |mount| mount.named_with("x", |volume| volume.create().disk()),
            "has no size()",
        ),
        ("/.msb/x", |mount| mount.tmpfs(), "this library's"),
        ("/a/../b", |mount| mount.tmpfs(), "absolute path"),
    ];
    for (guest, describe, why) in wrong {
        refused(|builder| builder.volume(guest, describe), why);
        let alone = describe(MountBuilder::new(guest)).build();
        assert!(matches!(alone, Err(MicrosandboxError::InvalidConfig(_))));
    }
    for guest in ["", "a", "/", "//", "/a\0"] {
        refused(
            |builder| builder.volume(guest, MountBuilder::tmpfs),
            "absolute path",
        );
    }
    let twice = |builder: SandboxBuilder| {
        let first = builder.volume("/a", MountBuilder::tmpfs);
        first.volume("/a/", MountBuilder::tmpfs)
    };
    refused(twice, "two mounts");
}

#[test]
fn patches() {
    let config = built(|builder| {
        builder
            .image("python")
            .patch(|patch| {
                patch
                    .text("/etc/motd", "hello", Some(0o644), true)
                    .file("/bin/x", [1, 2], None, false)
                    .copy_file("x", "/x", None, false)
                    .copy_dir("y", "/y", false)
                    .symlink("x", "/z", false)
                    .mkdir("/d", Some(0o700))
                    .remove("/e")
                    .append("/f", "more")
            })
            .add_patch(Patch::Remove {
                path: "/g".to_owned(),
            })
    });
    assert_eq!(config.unwrap().patches.len(), 9);
    type Describe = fn(SandboxBuilder) -> SandboxBuilder;
    let wrong: [(Describe, &str); 6] = [
        (
            |builder| builder.patch(|patch| patch.remove("e")),
            "absolute path",
        ),
        (
            |builder| builder.patch(|patch| patch.mkdir("/a/../..", None)),
            "absolute path",
        ),
        (
            |builder| builder.patch(|patch| patch.text("/a", "", Some(0o10644), true)),
            "permission bits",
        ),
        (
            |builder| builder.patch(|patch| patch.symlink("", "/a", true)),
            "no link",
        ),
        (
            |builder| builder.patch(|patch| patch.copy_dir("", "/a", true)),
            "empty path",
        ),
        (
            |builder| builder.patch(|patch| patch.copy_file("a", "/", None, true)),
            "absolute path",
        ),
    ];
    for (describe, why) in wrong {
        refused(|builder| describe(builder.image("python")), why);
    }
    refused(
        |builder| builder.patch(|patch| patch.remove("/e")),
        "disk image",
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
