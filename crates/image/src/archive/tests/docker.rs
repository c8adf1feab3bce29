//! Docker archives: the old form with a directory for each layer, and what other tools write.

use super::*;

/// An entry of a tar.
enum Item<'a> {
    File(&'a str, &'a [u8]),
    Link(&'a str, &'a str),
    Dir(&'a str),
}

fn tar_of(items: &[Item<'_>]) -> Vec<u8> {
    let mut builder = tar::Builder::new(Vec::new());
    for item in items {
        let mut header = tar::Header::new_ustar();
        header.set_mode(0o755);
        header.set_size(0);
        match item {
            Item::File(name, bytes) => {
                header.set_size(bytes.len() as u64);
                builder.append_data(&mut header, name, *bytes).unwrap();
            }
            Item::Link(name, target) => {
                header.set_entry_type(tar::EntryType::Symlink);
                builder.append_link(&mut header, name, target).unwrap();
            }
            Item::Dir(name) => {
                header.set_entry_type(tar::EntryType::Directory);
                builder
                    .append_data(&mut header, name, std::io::empty())
                    .unwrap();
            }
        }
    }
    builder.into_inner().unwrap()
}

fn manifest(config: &str, tags: &Value, layers: &[&str]) -> Vec<u8> {
    let entries = json!([{"Config": config, "RepoTags": tags, "Layers": layers}]);
    entries.to_string().into_bytes()
}

#[test]
fn the_old_form_is_read_and_its_layers_stay_plain() {
    let base = tar(&[("etc/os-release", b"NAME=base")]);
    let same = tar(&[]);
    let diffs = [&base, &same, &same].map(|tar| Digest::of(tar));
    let config = config(&diffs, "old");
    let name = format!("{}.json", Digest::of(&config).hex());
    let ids = ["1", "2", "3"].map(|id| id.repeat(64));
    let layer = |id: &str| format!("{id}/layer.tar");
    let layers = [layer(&ids[0]), layer(&ids[1]), layer(&ids[2])];
    let listed = manifest(
        &name,
        &json!(["app:1", "r.example/app:2"]),
        &layers.each_ref().map(String::as_str),
    );
    let archive = tar_of(&[
        Item::Dir(&ids[0]),
        Item::File(&format!("{}/VERSION", ids[0]), b"1.0"),
        Item::File(&format!("{}/json", ids[0]), b"{}"),
        Item::File(&layers[0], &base),
        Item::Dir(&ids[1]),
        Item::File(&layers[1], &same),
        Item::Dir(&ids[2]),
        Item::Link(&layers[2], &format!("../{}/layer.tar", ids[1])),
        Item::File(&name, &config),
        Item::File("manifest.json", &listed),
        Item::File("repositories", b"{}"),
    ]);
    let bench = Bench::new();
    let loaded = bench.load(&archive).unwrap();
    assert_eq!(
        names(&loaded),
        ["docker.io/library/app:1", "r.example/app:2"]
    );
    let digest = loaded[0].manifest_digest;
    bench.store.verify(&digest).unwrap();
    let open = bench.store.open_image(&digest).unwrap();
    assert_eq!((open.record.layers.len(), open.disk.len()), (3, 2));
    assert_eq!(open.config.labels["label"], "old");
    assert_eq!(
        bench.load(&archive).unwrap(),
        loaded,
        "the same image again"
    );

    let out = untar(&bench.save(&["app:1"], Format::Docker));
    let entries: Value = serde_json::from_slice(&out["manifest.json"]).unwrap();
    assert_eq!(out[entries[0]["Config"].as_str().unwrap()], config);
    for (layer, bytes) in [&base, &same, &same].into_iter().enumerate() {
        assert_eq!(out[entries[0]["Layers"][layer].as_str().unwrap()], *bytes);
    }
    assert_eq!(entries[0]["RepoTags"], json!(["docker.io/library/app:1"]));
    let again = Bench::new();
    let loaded = again.load(&retar(&out)).unwrap();
    assert_eq!(loaded[0].manifest_digest, digest);
    // Those who know only the old form find the same image.
    let mut old = out;
    old.remove("index.json");
    old.remove("oci-layout");
    assert_eq!(
        Bench::new().load(&retar(&old)).unwrap()[0].manifest_digest,
        digest
    );
}

#[test]
fn layers_may_be_compressed_and_called_anything() {
    let app = app();
    let zstd = zstd::encode_all(tar(&[("app/main", b"print(1)")]).as_slice(), 1).unwrap();
    let archive = tar_of(&[
        Item::File(
            "./manifest.json",
            &manifest("config.json", &Value::Null, &["a.tar.gz", "./b"]),
        ),
        Item::File("./config.json", &app.config),
        Item::File("./a.tar.gz", &app.layers[0].blob),
        Item::File("./b", &zstd),
    ]);
    let bench = Bench::new();
    assert!(matches!(bench.load(&archive), Err(ArchiveError::Unnamed)));
    let loaded = bench.load_as(&archive, "app").unwrap();
    let record = bench
        .store
        .image(&loaded[0].manifest_digest)
        .unwrap()
        .unwrap();
    let kinds: Vec<_> = record
        .layers
        .iter()
        .map(|layer| &layer.media_type)
        .collect();
    assert_eq!(kinds, [media::OCI_LAYER_GZIP, media::OCI_LAYER_ZSTD]);
    bench.store.verify(&record.manifest_digest).unwrap();
}

#[test]
fn what_the_documents_say_must_be_there_and_true() {
    let app = app();
    let blobs = [&app.layers[0].blob, &app.layers[1].blob];
    let with = |listed: &[u8], config: &[u8]| {
        Bench::new().load(&tar_of(&[
            Item::File("manifest.json", listed),
            Item::File("c.json", config),
            Item::File("a", blobs[0]),
            Item::File("b", blobs[1]),
            Item::Link("loop", "loop"),
            Item::Link("far", "nowhere"),
        ]))
    };
    let tags = json!(["app:1"]);
    assert!(with(&manifest("c.json", &tags, &["a", "b"]), &app.config).is_ok());
    // Fewer layers, others, none, not there, in a circle.
    assert!(matches!(
        with(&manifest("c.json", &tags, &["a"]), &app.config),
        Err(ArchiveError::Document { .. })
    ));
    assert!(matches!(
        with(&manifest("c.json", &tags, &["b", "a"]), &app.config),
        Err(ArchiveError::Store(StoreError::WrongDigest { .. }))
    ));
    assert!(matches!(
        with(&manifest("c.json", &tags, &["a", "c"]), &app.config),
        Err(ArchiveError::Missing(name)) if name == "c"
    ));
    assert!(matches!(
        with(&manifest("c.json", &tags, &["a", "far"]), &app.config),
        Err(ArchiveError::Missing(name)) if name == "nowhere"
    ));
    assert!(matches!(
        with(&manifest("c.json", &tags, &["a", "loop"]), &app.config),
        Err(ArchiveError::NoFile(_))
    ));
    assert!(matches!(
        with(&manifest("c.json", &tags, &["a", "../b"]), &app.config),
        Err(ArchiveError::Name(_))
    ));
    let many: Vec<_> = std::iter::repeat_n("a", 1000).collect();
    assert!(matches!(
        with(&manifest("c.json", &tags, &many), &app.config),
        Err(ArchiveError::Document { .. })
    ));
    assert!(matches!(
        with(
            &manifest("c.json", &json!(["A b"]), &["a", "b"]),
            &app.config
        ),
        Err(ArchiveError::Reference { .. })
    ));
    assert!(matches!(
        with(&manifest("c.json", &tags, &["a", "b"]), b"{}"),
        Err(ArchiveError::Document { .. })
    ));
    assert!(matches!(with(b"{}", b"{}"), Err(ArchiveError::Json { .. })));
    let named = format!("{}.json", Digest::of(b"another").hex());
    let archive = tar_of(&[
        Item::File("manifest.json", &manifest(&named, &tags, &["a", "b"])),
        Item::File(&named, &app.config),
    ]);
    assert!(matches!(
        Bench::new().load(&archive),
        Err(ArchiveError::WrongDigest { .. })
    ));
}
