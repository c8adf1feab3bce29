//! Archives from somebody who means harm.

use proptest::prelude::*;

use super::*;

/// One header by hand, with names that no writer would write.
fn entry(name: &[u8], kind: tar::EntryType, link: &[u8], bytes: &[u8]) -> Vec<u8> {
    let mut header = tar::Header::new_ustar();
    header.as_old_mut().name[..name.len()].copy_from_slice(name);
    header.as_old_mut().linkname[..link.len()].copy_from_slice(link);
    header.set_entry_type(kind);
    header.set_size(bytes.len() as u64);
    header.set_cksum();
    let mut block = header.as_bytes().to_vec();
    block.extend_from_slice(bytes);
    block.resize(block.len().next_multiple_of(512), 0);
    block
}

/// An archive that is right, with something in front.
fn behind(front: &[u8]) -> Vec<u8> {
    [front, &retar(&layout_of(&app(), "app:1"))].concat()
}

#[test]
fn names_that_lead_out_are_refused_and_nothing_is_touched() {
    use tar::EntryType::{Link, Regular, Symlink};
    let bench = Bench::new();
    let outside = bench.dir.path().join("outside");
    let cases: [(&[u8], tar::EntryType, &[u8]); 9] = [
        (b"../outside", Regular, b""),
        (b"a/../../outside", Regular, b""),
        (b"/outside", Regular, b""),
        (b"a/../b", Regular, b""),
        (b"\xff", Regular, b""),
        (b"a\nb", Regular, b""),
        (b"link", Symlink, b"../outside"),
        (b"a/link", Symlink, b"/etc/passwd"),
        (b"hard", Link, b"../outside"),
    ];
    for (name, kind, link) in cases {
        let error = bench
            .load(&behind(&entry(name, kind, link, b"")))
            .unwrap_err();
        assert!(matches!(error, ArchiveError::Name(_)), "{error:?}");
        assert!(bench.is_empty());
        assert!(!outside.exists());
    }
}

#[test]
fn what_is_there_twice_is_refused() {
    let bench = Bench::new();
    let twice = behind(&entry(b"index.json", tar::EntryType::Regular, b"", b"{}"));
    assert!(matches!(bench.load(&twice), Err(ArchiveError::Twice(name)) if name == "index.json"));
    let spelled = behind(&entry(b"./index.json", tar::EntryType::Symlink, b"x", b""));
    assert!(matches!(bench.load(&spelled), Err(ArchiveError::Twice(_))));
    assert!(bench.is_empty());
}

#[test]
fn a_blob_is_a_file_and_no_link_device_or_hole() {
    use tar::EntryType;
    let app = app();
    let whole = layout_of(&app, "app:1");
    for digest in [Digest::of(&app.manifest), Digest::of(&app.layers[1].blob)] {
        let name = name::blob(&digest);
        let mut files = whole.clone();
        let bytes = files.remove(&name).unwrap();
        files.insert("elsewhere".to_owned(), bytes);
        for (kind, link) in [
            (EntryType::Symlink, b"../../elsewhere".as_slice()),
            (EntryType::Link, b"elsewhere"),
            (EntryType::Fifo, b""),
            (EntryType::Char, b""),
            (EntryType::Directory, b""),
        ] {
            let bench = Bench::new();
            let front = entry(name.as_bytes(), kind, link, b"");
            let error = bench.load(&[front, retar(&files)].concat()).unwrap_err();
            assert!(
                matches!(&error, ArchiveError::NoFile(found) if *found == name),
                "{error:?}"
            );
            assert!(bench.is_empty());
        }
        let error = Bench::new().load(&retar(&files)).unwrap_err();
        assert!(
            matches!(&error, ArchiveError::Missing(found) if *found == name),
            "{error:?}"
        );
    }
}

#[test]
fn in_a_directory_no_link_is_followed_either() {
    let app = app();
    let bench = Bench::new();
    let dir = bench.dir.path().join("layout");
    for (name, bytes) in layout_of(&app, "app:1") {
        let path = dir.join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, bytes).unwrap();
    }
    let options = LoadOptions::default();
    let path = dir.join(name::blob(&Digest::of(&app.config)));
    let aside = bench.dir.path().join("aside");
    fs::rename(&path, &aside).unwrap();
    std::os::unix::fs::symlink(&aside, &path).unwrap();
    let loaded = load(&bench.store.claim().unwrap(), &dir, &options);
    assert!(matches!(loaded, Err(ArchiveError::NoFile(_))), "{loaded:?}");
    fs::remove_file(&path).unwrap();
    fs::rename(&aside, &path).unwrap();
    let blobs = dir.join("blobs");
    fs::rename(&blobs, &aside).unwrap();
    std::os::unix::fs::symlink(&aside, &blobs).unwrap();
    let loaded = load(&bench.store.claim().unwrap(), &dir, &options);
    assert!(matches!(loaded, Err(ArchiveError::NoFile(_))), "{loaded:?}");
    fs::remove_file(&blobs).unwrap();
    fs::rename(&aside, &blobs).unwrap();
    assert!(bench.is_empty());
    assert!(load(&bench.store.claim().unwrap(), &dir, &options).is_ok());
}

#[test]
fn bytes_that_are_not_what_they_are_called_are_refused() {
    let app = app();
    for bytes in [&app.manifest, &app.config, &app.layers[0].blob] {
        let name = name::blob(&Digest::of(bytes));
        let mut files = layout_of(&app, "app:1");
        files.get_mut(&name).unwrap()[0] ^= 1;
        let bench = Bench::new();
        let error = bench.load(&retar(&files)).unwrap_err();
        assert!(
            matches!(&error, ArchiveError::WrongDigest { name: found, .. } if *found == name),
            "{error:?}"
        );
        assert!(bench.is_empty());
    }
}

#[test]
fn sizes_that_lie_are_refused() {
    let app = app();
    let manifest = |text: &str, with: &str| {
        let text = String::from_utf8(app.manifest.clone())
            .unwrap()
            .replacen(text, with, 1);
        let image = Image {
            manifest: text.into_bytes(),
            ..app.clone()
        };
        Bench::new().load(&retar(&layout_of(&image, "app:1")))
    };
    let size = format!("\"size\":{}", app.layers[0].blob.len());
    assert!(matches!(
        manifest(&size, "\"size\":1"),
        Err(ArchiveError::TooLong { limit: 1, .. })
    ));
    assert!(matches!(
        manifest(&size, "\"size\":18446744073709551615"),
        Err(ArchiveError::WrongSize {
            expected: u64::MAX,
            ..
        })
    ));
    assert!(matches!(
        manifest(&size, "\"size\":-1"),
        Err(ArchiveError::Document { .. })
    ));
    let config = format!("\"size\":{}", app.config.len());
    assert!(matches!(
        manifest(&config, "\"size\":5000000"),
        Err(ArchiveError::TooLong { .. })
    ));
}

#[test]
fn what_is_vast_is_refused_early() {
    let bench = Bench::new();
    // A file larger than any disk, of which there is one block.
    let mut header = tar::Header::new_gnu();
    header.set_path("blobs/sha256/vast").unwrap();
    header.set_size(1 << 60);
    header.set_cksum();
    let archive = [header.as_bytes().as_slice(), &[0; 512]].concat();
    assert!(matches!(
        bench.load(&archive),
        Err(ArchiveError::Store(StoreError::SpaceMissing { .. }))
    ));
    // Documents longer than any.
    let mut files = layout_of(&app(), "app:1");
    let long = vec![b' '; 5 << 20];
    files.insert("index.json".into(), long.clone());
    assert!(matches!(
        bench.load(&retar(&files)),
        Err(ArchiveError::TooLong { .. })
    ));
    let mut files = layout_of(&app(), "app:1");
    files.insert(
        "index.json".into(),
        index(&[descriptor(media::OCI_MANIFEST, &long)]),
    );
    assert!(matches!(
        bench.load_as(&retar(&files), "app"),
        Err(ArchiveError::TooLong { .. })
    ));
    // More files than an archive of images has.
    let names: Vec<_> = (0..20_001).map(|number| number.to_string()).collect();
    let many: Vec<u8> = names
        .iter()
        .flat_map(|name| entry(name.as_bytes(), tar::EntryType::Directory, b"", b""))
        .collect();
    assert!(matches!(
        bench.load(&many),
        Err(ArchiveError::TooManyFiles(_))
    ));
    assert!(bench.is_empty());
}

#[test]
fn indexes_that_lead_nowhere_end() {
    let mut files = layout_of(&app(), "app:1");
    let mut inner = index(&[descriptor(media::OCI_MANIFEST, &app().manifest)]);
    for _ in 0..5 {
        put_blob(&mut files, &inner);
        inner = index(&[descriptor(media::OCI_INDEX, &inner)]);
    }
    files.insert("index.json".into(), inner);
    let deep = Bench::new().load_as(&retar(&files), "app");
    assert!(
        matches!(deep, Err(ArchiveError::Document { .. })),
        "{deep:?}"
    );
    // Many that are for somebody else, found out one by one.
    let foreign = String::from_utf8(app().config)
        .unwrap()
        .replace("amd64", "arm64");
    let mut entries = Vec::new();
    for number in 0..100 {
        let config = foreign.replace("\"app\"", &number.to_string()).into_bytes();
        let manifest = json!({
            "schemaVersion": 2, "config": descriptor(media::OCI_CONFIG, &config), "layers": [],
        });
        let manifest = manifest.to_string().into_bytes();
        put_blob(&mut files, &config);
        put_blob(&mut files, &manifest);
        entries.push(descriptor(media::OCI_MANIFEST, &manifest));
    }
    files.insert("index.json".into(), index(&entries));
    assert!(matches!(
        Bench::new().load_as(&retar(&files), "app"),
        Err(ArchiveError::Document { .. })
    ));
}

#[test]
fn what_is_no_archive_of_images_is_said_to_be_none() {
    let load = |bytes: &[u8]| Bench::new().load(bytes);
    assert!(matches!(load(b""), Err(ArchiveError::NoArchive)));
    assert!(matches!(
        load(&tar(&[("a", b"b")])),
        Err(ArchiveError::NoArchive)
    ));
    assert!(matches!(
        load(b"PK\x03\x04 and more of it"),
        Err(ArchiveError::Tar(_))
    ));
    let mut cut = retar(&layout_of(&app(), "app:1"));
    cut.truncate(cut.len() / 2);
    assert!(matches!(load(&cut), Err(ArchiveError::Tar(_))));
    let mut files = layout_of(&app(), "app:1");
    files.insert(
        "oci-layout".into(),
        br#"{"imageLayoutVersion":"2.0"}"#.to_vec(),
    );
    assert!(matches!(
        load(&retar(&files)),
        Err(ArchiveError::Version(_))
    ));
    files.insert("oci-layout".into(), b"[]".to_vec());
    assert!(matches!(
        load(&retar(&files)),
        Err(ArchiveError::Json { .. })
    ));
    files.remove("oci-layout");
    assert!(
        load(&retar(&files)).is_ok(),
        "Docker of some releases wrote none"
    );
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    /// Whatever byte is changed: the image is loaded as it was, or not at all.
    #[test]
    fn an_archive_with_another_byte_is_the_same_image_or_none(at: prop::sample::Index, with: u8) {
        let app = app();
        let mut archive = retar(&layout_of(&app, "app:1"));
        let at = at.index(archive.len());
        archive[at] = with;
        let bench = Bench::new();
        if let Ok(loaded) = bench.load(&archive) {
            prop_assert_eq!(loaded[0].manifest_digest, app.digest());
            bench.store.verify(&app.digest()).unwrap();
        } else {
            prop_assert!(bench.is_empty());
        }
    }

    #[test]
    fn names_stay_in_the_archive(bytes: Vec<u8>, text in "[./a]{0,12}") {
        for name in [bytes.as_slice(), text.as_bytes()] {
            if let Ok(Some(clean)) = name::clean(name) {
                prop_assert!(clean.split('/').all(|part| !matches!(part, "" | "." | "..")));
                prop_assert_eq!(name::clean(clean.as_bytes()).unwrap(), Some(clean.clone()));
            }
            if let Ok(target) = name::follow("a/b/c", name) {
                prop_assert!(target.split('/').all(|part| !matches!(part, "" | "." | "..")));
            }
        }
    }
}
