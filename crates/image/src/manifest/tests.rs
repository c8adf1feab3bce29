//! Documents as engines write them, and as nobody should.

use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;
use crate::Digest;

const GZIP: &str = "application/vnd.docker.image.rootfs.diff.tar.gzip";
const CONFIG: &str = "application/vnd.docker.container.image.v1+json";

fn descriptor(media_type: &str, text: &str) -> Value {
    json!({"mediaType": media_type, "digest": Digest::of(text.as_bytes()), "size": text.len()})
}

fn manifest(layers: &[&str]) -> Value {
    json!({
        "schemaVersion": 2,
        "mediaType": media::DOCKER_V2S2,
        "config": descriptor(CONFIG, "config"),
        "layers": layers.iter().map(|kind| descriptor(kind, kind)).collect::<Vec<_>>(),
    })
}

fn entry(platform: Value, text: &str) -> Value {
    let mut entry = descriptor(media::OCI_MANIFEST, text);
    entry["platform"] = platform;
    entry
}

fn parse(document: &Value) -> Result<Document, ManifestError> {
    Document::parse(document.to_string().as_bytes(), None)
}

fn index(entries: Vec<Value>) -> Index {
    match parse(&json!({"schemaVersion": 2, "manifests": entries})).unwrap() {
        Document::Index(index) => index,
        Document::Image(image) => panic!("{image:?}"),
    }
}

#[test]
fn both_families_are_read() {
    let kinds = [
        (GZIP, Compression::Gzip),
        (
            "application/vnd.docker.image.rootfs.diff.tar",
            Compression::None,
        ),
        (
            "application/vnd.docker.image.rootfs.foreign.diff.tar.gzip",
            Compression::Gzip,
        ),
        (media::OCI_LAYER, Compression::None),
        (
            "application/vnd.oci.image.layer.v1.tar+gzip",
            Compression::Gzip,
        ),
        (
            "application/vnd.oci.image.layer.v1.tar+zstd",
            Compression::Zstd,
        ),
        (
            "application/vnd.oci.image.layer.nondistributable.v1.tar+gzip",
            Compression::Gzip,
        ),
    ];
    let types = kinds.map(|(kind, _)| kind);
    let Document::Image(image) = parse(&manifest(&types)).unwrap() else {
        panic!("it is an image");
    };
    assert_eq!(image.layers.len(), kinds.len());
    for (layer, (_, compression)) in image.layers.iter().zip(kinds) {
        assert_eq!(Compression::of(&layer.media_type), Some(compression));
    }
    assert_eq!(image.config.size, 6);
}

#[test]
fn what_is_no_image_is_refused_by_name() {
    assert!(matches!(
        parse(&manifest(&["application/vnd.in-toto+json"])),
        Err(ManifestError::UnknownLayer { media_type }) if media_type.ends_with("in-toto+json")
    ));
    let mut chart = manifest(&[GZIP]);
    chart["config"] = descriptor("application/vnd.cncf.helm.config.v1+json", "");
    assert!(matches!(parse(&chart), Err(ManifestError::NoImage { .. })));
    assert!(matches!(
        parse(&json!({"schemaVersion": 1, "fsLayers": []})),
        Err(ManifestError::SchemaOne)
    ));
    assert!(matches!(parse(&json!({})), Err(ManifestError::Neither)));
    assert!(matches!(
        parse(&json!({"config": descriptor(CONFIG, "")})),
        Err(ManifestError::Neither)
    ));
    let many = vec![GZIP; MAX_LAYERS + 1];
    assert!(matches!(
        parse(&manifest(&many)),
        Err(ManifestError::TooManyLayers(_))
    ));
    let long = vec![b' '; usize::try_from(MAX_DOCUMENT).unwrap() + 1];
    assert!(matches!(
        Document::parse(&long, None),
        Err(ManifestError::TooLong(_))
    ));
}

#[test]
fn what_can_be_read_in_two_ways_is_refused() {
    let mut both = manifest(&[GZIP]);
    both["manifests"] = json!([]);
    assert!(matches!(parse(&both), Err(ManifestError::Ambiguous)));
    let mut called = manifest(&[GZIP]);
    called["mediaType"] = json!(media::OCI_INDEX);
    assert!(matches!(
        parse(&called),
        Err(ManifestError::NotAsCalled { .. })
    ));
    let image = manifest(&[GZIP]).to_string();
    assert!(matches!(
        Document::parse(image.as_bytes(), Some(media::DOCKER_INDEX)),
        Err(ManifestError::NotAsCalled { .. })
    ));
    assert!(Document::parse(image.as_bytes(), Some(media::OCI_MANIFEST)).is_ok());
    let twice = br#"{"config": null, "layers": [], "layers": []}"#;
    assert!(matches!(
        Document::parse(twice, None),
        Err(ManifestError::Json(_))
    ));
    assert!(matches!(
        ImageManifest::parse(br#"{"manifests": []}"#),
        Err(ManifestError::NotAsCalled { .. })
    ));
}

#[test]
fn the_host_gets_its_own_image() {
    let amd64 = json!({"os": "linux", "architecture": "amd64"});
    let v1 = json!({"os": "linux", "architecture": "amd64", "variant": "v1"});
    let v2 = json!({"os": "linux", "architecture": "amd64", "variant": "v2"});
    let v9 = json!({"os": "linux", "architecture": "amd64", "variant": "v9"});
    let arm = json!({"os": "linux", "architecture": "arm64", "variant": "v8"});
    let windows = json!({"os": "windows", "architecture": "amd64"});
    let nobody = json!({"os": "unknown", "architecture": "unknown"});
    let chosen = |index: &Index, platform: &Platform| {
        let candidates = index.candidates(platform).unwrap();
        candidates.first().unwrap().digest
    };
    let host = Platform::LINUX_AMD64;
    let several = index(vec![
        entry(arm.clone(), "arm"),
        entry(windows.clone(), "windows"),
        entry(v9, "v9"),
        entry(v2.clone(), "v2"),
        entry(amd64, "amd64"),
        entry(nobody.clone(), "attestation"),
    ]);
    assert_eq!(chosen(&several, &host), Digest::of(b"amd64"));
    assert_eq!(chosen(&several, &Platform::host()), Digest::of(b"amd64"));
    assert_eq!(
        chosen(&index(vec![entry(v1, "v1")]), &host),
        Digest::of(b"v1")
    );
    // One for newer processors only, for those who have one.
    let newer = index(vec![entry(v2, "v2")]);
    assert!(newer.candidates(&host).is_err());
    let later = Platform { level: 3, ..host };
    assert_eq!(chosen(&newer, &later), Digest::of(b"v2"));
    // What says nothing may be it, if nothing says that it is.
    let silent = index(vec![
        entry(Value::Null, "silent"),
        entry(arm.clone(), "arm"),
    ]);
    assert_eq!(chosen(&silent, &host), Digest::of(b"silent"));
    let none = index(vec![
        entry(arm, "arm"),
        entry(windows, "windows"),
        entry(nobody, "attestation"),
    ]);
    let error = none.candidates(&host).unwrap_err().to_string();
    assert_eq!(
        error,
        "there is no image for linux/amd64; there is linux/arm64/v8, windows/amd64"
    );
}

#[test]
fn a_configuration_says_how_to_run_the_image() {
    let diff = Digest::of(b"layer");
    let text = json!({
        "architecture": "amd64", "os": "linux", "created": "2026-01-01T00:00:00Z",
        "config": {
            "Env": ["PATH=/bin"], "Cmd": ["sh"], "Entrypoint": null, "WorkingDir": "",
            "User": "1000:1000", "Labels": {"a": "1", "b": null}, "StopSignal": "SIGINT",
            "ExposedPorts": {"80/tcp": {}}, "Volumes": {"/data": {}}, "Healthcheck": {"Test": []},
        },
        "rootfs": {"type": "layers", "diff_ids": [diff]},
        "history": [{"created_by": "x", "empty_layer": true}],
    });
    let config = ImageConfig::parse(text.to_string().as_bytes()).unwrap();
    assert_eq!(config.env, ["PATH=/bin"]);
    assert_eq!(config.cmd.as_deref(), Some(["sh".to_owned()].as_slice()));
    assert_eq!(
        (config.entrypoint.as_ref(), config.working_dir.as_ref()),
        (None, None)
    );
    assert_eq!(config.user.as_deref(), Some("1000:1000"));
    assert_eq!(config.labels["a"], "1");
    assert_eq!(config.stop_signal.as_deref(), Some("SIGINT"));
    assert_eq!(
        (config.exposed_ports[0].as_str(), config.volumes[0].as_str()),
        ("80/tcp", "/data")
    );
    assert_eq!(config.diff_ids, [diff]);
    config.check_platform(&Platform::LINUX_AMD64).unwrap();

    let two = ImageManifest::parse(manifest(&[GZIP, GZIP]).to_string().as_bytes()).unwrap();
    assert!(matches!(
        two.check_config(&config),
        Err(ManifestError::LayerCount {
            manifest: 2,
            config: 1
        })
    ));
    let arm = text.to_string().replace("amd64", "arm64");
    let arm = ImageConfig::parse(arm.as_bytes()).unwrap();
    assert!(matches!(
        arm.check_platform(&Platform::host()),
        Err(ManifestError::WrongPlatform { .. })
    ));
    let least = br#"{"config": null, "rootfs": {"type": "layers", "diff_ids": null}}"#;
    let least = ImageConfig::parse(least).unwrap();
    assert_eq!(least, ImageConfig::default());
    least.check_platform(&Platform::host()).unwrap();
    let other = br#"{"rootfs": {"type": "foreign", "diff_ids": []}}"#;
    assert!(matches!(
        ImageConfig::parse(other),
        Err(ManifestError::Rootfs(_))
    ));
    let short = br#"{"rootfs": {"type": "layers", "diff_ids": ["sha256:00"]}}"#;
    assert!(matches!(
        ImageConfig::parse(short),
        Err(ManifestError::Json(_))
    ));
}

/// JSON of about the right shape, with anything in its places.
fn documents() -> impl Strategy<Value = Value> {
    let key = prop::sample::select(vec![
        "schemaVersion",
        "mediaType",
        "config",
        "layers",
        "manifests",
        "fsLayers",
        "digest",
        "size",
        "platform",
        "os",
        "architecture",
        "variant",
        "annotations",
        "rootfs",
        "type",
        "diff_ids",
        "Env",
        "Labels",
        "Cmd",
    ]);
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        prop::sample::select(vec![
            media::OCI_INDEX,
            media::DOCKER_V2S2,
            GZIP,
            CONFIG,
            "layers"
        ])
        .prop_map(Value::from),
        any::<[u8; 2]>().prop_map(|bytes| Value::from(Digest::of(&bytes).to_string())),
        ".{0,8}".prop_map(Value::from),
    ];
    leaf.prop_recursive(4, 60, 6, move |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
            prop::collection::vec((key.clone(), inner), 0..6).prop_map(|pairs| Value::Object(
                pairs
                    .into_iter()
                    .map(|(key, value)| (key.to_owned(), value))
                    .collect()
            )),
        ]
    })
}

proptest! {
    #[test]
    fn whatever_it_says_is_read_or_refused(document in documents()) {
        let bytes = document.to_string();
        if let Ok(Document::Index(index)) = Document::parse(bytes.as_bytes(), None) {
            let _ = index.candidates(&Platform::host());
        }
        let _ = ImageConfig::parse(bytes.as_bytes());
    }

    #[test]
    fn whatever_bytes_it_has_are_read_or_refused(bytes: Vec<u8>) {
        let _ = Document::parse(&bytes, None);
        let _ = ImageConfig::parse(&bytes);
    }
}
