//! Images, registries, snapshots.

use msb_types::{DiskImageFormat, PullPolicy, RegistryAuth, RootfsSource, SizeExt};

use super::*;
use crate::sandbox::ImageBuilder;

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
    for mib in [31, (16 << 20) + 1, u32::MAX] {
        let sized = |builder: SandboxBuilder| builder.image("a").oci_upper_size(mib);
        refused(sized, "give 32 to 16777216");
    }
    for mib in [32, 16 << 20] {
        built(|builder| builder.image("a").oci_upper_size(mib)).unwrap();
    }
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

    let digest = format!("sha256:{}", "1".repeat(64));
    let resolved =
        |builder: SandboxBuilder| builder.image("a").snapshot_resolved(&digest, "/upper");
    let config = built(resolved).unwrap();
    assert_eq!(config.manifest_digest.as_deref(), Some(&*digest));
    assert_eq!(config.snapshot_upper_source, Some("/upper".into()));
    let found = |builder: SandboxBuilder| resolved(builder).patch(|patch| patch.remove("/x"));
    refused(found, "leave them out");
    let short =
        |builder: SandboxBuilder| builder.image("a").snapshot_resolved("sha256:1", "/upper");
    refused(short, "no digest");
    let nowhere = |builder: SandboxBuilder| builder.image("a").snapshot_resolved(&digest, "");
    refused(nowhere, "empty path");
    refused(
        |builder| builder.snapshot_resolved(&digest, "/upper"),
        "over an OCI image",
    );
}

#[tokio::test]
async fn what_does_not_go_with_a_snapshot_is_told_before_it_is_looked_for() {
    let begun = || SandboxBuilder::new("web").from_snapshot("no-such-snapshot");
    let cases = [
        (begun().from_snapshot(""), "no snapshot's name"),
        (begun().patch(|patch| patch.remove("/x")), "leave them out"),
        (begun().image("a"), "one of the two"),
        (begun().image_with(|image| image), "the image is nothing"),
    ];
    for (builder, why) in cases {
        let pulled = builder.clone().create_with_pull_progress().map(drop);
        for refused in [builder.build().await.map(drop), pulled] {
            let Err(MicrosandboxError::InvalidConfig(text)) = refused else {
                panic!("{why}: {refused:?}");
            };
            assert!(text.contains(why), "{text}");
        }
    }
}
