//! What a sandbox is made from when its image comes from a registry.

use std::collections::HashMap;
use std::path::Path;

use msb_image::registry::RegistryError;
use msb_image::registry::testing::{Access, FakeRegistry};
use msb_image::store::StoreError;
use msb_types::{MountSource, RegistryAuth};

use super::*;
use crate::config::{RegistryAuthEntry, RegistryEntry};

fn config(registry: &FakeRegistry, rest: &str) -> SandboxConfig {
    SandboxConfig {
        name: "web".to_owned(),
        image: RootfsSource::Oci {
            reference: format!("{}/team/app{rest}", registry.host()),
            upper_size_mib: None,
        },
        insecure: true,
        ..SandboxConfig::default()
    }
}

/// A home whose configuration says nothing of registries but this.
fn backend(home: &Path, hosts: HashMap<String, RegistryEntry>) -> LocalBackend {
    let builder = LocalBackend::builder().home(home);
    builder.ca_certs(None).registry_hosts(hosts).lazy()
}

async fn prepare(
    backend: &LocalBackend,
    config: SandboxConfig,
) -> MicrosandboxResult<SandboxConfig> {
    let prepared = backend.prepared(config, PullReporter::default()).await?;
    assert!(prepared.held.is_some());
    Ok(prepared.config)
}

const RUN: &str = r#"{"Env": ["PATH=/app"], "Cmd": ["serve"], "User": "app", "WorkingDir": "/app",
    "Labels": {"org.example/a": "1", "sandbox.owner": "evil"}}"#;

#[tokio::test(flavor = "multi_thread")]
async fn the_image_and_what_it_says_are_in_the_configuration() {
    let registry = FakeRegistry::new().await;
    let image = registry.image("1", "amd64", &[], RUN);
    let home = tempfile::tempdir().unwrap();
    let backend = backend(home.path(), HashMap::new());
    let config = prepare(&backend, config(&registry, ":1")).await.unwrap();
    let digest = image.manifest.to_string();
    assert_eq!(config.manifest_digest.as_deref(), Some(digest.as_str()));
    assert_eq!(
        config.runtime.cmd.as_deref(),
        Some(["serve".to_owned()].as_slice())
    );
    assert_eq!(config.env[0].value, "/app");
    assert_eq!(config.labels.len(), 1);
    assert!(matches!(
        config.mounts[0].source,
        MountSource::Tmpfs {
            size_mib: Some(128)
        }
    ));
    // It is stored with the sandbox; how the registry was talked to is not.
    let stored: SandboxConfig =
        serde_json::from_str(&serde_json::to_string(&config).unwrap()).unwrap();
    assert_eq!(stored.manifest_digest, config.manifest_digest);
    assert!(!stored.insecure);
}

#[tokio::test(flavor = "multi_thread")]
async fn policies_say_when_the_registry_is_asked() {
    let registry = FakeRegistry::new().await;
    let first = registry.image("1", "amd64", &[], "{}");
    let home = tempfile::tempdir().unwrap();
    let backend = backend(home.path(), HashMap::new());
    let with = |pull_policy| SandboxConfig {
        pull_policy,
        ..config(&registry, ":1")
    };
    let missing = prepare(&backend, with(PullPolicy::Never))
        .await
        .unwrap_err();
    assert!(
        matches!(missing, MicrosandboxError::ImageNotFound(name) if name.ends_with("/team/app:1"))
    );
    assert!(registry.asked("").is_empty());

    prepare(&backend, with(PullPolicy::IfMissing))
        .await
        .unwrap();
    let second = registry.image("1", "amd64", &[], r#"{"Cmd":["x"]}"#);
    let asked = registry.asked("").len();
    for policy in [PullPolicy::IfMissing, PullPolicy::Never] {
        let config = prepare(&backend, with(policy)).await.unwrap();
        assert_eq!(config.manifest_digest, Some(first.manifest.to_string()));
    }
    assert_eq!(registry.asked("").len(), asked);
    let config = prepare(&backend, with(PullPolicy::Always)).await.unwrap();
    assert_eq!(config.manifest_digest, Some(second.manifest.to_string()));
}

#[tokio::test(flavor = "multi_thread")]
async fn the_home_says_how_large_a_writable_layer_is_unless_the_sandbox_does() {
    let registry = FakeRegistry::new().await;
    registry.image("1", "amd64", &[], "{}");
    let home = tempfile::tempdir().unwrap();
    let backend = backend(home.path(), HashMap::new());
    let size = async |said| {
        let mut config = config(&registry, ":1");
        if let RootfsSource::Oci { upper_size_mib, .. } = &mut config.image {
            *upper_size_mib = said;
        }
        let config = prepare(&backend, config).await?;
        match config.image {
            RootfsSource::Oci { upper_size_mib, .. } => MicrosandboxResult::Ok(upper_size_mib),
            other => panic!("{other:?}"),
        }
    };
    assert_eq!(size(None).await.unwrap(), None);
    let file = home.path().join("config.json");
    std::fs::write(&file, r#"{"oci": {"upper_size_mib": 2048}}"#).unwrap();
    assert_eq!(size(None).await.unwrap(), Some(2048));
    assert_eq!(size(Some(512)).await.unwrap(), Some(512));
    std::fs::write(&file, r#"{"oci": {"upper_size_mib": 0}}"#).unwrap();
    let error = size(None).await.unwrap_err();
    assert!(matches!(error, MicrosandboxError::InvalidConfig(_)));
    assert_eq!(size(Some(512)).await.unwrap(), Some(512));
}

/// Damage is found before a boot: `Never` says what it is, and the others mend it.
#[tokio::test(flavor = "multi_thread")]
async fn a_damaged_image_is_mended_or_told_of() {
    let registry = FakeRegistry::new().await;
    let mut tar = tar::Builder::new(Vec::new());
    let mut header = tar::Header::new_ustar();
    header.set_size(3);
    tar.append_data(&mut header, "app", b"app".as_slice())
        .unwrap();
    let tar = tar.into_inner().unwrap();
    let image = registry.image("1", "amd64", &[tar], "{}");
    let home = tempfile::tempdir().unwrap();
    let backend = backend(home.path(), HashMap::new());
    let with = |pull_policy| SandboxConfig {
        pull_policy,
        ..config(&registry, ":1")
    };
    prepare(&backend, with(PullPolicy::IfMissing))
        .await
        .unwrap();
    let images = home.path().join("images");
    let layer = image.layers[0].hex();
    let data = images.join("layers").join(&layer).join("data");
    let disk = images.join("meta").join(image.manifest.hex() + ".erofs");
    let blob = images.join("blobs/sha256").join(&layer);
    // The last time the layer is damaged wherever it is, and has to come again.
    for damaged in [vec![&data], vec![&disk], vec![&data, &disk, &blob]] {
        for path in &damaged {
            let mut bytes = std::fs::read(path).unwrap();
            bytes[0] ^= 1;
            std::fs::write(path, bytes).unwrap();
        }
        let error = prepare(&backend, with(PullPolicy::Never))
            .await
            .unwrap_err();
        let MicrosandboxError::Image(ImageError::Store(error)) = error else {
            panic!("{error:?}");
        };
        assert!(matches!(*error, StoreError::Integrity { .. }), "{error:?}");
        let asked = registry.asked("").len();
        prepare(&backend, with(PullPolicy::IfMissing))
            .await
            .unwrap();
        let alone = registry.asked("").len() == asked;
        assert_eq!(alone, damaged.len() == 1, "{damaged:?}");
        prepare(&backend, with(PullPolicy::Never)).await.unwrap();
        Store::open(&images)
            .unwrap()
            .verify(&image.manifest)
            .unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_image_that_was_found_already_is_the_one() {
    let registry = FakeRegistry::new().await;
    let first = registry.image("1", "amd64", &[], "{}");
    registry.image("1", "amd64", &[], r#"{"Cmd":["other"]}"#);
    let home = tempfile::tempdir().unwrap();
    let backend = backend(home.path(), HashMap::new());
    let pinned = |digest: &str| SandboxConfig {
        manifest_digest: Some(digest.to_owned()),
        ..config(&registry, ":1")
    };
    let wanted = first.manifest.to_string();
    let config = prepare(&backend, pinned(&wanted)).await.unwrap();
    assert_eq!(config.manifest_digest, Some(wanted));
    assert_eq!(config.runtime.cmd, None);
    let refused = prepare(&backend, pinned("sha256:1")).await.unwrap_err();
    assert!(matches!(refused, MicrosandboxError::InvalidConfig(_)));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_known_of_a_registry_is_used() {
    let registry = FakeRegistry::new().await;
    registry.image("1", "amd64", &[], "{}");
    registry.allow(Access::Token(Some(("ann", "pass"))));
    let home = tempfile::tempdir().unwrap();
    let secrets = home.path().join("secrets/registries");
    std::fs::create_dir_all(&secrets).unwrap();
    std::fs::write(secrets.join("ours"), "pass\n").unwrap();
    let auth = RegistryAuthEntry {
        username: "ann".to_owned(),
        secret_name: Some("ours".to_owned()),
        ..RegistryAuthEntry::default()
    };
    let entry = RegistryEntry {
        auth: Some(auth),
        insecure: true,
    };
    let known = backend(home.path(), HashMap::from([(registry.host(), entry)]));
    let plain = SandboxConfig {
        insecure: false,
        ..config(&registry, ":1")
    };
    prepare(&known, plain.clone()).await.unwrap();

    // What is given with the image comes first.
    let other = tempfile::tempdir().unwrap();
    let given = SandboxConfig {
        registry_auth: Some(RegistryAuth::Anonymous),
        ..config(&registry, ":1")
    };
    let entry = backend(
        other.path(),
        known.shared.registries.resolve(home.path()).unwrap().hosts,
    );
    let error = prepare(&entry, given).await.unwrap_err();
    let MicrosandboxError::Image(ImageError::Pull { source, .. }) = error else {
        panic!("{error:?}");
    };
    let PullError::Registry(RegistryError::Unauthorized { tried, .. }) = *source else {
        panic!("{source:?}");
    };
    assert_eq!(tried, CredentialSource::Given);

    // Nobody asked for a registry without TLS.
    let strict = backend(other.path(), HashMap::new());
    let error = prepare(&strict, plain).await.unwrap_err();
    let text = format!("{error:?}");
    assert!(text.contains("NotHttps"), "{text}");
}

#[tokio::test]
async fn authorities_that_are_named_are_read() {
    let registry = FakeRegistry::new().await;
    let home = tempfile::tempdir().unwrap();
    let pem = home.path().join("ca.pem");
    let builder = LocalBackend::builder().home(home.path());
    let backend = builder.ca_certs(Some(pem.clone())).lazy();
    let missing = prepare(&backend, config(&registry, ":1"))
        .await
        .unwrap_err();
    assert!(matches!(missing, MicrosandboxError::InvalidConfig(text) if text.contains("ca.pem")));
    std::fs::write(&pem, "no certificate").unwrap();
    let error = prepare(&backend, config(&registry, ":1"))
        .await
        .unwrap_err();
    assert!(format!("{error:?}").contains("CaCerts"), "{error:?}");
    assert!(registry.asked("").is_empty());
}

#[tokio::test]
async fn what_is_no_image_is_left_as_it_is() {
    let home = tempfile::tempdir().unwrap();
    let backend = backend(home.path(), HashMap::new());
    let disk = SandboxConfig {
        name: "web".to_owned(),
        image: RootfsSource::Bind("/nowhere".into()),
        ..SandboxConfig::default()
    };
    let prepared = backend
        .prepared(disk.clone(), PullReporter::default())
        .await
        .unwrap();
    assert_eq!(prepared.config, disk);
    assert!(prepared.held.is_none());
    assert_eq!(std::fs::read_dir(home.path()).unwrap().count(), 0);
}
