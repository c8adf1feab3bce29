//! What is right and cannot be had yet is said, and leaves nothing behind.

use std::sync::Arc;

use msb_types::network::NetworkPolicy;
use msb_types::{NetworkSpec, PullPolicy, SecurityProfile};

use super::*;
use crate::backend::{Backend, LocalBackend, with_backend};
use crate::sandbox::{MountBuilder, Sandbox, SandboxBuilder};

type Describe = fn(SandboxBuilder) -> SandboxBuilder;

fn builder() -> SandboxBuilder {
    SandboxBuilder::new("web").image("/nowhere/disk.ext4")
}

/// Everything that this release has to refuse, one thing at a time.
const LATER: [Describe; 15] = [
    |builder| builder.image("/disk.qcow2"),
    |builder| builder.image_with(|image| image.bind("/root")),
    |builder| {
        builder
            .volume("/tmp", MountBuilder::tmpfs)
            .volume("/data", |mount| mount.bind("/data"))
    },
    |builder| builder.port(8080, 80),
    |builder| builder.disable_network().port_udp(8080, 80),
    |builder| builder.secret_env("KEY", "hunter2", "api.example.com"),
    |builder| {
        builder
            .disable_network()
            .secret_env("KEY", "hunter2", "api.example.com")
    },
    |builder| builder.network(|network| network.policy(NetworkPolicy::allow_all())),
    |builder| builder.network(|network| network.dns(|dns| dns.rebind_protection(false))),
    |builder| builder.network(|network| network.tls(|tls| tls)),
    |builder| builder.network(|network| network.max_connections(1)),
    |builder| builder.network(|network| network.ipv4_pool("10.0.0.0/8".parse().unwrap())),
    |builder| builder.network(|network| network.on_secret_violation(|on| on.block())),
    |builder| {
        builder
            .disable_network()
            .network(|network| network.trust_host_cas(true))
    },
    |builder| builder.persistent_initial_command(["serve"]),
];

#[tokio::test]
async fn what_cannot_be_had_yet_is_said_and_leaves_nothing() {
    let home = tempfile::tempdir().unwrap();
    let local = LocalBackend::builder().home(home.path()).lazy();
    let backend: Arc<dyn Backend> = Arc::new(local);
    for (index, describe) in LATER.into_iter().enumerate() {
        let creations = async {
            let attached = describe(builder()).create().await;
            let detached = describe(builder()).create_detached().await;
            let pulled = match describe(builder()).create_with_pull_progress() {
                Err(error) => Err(error),
                Ok((mut progress, task)) => {
                    assert_eq!(progress.recv().await, None);
                    task.await.unwrap()
                }
            };
            [attached, detached, pulled]
        };
        for created in with_backend(Arc::clone(&backend), creations).await {
            let error = created.map(|_| ()).unwrap_err();
            assert!(!format!("{error:?} {error}").contains("hunter2"));
            let MicrosandboxError::Unsupported {
                feature,
                available_when,
            } = error
            else {
                panic!("{index}: {error:?}");
            };
            assert!(!feature.is_empty() && !available_when.is_empty(), "{index}");
        }
    }
    assert_eq!(std::fs::read_dir(home.path()).unwrap().count(), 0);
}

#[test]
fn what_can_be_had_is_not_refused() {
    let fine: [Describe; 15] = [
        |builder| builder,
        |builder| builder.image("python:3.12").oci_upper_size(64),
        |builder| builder.registry(|registry| registry.insecure().ca_certs(vec![1])),
        |builder| builder.registry(|registry| registry.auth(Default::default())),
        |builder| builder.disable_network(),
        |builder| builder.network(|network| network),
        |builder| builder.network(|network| network.enabled(true)),
        |builder| builder.network(|network| network.policy(NetworkPolicy::none())),
        |builder| {
            builder
                .network(|network| network.tls(|tls| tls))
                .disable_network()
        },
        |builder| builder.entrypoint(["python"]),
        |builder| builder.pull_policy(PullPolicy::Always),
        |builder| builder.init("auto"),
        |builder| builder.security(SecurityProfile::Restricted),
        |builder| builder.script("up", "#!/bin/sh\n"),
        |builder| builder.volume("/tmp", |mount| mount.tmpfs().size(64)),
    ];
    for describe in fine {
        let runtime = tokio::runtime::Builder::new_current_thread().build();
        let config = runtime.unwrap().block_on(describe(builder()).build());
        supported(&config.unwrap()).unwrap();
    }
    assert!(NetworkSpec::disabled().validate().is_ok());
}

#[tokio::test]
async fn a_configuration_from_elsewhere_is_looked_at_as_well() {
    let mut config = builder().build().await.unwrap();
    config.runtime.cmd = Some(Vec::new());
    let created = Sandbox::create(config.clone()).await.map(|_| ());
    assert!(matches!(created, Err(MicrosandboxError::InvalidConfig(_))));
    let (mut progress, task) = Sandbox::create_detached_with_pull_progress(config);
    assert_eq!(progress.recv().await, None);
    let created = task.await.unwrap().map(|_| ());
    assert!(matches!(created, Err(MicrosandboxError::InvalidConfig(_))));
}
