//! Sandboxes of OCI images, with patches and without.

use std::collections::BTreeMap;

use msb_image::Digest;
use msb_image::archive::{LoadOptions, load_reader};
use msb_image::erofs::{Joined, Reader};
use msb_image::store::Store;
use msb_types::Patch;

use super::*;

pub(super) type Files<'a> = &'a [(&'a str, &'a [u8])];

fn tar(files: Files<'_>) -> Vec<u8> {
    let mut builder = tar::Builder::new(Vec::new());
    for (name, bytes) in files {
        let mut header = tar::Header::new_ustar();
        header.set_size(bytes.len() as u64);
        header.set_mode(0o644);
        builder.append_data(&mut header, name, *bytes).unwrap();
    }
    builder.into_inner().unwrap()
}

/// What `docker save` writes of an image with these layers.
fn archive(layers: &[Files<'_>]) -> Vec<u8> {
    let layers: Vec<_> = layers.iter().map(|files| tar(files)).collect();
    let diff_ids: Vec<_> = layers.iter().map(|tar| Digest::of(tar)).collect();
    let config = serde_json::json!({
        "architecture": "amd64", "os": "linux",
        "rootfs": {"type": "layers", "diff_ids": diff_ids},
    });
    let config = config.to_string().into_bytes();
    let names: Vec<_> = (0..layers.len())
        .map(|n| format!("{n}/layer.tar"))
        .collect();
    let manifest = serde_json::json!([
        {"Config": "config.json", "RepoTags": ["app:1"], "Layers": names},
    ]);
    let manifest = manifest.to_string().into_bytes();
    let mut files: Vec<(&str, &[u8])> =
        vec![("manifest.json", &manifest), ("config.json", &config)];
    files.extend(
        names
            .iter()
            .map(String::as_str)
            .zip(layers.iter().map(Vec::as_slice)),
    );
    tar(&files)
}

pub(super) const BASE: Files<'_> = &[("etc/motd", b"hello"), ("bin/tool", &[7; 9000])];
/// Without a byte of data.
pub(super) const EMPTY: Files<'_> = &[("srv/empty", b"")];
pub(super) const APP: Files<'_> = &[("app/main", b"print(1)")];

impl Place {
    pub(super) fn load(&self, layers: &[Files<'_>]) -> Digest {
        let store = Store::open(&self.path("images")).unwrap();
        let claim = store.claim().unwrap();
        let archive = archive(layers);
        let loaded = load_reader(&claim, &*archive, &LoadOptions::default()).unwrap();
        loaded[0].manifest_digest
    }

    pub(super) fn image(&self, digest: Digest, patches: Vec<Patch>) -> SandboxConfig {
        SandboxConfig {
            image: RootfsSource::Oci {
                reference: "app:1".to_owned(),
                upper_size_mib: Some(64),
            },
            manifest_digest: Some(digest.to_string()),
            patches,
            ..SandboxConfig::default()
        }
    }

    /// What is at each of these paths of the read-only disk.
    pub(super) fn files(
        &self,
        config: &SandboxConfig,
        paths: &[&str],
    ) -> BTreeMap<String, Option<Vec<u8>>> {
        let root = self.open(config).unwrap();
        let Some(Disk {
            id: "root",
            content: Content::Parts(parts),
        }) = root.disks.into_iter().next()
        else {
            panic!("no disk of parts");
        };
        for part in &parts {
            assert_eq!(part.file.metadata().unwrap().len(), part.len);
            assert!(part.len > 0 && part.len.is_multiple_of(4096));
        }
        let parts = parts.into_iter().map(|part| part.file);
        let reader = Reader::open(Joined::new(parts).unwrap()).unwrap();
        let file = |path: &str| {
            let inode = reader.find(path.as_bytes()).unwrap()?;
            let mut bytes = vec![0; usize::try_from(inode.size).unwrap()];
            assert_eq!(reader.read(&inode, 0, &mut bytes).unwrap(), bytes.len());
            Some(bytes)
        };
        paths
            .iter()
            .map(|path| ((*path).to_owned(), file(path)))
            .collect()
    }
}

fn some(bytes: &[u8]) -> Option<Vec<u8>> {
    Some(bytes.to_vec())
}

#[test]
fn an_image_is_one_disk_of_its_layers() {
    let place = Place::new();
    let digest = place.load(&[BASE, EMPTY, APP]);
    let config = place.image(digest, Vec::new());
    place.prepare(&config, Some("template")).unwrap();
    let upper = fs::metadata(place.dir().path().join(upper::FILE)).unwrap();
    assert_eq!(upper.len(), 64 << 20);
    assert_eq!(fs::read_dir(place.dir().path()).unwrap().count(), 1);
    let files = place.files(
        &config,
        &["etc/motd", "bin/tool", "srv/empty", "app/main", "none"],
    );
    assert_eq!(files["etc/motd"], some(b"hello"));
    assert_eq!(files["bin/tool"], some(&[7; 9000]));
    assert_eq!(files["srv/empty"], some(b""));
    assert_eq!(files["app/main"], some(b"print(1)"));
    assert_eq!(files["none"], None);
    let root = place.open(&config).unwrap();
    assert!(matches!(root.guest, GuestRoot::Overlay { .. }));
    assert!(root.mapped.is_none());
    assert!(matches!(
        root.disks[1],
        Disk {
            id: "upper",
            content: Content::Own(_)
        }
    ));
}

pub(super) fn patches(place: &Place) -> Vec<Patch> {
    fs::write(place.path("host"), "of the host").unwrap();
    vec![
        Patch::Text {
            path: "/etc/new/conf".to_owned(),
            content: "on".to_owned(),
            mode: None,
            replace: false,
        },
        Patch::Append {
            path: "/etc/motd".to_owned(),
            content: ", world".to_owned(),
        },
        Patch::CopyFile {
            src: place.path("host"),
            dst: "/srv/copy".to_owned(),
            mode: None,
            replace: false,
        },
        Patch::Remove {
            path: "/app".to_owned(),
        },
    ]
}

pub(super) const PATCHED: [&str; 5] = [
    "etc/new/conf",
    "etc/motd",
    "srv/copy",
    "app/main",
    "bin/tool",
];

pub(super) fn check(files: &BTreeMap<String, Option<Vec<u8>>>) {
    assert_eq!(files["etc/new/conf"], some(b"on"));
    assert_eq!(files["etc/motd"], some(b"hello, world"));
    assert_eq!(files["srv/copy"], some(b"of the host"));
    assert_eq!(files["app/main"], None);
    assert_eq!(files["bin/tool"], some(&[7; 9000]));
}

#[test]
fn patches_are_made_once_and_are_the_sandboxs_own() {
    let place = Place::new();
    let digest = place.load(&[BASE, EMPTY, APP]);
    let config = place.image(digest, patches(&place));
    place.prepare(&config, Some("template")).unwrap();
    // Nobody needs it any more.
    fs::remove_file(place.path("host")).unwrap();
    check(&place.files(&config, &PATCHED));
    check(&place.files(&config, &PATCHED));
    // The image is what it was.
    let plain = place.image(digest, Vec::new());
    fs::remove_dir_all(place.dir().path()).unwrap();
    fs::create_dir(place.dir().path()).unwrap();
    place.prepare(&plain, Some("template")).unwrap();
    let files = place.files(&plain, &PATCHED);
    assert_eq!(files["etc/motd"], some(b"hello"));
    assert_eq!(files["app/main"], some(b"print(1)"));
    assert_eq!(files["srv/copy"], None);
}

#[test]
fn patches_without_a_byte_have_no_part_of_the_disk() {
    let place = Place::new();
    let digest = place.load(&[BASE]);
    let remove = Patch::Remove {
        path: "/etc/motd".to_owned(),
    };
    let config = place.image(digest, vec![remove]);
    place.prepare(&config, Some("template")).unwrap();
    let files = place.files(&config, &["etc/motd", "bin/tool"]);
    assert_eq!(files["etc/motd"], None);
    assert_eq!(files["bin/tool"], some(&[7; 9000]));
}

#[test]
fn metadata_is_made_anew_when_the_images_is_another() {
    let place = Place::new();
    let digest = place.load(&[BASE, EMPTY, APP]);
    let config = place.image(digest, patches(&place));
    place.prepare(&config, Some("template")).unwrap();
    // As if the store had had the layers in another order then.
    let made = place.dir().path().join("patch/made.json");
    let mut json: serde_json::Value = serde_json::from_slice(&fs::read(&made).unwrap()).unwrap();
    json["image"] = Digest::of(b"another").to_string().into();
    json["root_bytes"] = 4096.into();
    fs::write(&made, json.to_string()).unwrap();
    let root = place.dir().path().join("root.erofs");
    fs::write(&root, [0; 4096]).unwrap();
    fs::write(place.dir().path().join("root.new"), "half").unwrap();
    check(&place.files(&config, &PATCHED));
    let now: serde_json::Value = serde_json::from_slice(&fs::read(&made).unwrap()).unwrap();
    assert_ne!(now["image"], json["image"]);
    assert!(!place.dir().path().join("root.new").exists());
    check(&place.files(&config, &PATCHED));
}

#[test]
fn what_is_damaged_is_told_and_not_booted() {
    let place = Place::new();
    let digest = place.load(&[BASE]);
    let config = place.image(digest, patches_of_text());
    place.prepare(&config, Some("template")).unwrap();
    let refused = |name: &str, bytes: &[u8]| {
        let path = place.dir().path().join(name);
        let before = fs::read(&path).unwrap();
        fs::write(&path, bytes).unwrap();
        let error = place.open(&config).unwrap_err();
        fs::write(&path, before).unwrap();
        assert_eq!(error.kind, BootErrorKind::Image, "{error}");
        assert!(error.message.contains(name), "{error}");
    };
    refused("patch/data", &[0; 512]);
    refused("root.erofs", b"");
    refused("patch/made.json", b"{}");
    place.open(&config).unwrap();
}

fn patches_of_text() -> Vec<Patch> {
    vec![Patch::Text {
        path: "/x".to_owned(),
        content: "text".to_owned(),
        mode: None,
        replace: false,
    }]
}

#[test]
fn what_cannot_be_is_said_in_its_kind() {
    let place = Place::new();
    let digest = place.load(&[BASE]);
    let kind = |config: &SandboxConfig| match place.prepare(config, Some("template")) {
        Err(LaunchError::Boot(error)) => error.kind,
        other => panic!("{other:?}"),
    };
    let gone = place.image(Digest::of(b"gone"), Vec::new());
    assert_eq!(kind(&gone), BootErrorKind::ImageMissing);
    let invalid = BootErrorKind::Vmm(ErrorKind::InvalidConfig);
    let mut odd = place.image(digest, Vec::new());
    odd.manifest_digest = Some("sha256:../../etc".to_owned());
    assert_eq!(kind(&odd), invalid);
    odd.manifest_digest = None;
    assert_eq!(kind(&odd), invalid);
    let there = Patch::Text {
        path: "/etc/motd".to_owned(),
        content: String::new(),
        mode: None,
        replace: false,
    };
    assert_eq!(
        kind(&place.image(digest, vec![there])),
        BootErrorKind::Patch
    );
}

#[test]
fn an_image_that_was_changed_in_the_store_is_not_booted() {
    let place = Place::new();
    let digest = place.load(&[BASE]);
    let config = place.image(digest, Vec::new());
    place.prepare(&config, Some("template")).unwrap();
    let metadata = place.path("images/meta").join(digest.hex() + ".erofs");
    let mut bytes = fs::read(&metadata).unwrap();
    bytes[2000] ^= 1;
    fs::write(&metadata, bytes).unwrap();
    assert_eq!(place.open(&config).unwrap_err().kind, BootErrorKind::Image);
}
