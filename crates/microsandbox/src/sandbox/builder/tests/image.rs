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
