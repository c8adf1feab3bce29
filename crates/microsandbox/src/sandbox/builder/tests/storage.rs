//! Mounts and patches.

use msb_types::{
    DiskImageFormat, MountSource, NamedVolumeMode, Patch, SizeExt, StatVirtualization, VolumeKind,
};

use super::*;
use crate::sandbox::MountBuilder;

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
