//! OCI layouts: in tars, compressed, in directories; with several images, names and platforms.

use super::*;

fn blobs(files: &BTreeMap<String, Vec<u8>>) -> BTreeMap<&String, &Vec<u8>> {
    let blobs = files.iter();
    blobs
        .filter(|(name, _)| name.starts_with("blobs/"))
        .collect()
}

#[test]
fn a_layout_comes_out_as_it_went_in() {
    let app = app();
    let files = layout_of(&app, "docker.io/team/app:1");
    for format in [Format::Oci, Format::Docker] {
        let bench = Bench::new();
        let loaded = bench.load(&retar(&files)).unwrap();
        assert_eq!(names(&loaded), ["docker.io/team/app:1"]);
        assert_eq!(loaded[0].manifest_digest, app.digest());
        bench.store.verify(&app.digest()).unwrap();
        bench.store.open_image(&app.digest()).unwrap();

        let saved = bench.save(&["team/app:1"], format);
        assert_eq!(
            bench.save(&["team/app:1"], format),
            saved,
            "always the same"
        );
        let out = untar(&saved);
        assert_eq!(blobs(&out), blobs(&files));
        assert_eq!(out.contains_key("manifest.json"), format == Format::Docker);
        let again = Bench::new();
        assert_eq!(again.load(&saved).unwrap(), loaded);
        assert_eq!(again.save(&["team/app:1"], format), saved);
    }
}

#[test]
fn what_was_damaged_is_mended_by_loading_it_again() {
    let app = app();
    let archive = retar(&layout_of(&app, "app:1"));
    let bench = Bench::new();
    bench.load(&archive).unwrap();
    let layers = app.layers.iter().map(|layer| &layer.blob);
    for bytes in [&app.manifest, &app.config].into_iter().chain(layers) {
        let blob = bench.store.blob(&Digest::of(bytes)).unwrap().unwrap();
        let mut changed = bytes.clone();
        changed[1] ^= 1;
        for damage in [changed.as_slice(), b"short"] {
            fs::write(blob.path(), damage).unwrap();
            assert!(bench.store.verify(&app.digest()).is_err());
            bench.load(&archive).unwrap();
            bench.store.verify(&app.digest()).unwrap();
        }
    }
}

#[test]
fn a_layout_may_be_compressed_or_a_directory() {
    let app = app();
    let files = layout_of(&app, "app:1");
    let plain = retar(&files);
    for archive in [gzip(&plain), zstd::encode_all(plain.as_slice(), 1).unwrap()] {
        assert_eq!(
            Bench::new().load(&archive).unwrap()[0].manifest_digest,
            app.digest()
        );
    }
    let bench = Bench::new();
    bench.load(&plain).unwrap();
    let claim = bench.store.claim().unwrap();
    let dir = bench.dir.path().join("layout");
    save_dir(&claim, &[reference("app:1")], &dir).unwrap();
    let again = Bench::new();
    let claim = again.store.claim().unwrap();
    let loaded = load(&claim, &dir, &LoadOptions::default()).unwrap();
    assert_eq!(names(&loaded), ["docker.io/library/app:1"]);
    again.store.verify(&app.digest()).unwrap();
    let file = bench.dir.path().join("app.tar");
    fs::write(&file, &plain).unwrap();
    assert_eq!(
        load(&claim, &file, &LoadOptions::default()).unwrap(),
        loaded
    );
}

#[test]
fn names_come_from_annotations_or_from_who_loads() {
    let app = app();
    let with = |annotation: &str, name: &str| {
        let mut files = layout_of(&app, "x");
        let entry = descriptor(media::OCI_MANIFEST, &app.manifest);
        files.insert(
            "index.json".into(),
            index(&[named(entry, annotation, name)]),
        );
        retar(&files)
    };
    let loaded = |archive: &[u8]| Bench::new().load(archive).map(|loaded| names(&loaded));
    assert_eq!(
        loaded(&with(oci::REF_NAME, "r.example/app:2")).unwrap(),
        ["r.example/app:2"]
    );
    // A tag alone does not say of what.
    assert!(matches!(
        loaded(&with(oci::REF_NAME, "latest")),
        Err(ArchiveError::Unnamed)
    ));
    assert!(matches!(
        loaded(&with(oci::IMAGE_NAME, "No Name:1")),
        Err(ArchiveError::Reference { .. })
    ));
    let bench = Bench::new();
    let given = bench
        .load_as(&with(oci::REF_NAME, "latest"), "mine:1")
        .unwrap();
    assert_eq!(names(&given), ["docker.io/library/mine:1"]);
    let renamed = bench
        .load_as(&with(oci::IMAGE_NAME, "app:1"), "mine:2")
        .unwrap();
    assert_eq!(names(&renamed), ["docker.io/library/mine:2"]);
    assert_eq!(bench.store.references().unwrap().len(), 2);
}

#[test]
fn a_name_with_a_digest_must_be_that_of_the_image() {
    let app = app();
    let bench = Bench::new();
    let right = format!("app@{}", app.digest());
    let loaded = bench.load(&retar(&layout_of(&app, &right))).unwrap();
    assert_eq!(names(&loaded), [format!("docker.io/library/{right}")]);
    // It cannot be in an archive: there it would have to be believed.
    let unnamed = bench.save(&[&right], Format::Docker);
    assert!(matches!(
        Bench::new().load(&unnamed),
        Err(ArchiveError::Unnamed)
    ));
    let wrong = format!("app@{}", Digest::of(b"another"));
    let bench = Bench::new();
    assert!(matches!(
        bench.load(&retar(&layout_of(&app, &wrong))),
        Err(ArchiveError::Pinned { .. })
    ));
    assert!(bench.is_empty());
    // Or that of the index that leads to it.
    let mut files = layout_of(&app, "x");
    let inner = index(&[for_platform(
        descriptor(media::OCI_MANIFEST, &app.manifest),
        "linux",
        "amd64",
    )]);
    put_blob(&mut files, &inner);
    let pinned = format!("docker.io/library/app@{}", Digest::of(&inner));
    let entry = named(
        descriptor(media::OCI_INDEX, &inner),
        oci::IMAGE_NAME,
        &pinned,
    );
    files.insert("index.json".into(), index(&[entry]));
    assert_eq!(names(&bench.load(&retar(&files)).unwrap()), [pinned]);
}

#[test]
fn of_several_platforms_the_hosts_is_loaded_through_however_many_indexes() {
    let app = app();
    let mut files = layout_of(&app, "x");
    let wanted = for_platform(
        descriptor(media::OCI_MANIFEST, &app.manifest),
        "linux",
        "amd64",
    );
    // The others are not in the archive.
    let arm = for_platform(descriptor(media::OCI_MANIFEST, b"arm"), "linux", "arm64");
    let attestation = for_platform(descriptor(media::OCI_MANIFEST, b"x"), "unknown", "unknown");
    let inner = index(&[arm.clone(), wanted, attestation.clone()]);
    put_blob(&mut files, &inner);
    let middle = index(&[descriptor(media::OCI_INDEX, &inner)]);
    put_blob(&mut files, &middle);
    let entry = named(
        descriptor(media::OCI_INDEX, &middle),
        oci::IMAGE_NAME,
        "app:1",
    );
    files.insert("index.json".into(), index(&[entry, attestation]));
    let loaded = Bench::new().load(&retar(&files)).unwrap();
    assert_eq!((loaded.len(), loaded[0].manifest_digest), (1, app.digest()));

    let only_arm = index(&[named(arm, oci::IMAGE_NAME, "app:1")]);
    files.insert("index.json".into(), only_arm);
    let error = Bench::new().load(&retar(&files)).unwrap_err();
    assert!(
        matches!(&error, ArchiveError::Document { source, .. } if source.to_string().contains("linux/arm64")),
        "{error:?}"
    );
}

#[test]
fn what_says_no_platform_is_told_by_its_configuration() {
    let app = app();
    let foreign = {
        let config = String::from_utf8(app.config.clone()).unwrap();
        let config = config.replace("amd64", "s390x").into_bytes();
        let manifest = String::from_utf8(app.manifest.clone()).unwrap();
        let old = Digest::of(&app.config).to_string();
        let manifest = manifest.replace(&old, &Digest::of(&config).to_string());
        Image {
            manifest: manifest.into_bytes(),
            config,
            layers: app.layers.clone(),
        }
    };
    let mut files = layout_of(&app, "x");
    let other = named(add_image(&mut files, &foreign), oci::IMAGE_NAME, "app:1");
    let ours = descriptor(media::OCI_MANIFEST, &app.manifest);
    let ours = named(ours, oci::IMAGE_NAME, "app:1");
    files.insert("index.json".into(), index(&[other.clone(), ours]));
    let loaded = Bench::new().load(&retar(&files)).unwrap();
    assert_eq!(loaded[0].manifest_digest, app.digest());
    files.insert("index.json".into(), index(&[other]));
    assert!(matches!(
        Bench::new().load(&retar(&files)),
        Err(ArchiveError::Document { .. })
    ));
}

#[test]
fn several_images_are_loaded_and_saved_together() {
    let (app, other) = (app(), image(&[tar(&[("other", b"1")])], "other"));
    let mut files = layout_of(&app, "x");
    let entries = [
        named(
            descriptor(media::OCI_MANIFEST, &app.manifest),
            oci::IMAGE_NAME,
            "app:1",
        ),
        named(
            descriptor(media::OCI_MANIFEST, &app.manifest),
            oci::IMAGE_NAME,
            "app:2",
        ),
        named(add_image(&mut files, &other), oci::IMAGE_NAME, "other:1"),
    ];
    files.insert("index.json".into(), index(&entries));
    let bench = Bench::new();
    let loaded = bench.load(&retar(&files)).unwrap();
    assert_eq!(loaded.len(), 2);
    let expected = [
        "docker.io/library/app:1",
        "docker.io/library/app:2",
        "docker.io/library/other:1",
    ];
    assert_eq!(names(&loaded), expected);
    assert!(matches!(
        bench.load_as(&retar(&files), "mine"),
        Err(ArchiveError::Several(2))
    ));
    let saved = bench.save(&["other:1", "app:2", "app:1"], Format::Docker);
    assert_eq!(blobs(&untar(&saved)), blobs(&files));
    let mut again = names(&Bench::new().load(&saved).unwrap());
    again.sort();
    assert_eq!(again, expected);
    let claim = bench.store.claim().unwrap();
    let missing = save(
        &claim,
        &[reference("nobody")],
        Format::Oci,
        Vec::new(),
        Path::new("out"),
    );
    assert!(matches!(
        missing,
        Err(ArchiveError::Store(StoreError::ReferenceMissing(_)))
    ));
}
