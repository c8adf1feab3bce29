//! One spelling for one manifest, and what is refused.

use proptest::prelude::*;

use super::*;

fn digest(of: &str) -> String {
    Digest::of(of.as_bytes()).to_string()
}

fn manifest() -> Manifest {
    let image = ImageRef {
        manifest_digest: digest("image"),
        reference: "docker.io/library/python:3.12".to_owned(),
    };
    let mut manifest = Manifest::new(image, Some("build-1".to_owned()), 4 << 30);
    manifest.created_at = "2026-05-01T12:00:00.000000000Z".to_owned();
    manifest.labels = BTreeMap::from([
        ("stage".to_owned(), "pip \"done\"\n".to_owned()),
        ("owner".to_owned(), "Zoë".to_owned()),
    ]);
    manifest
}

/// What is written once is what is written for ever: another spelling would be another identity.
#[test]
fn the_spelling_is_frozen() {
    let sealed = manifest().seal().unwrap();
    let expected = format!(
        concat!(
            r#"{{"created_at":"2026-05-01T12:00:00.000000000Z","format":"raw","fstype":"ext4","#,
            r#""image":{{"manifest_digest":"{}","reference":"docker.io/library/python:3.12"}},"#,
            r#""labels":{{"owner":"Zoë","stage":"pip \"done\"\n"}},"parent":null,"schema":1,"#,
            r#""source_sandbox":"build-1","#,
            r#""upper":{{"file":"upper.ext4","integrity":null,"size_bytes":4294967296}}}}"#,
        ),
        digest("image")
    );
    assert_eq!(std::str::from_utf8(sealed.bytes()).unwrap(), expected);
    assert_eq!(
        sealed.digest().to_string(),
        "sha256:105faaf555eab44a86d72843d3a77d76bd4346c2a25fa114c54af850e02266b4"
    );
}

#[test]
fn all_that_can_be_said_is_read_as_it_was_written() {
    let mut full = manifest();
    full.parent = Some(digest("parent"));
    full.upper.integrity = Some(UpperIntegrity {
        algorithm: "msb-sparse-sha256-v1".to_owned(),
        digest: digest("upper"),
    });
    let file = |name: &str| PatchFile {
        digest: digest(name),
        size_bytes: 4096,
    };
    full.patch = Some(PatchLayer {
        data: file("data"),
        index: file("index"),
    });
    let sealed = full.clone().seal().unwrap();
    let read = Sealed::parse(sealed.bytes()).unwrap();
    assert_eq!(read, sealed);
    assert_eq!(read.manifest(), &full);
    assert_eq!(read.parent().unwrap().to_string(), digest("parent"));
    assert_eq!(read.image().unwrap().to_string(), digest("image"));
    assert_eq!(read.created_at().to_string(), "2026-05-01 12:00:00");
}

#[test]
fn any_other_spelling_is_refused() {
    let sealed = manifest().seal().unwrap();
    let text = std::str::from_utf8(sealed.bytes()).unwrap();
    let pretty: serde_json::Value = serde_json::from_str(text).unwrap();
    let owner = r#""owner":"Zoë","#;
    for spelling in [
        format!("{text}\n"),
        format!(" {text}"),
        serde_json::to_string_pretty(&pretty).unwrap(),
        text.replace(
            r#""format":"raw","fstype":"ext4""#,
            r#""fstype":"ext4","format":"raw""#,
        ),
        text.replace(r#""parent":null"#, r#""parent":null,"patch":null"#),
        text.replace("Zoë", r"Zo\u00eb"),
        text.replace(owner, &format!("{owner}{owner}")),
    ] {
        let refused = Sealed::parse(spelling.as_bytes());
        assert!(
            matches!(refused, Err(ManifestError::Spelling)),
            "{spelling}: {refused:?}"
        );
    }
    for broken in [
        text.replace(r#","parent":null"#, r#","parent":null,"more":1"#),
        text.replace(r#""schema":1"#, r#""schema":1,"schema":1"#),
        text.replace(r#""schema":1,"#, ""),
        text[..text.len() - 1].to_owned(),
        String::new(),
    ] {
        let refused = Sealed::parse(broken.as_bytes());
        assert!(
            matches!(refused, Err(ManifestError::Json(_))),
            "{broken}: {refused:?}"
        );
    }
    let newer = text.replace(r#""schema":1"#, r#""schema":2,"more":1"#);
    let refused = Sealed::parse(newer.as_bytes());
    assert!(matches!(refused, Err(ManifestError::Schema(2))));
    let long = vec![b' '; usize::try_from(MAX_MANIFEST).unwrap() + 1];
    assert!(matches!(Sealed::parse(&long), Err(ManifestError::TooLong)));
}

#[test]
fn values_that_no_snapshot_has_are_refused() {
    type Change = fn(&mut Manifest);
    let wrong: [(Change, &str); 16] = [
        (|m| m.created_at = "yesterday".to_owned(), "created_at"),
        (
            |m| m.created_at = "2026-05-01T12:00:00+02:00".to_owned(),
            "created_at",
        ),
        (|m| m.fstype = "xfs".to_owned(), "fstype"),
        (|m| m.image.reference.clear(), "image.reference"),
        (|m| m.image.reference = "a b".to_owned(), "image.reference"),
        (
            |m| m.image.manifest_digest = "sha256:1".to_owned(),
            "image.manifest_digest",
        ),
        (|m| m.parent = Some("../base".to_owned()), "parent"),
        (
            |m| drop(m.labels.insert("a b".to_owned(), String::new())),
            "labels",
        ),
        (
            |m| m.source_sandbox = Some("../web".to_owned()),
            "source_sandbox",
        ),
        (|m| m.upper.file = "../upper.ext4".to_owned(), "upper.file"),
        (|m| m.upper.file = "manifest.json".to_owned(), "upper.file"),
        (|m| m.upper.size_bytes = 0, "upper.size_bytes"),
        (|m| m.upper.size_bytes = 4097, "upper.size_bytes"),
        (
            |m| m.upper.size_bytes = MAX_UPPER_BYTES + 4096,
            "upper.size_bytes",
        ),
        (
            |m| {
                m.upper.integrity = Some(UpperIntegrity {
                    algorithm: String::new(),
                    digest: digest("x"),
                });
            },
            "upper.integrity.algorithm",
        ),
        (
            |m| {
                let file = PatchFile {
                    digest: digest("x"),
                    size_bytes: MAX_PATCH_BYTES + 1,
                };
                m.patch = Some(PatchLayer {
                    data: file.clone(),
                    index: file,
                });
            },
            "patch.data.size_bytes",
        ),
    ];
    for (change, expected) in wrong {
        let mut changed = manifest();
        change(&mut changed);
        let bytes = serde_json::to_vec(&changed).unwrap();
        for refused in [changed.seal(), Sealed::parse(&bytes)] {
            assert!(
                matches!(&refused, Err(ManifestError::Value { field, .. }) if *field == expected),
                "{expected}: {refused:?}"
            );
        }
    }
    let mut reserved = manifest();
    reserved.format = SnapshotFormat::Qcow2;
    assert!(matches!(reserved.seal(), Err(ManifestError::Format)));
}

proptest! {
    #[test]
    fn what_is_sealed_is_read_back(
        labels in proptest::collection::btree_map("[a-z][a-z0-9./_-]{0,20}", "\\PC{0,40}", 0..8),
        size in 1_u64..1 << 32,
        name in "[A-Za-z0-9][A-Za-z0-9._-]{0,40}",
    ) {
        let mut some = manifest();
        some.labels = labels;
        some.upper.size_bytes = size * BLOCK;
        some.source_sandbox = Some(name);
        if let Ok(sealed) = some.seal() {
            prop_assert_eq!(Sealed::parse(sealed.bytes()).unwrap(), sealed);
        }
    }

    #[test]
    fn whatever_is_read_has_one_spelling(
        at in 0_usize..600, byte in any::<u8>(), bytes in proptest::collection::vec(any::<u8>(), 0..60)
    ) {
        let _ = Sealed::parse(&bytes);
        let mut changed = manifest().seal().unwrap().bytes().to_vec();
        let at = at % changed.len();
        changed[at] = byte;
        if let Ok(sealed) = Sealed::parse(&changed) {
            prop_assert_eq!(sealed.bytes(), &changed[..]);
            prop_assert_eq!(sealed.digest(), Digest::of(&changed));
        }
    }
}
