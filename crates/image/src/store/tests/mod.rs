//! Images in the store: there, shared, in use, damaged, mended, and gone.

mod full;
mod killed;

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::FileExt;
use std::path::PathBuf;

use super::*;
use crate::limits::{BLOCK, Limits};
use crate::testing::{Image, image, put, reference, tar};
use crate::{Digest, Reference};

type NoError = Result<Vec<Digest>, InUseError>;

fn store() -> (tempfile::TempDir, Store) {
    let home = tempfile::tempdir().unwrap();
    let store = Store::open(&home.path().join("images")).unwrap();
    (home, store)
}

fn nobody() -> NoError {
    Ok(Vec::new())
}

fn base() -> Vec<u8> {
    tar(&[("etc/os-release", b"NAME=base"), ("bin/tool", &[7; 9000])])
}

fn app() -> Image {
    image(&[base(), tar(&[("app/main", b"print(1)")])], "app")
}

fn other() -> Image {
    image(&[base(), tar(&[("other/main", b"print(2)")])], "other")
}

/// Everything in the store, but for locks.
fn files(store: &Store) -> BTreeSet<PathBuf> {
    let mut found = BTreeSet::new();
    let mut dirs = vec![store.path().to_path_buf()];
    while let Some(dir) = dirs.pop() {
        for entry in fs::read_dir(&dir).unwrap() {
            let entry = entry.unwrap();
            if entry.file_type().unwrap().is_dir() {
                dirs.push(entry.path());
            } else {
                let path = entry.path();
                found.insert(path.strip_prefix(store.path()).unwrap().to_owned());
            }
        }
    }
    found.remove(&PathBuf::from("lock"));
    found
}

fn data(store: &Store, diff_id: &Digest) -> PathBuf {
    store.layout.layer(diff_id).join("data")
}

#[test]
fn an_image_is_there_whole_and_opens() {
    let (_home, store) = store();
    let app = app();
    let name = reference("team/app:1");
    let claim = store.claim().unwrap();
    assert_eq!(claim.find(&name).unwrap(), None);
    let record = app.import(&claim, Some(&name)).unwrap();
    assert_eq!(record.manifest_digest, app.digest());
    assert_eq!(claim.find(&name).unwrap().as_ref(), Some(&record));
    assert_eq!(
        app.import(&claim, Some(&name)).unwrap(),
        record,
        "once more"
    );
    drop(claim);
    store.verify(&app.digest()).unwrap();

    let open = store.open_image(&app.digest()).unwrap();
    assert_eq!(open.config.stop_signal.as_deref(), Some("SIGINT"));
    assert_eq!(open.disk.len(), 3);
    for part in &open.disk {
        assert_eq!(part.file.metadata().unwrap().len(), part.len);
        assert!(part.len > 0 && part.len.is_multiple_of(BLOCK));
    }
    let mut found = [0; 9];
    open.disk[1].file.read_exact_at(&mut found, 0).unwrap();
    assert_eq!(&found, b"NAME=base");
    assert_eq!(open.record.layers[0].data_size, open.disk[1].len);
    let tree = store.image_tree(&record, &Limits::default()).unwrap();
    assert!(tree.lookup(b"app/main").is_some() && tree.lookup(b"bin/tool").is_some());
}

#[test]
fn an_image_without_layers_or_without_files_is_one() {
    let (_home, store) = store();
    let claim = store.claim().unwrap();
    let empty = image(&[], "empty");
    empty.import(&claim, None).unwrap();
    assert_eq!(store.open_image(&empty.digest()).unwrap().disk.len(), 1);
    let hollow = image(&[tar(&[]), tar(&[("empty", b"")])], "hollow");
    hollow.import(&claim, None).unwrap();
    assert_eq!(store.open_image(&hollow.digest()).unwrap().disk.len(), 1);
}

#[test]
fn what_does_not_fit_together_is_no_image() {
    let (_home, store) = store();
    let claim = store.claim().unwrap();
    let app = app();
    let limits = Limits::default();
    let commit =
        |manifest: &[u8], config: &[u8]| claim.commit_image(None, manifest, config, &limits);
    assert!(matches!(
        commit(&app.manifest, &app.config),
        Err(StoreError::BlobMissing(digest)) if digest == Digest::of(&app.layers[0].blob)
    ));
    for layer in &app.layers {
        put(&claim, &layer.blob).unwrap();
    }
    assert!(matches!(
        commit(&app.manifest, &app.config),
        Err(StoreError::LayerMissing(digest)) if digest == app.layers[0].diff_id
    ));
    assert!(matches!(
        commit(&app.manifest, &other().config),
        Err(StoreError::WrongDigest { .. })
    ));
    assert!(matches!(
        commit(b"{}", &app.config),
        Err(StoreError::Manifest { .. })
    ));
    assert_eq!(store.image(&app.digest()).unwrap(), None);
    assert!(matches!(
        claim.set_reference(&reference("app"), &app.digest()),
        Err(StoreError::ImageMissing(_))
    ));
    assert!(matches!(
        store.open_image(&app.digest()),
        Err(StoreError::ImageMissing(_))
    ));
}

#[test]
fn a_layer_that_is_not_what_it_is_called_leaves_nothing() {
    let (_home, store) = store();
    let claim = store.claim().unwrap();
    let app = app();
    let [first, second] = &app.layers[..] else {
        panic!("two layers");
    };
    put(&claim, &first.blob).unwrap();
    let blob = Digest::of(&first.blob);
    let mut go_on = |_| std::ops::ControlFlow::Continue(());
    let limits = Limits::default();
    assert!(matches!(
        claim.unpack_layer(&blob, &second.diff_id, &limits, &mut go_on),
        Err(StoreError::WrongDigest { found, .. }) if found == first.diff_id
    ));
    let tight = Limits {
        layer_bytes: 100,
        ..limits
    };
    assert!(matches!(
        claim.unpack_layer(&blob, &first.diff_id, &tight, &mut go_on),
        Err(StoreError::Layer { .. })
    ));
    let mut stop = |_| std::ops::ControlFlow::Break(());
    assert!(matches!(
        claim.unpack_layer(&blob, &first.diff_id, &limits, &mut stop),
        Err(StoreError::Layer { .. })
    ));
    put(&claim, b"no tar").unwrap();
    assert!(matches!(
        claim.unpack_layer(&Digest::of(b"no tar"), &first.diff_id, &limits, &mut go_on),
        Err(StoreError::Layer { .. })
    ));
    assert!(store.layer(&first.diff_id).unwrap().is_none());
    drop(claim);
    let left: Vec<_> = files(&store).into_iter().collect();
    assert!(
        left.iter().all(|path| path.starts_with("blobs")),
        "{left:?}"
    );
}

#[test]
fn a_blob_that_was_damaged_on_the_disk_is_asked_for_again() {
    let (_home, store) = store();
    let claim = store.claim().unwrap();
    let app = app();
    let layer = &app.layers[0];
    let digest = Digest::of(&layer.blob);
    put(&claim, &layer.blob).unwrap();
    for damage in [b"damage".as_slice(), b"\x1f\x8b"] {
        let path = store.layout.blob(&digest);
        let mut bytes = fs::read(&path).unwrap();
        bytes[30..30 + damage.len()].copy_from_slice(damage);
        fs::write(&path, bytes).unwrap();
        let unpacked = claim.unpack_layer(&digest, &layer.diff_id, &Limits::default(), &mut |_| {
            std::ops::ControlFlow::Continue(())
        });
        assert!(
            matches!(unpacked, Err(StoreError::Integrity { .. })),
            "{unpacked:?}"
        );
        assert_eq!(store.blob(&digest).unwrap(), None);
        put(&claim, &layer.blob).unwrap();
    }
    app.import(&claim, None).unwrap();
}

#[test]
fn images_share_layers_and_the_last_one_takes_them_along() {
    let (_home, store) = store();
    let (app, other) = (app(), other());
    let names = [reference("app"), reference("other"), reference("app:again")];
    let claim = store.claim().unwrap();
    app.import(&claim, Some(&names[0])).unwrap();
    let before = files(&store).len();
    other.import(&claim, Some(&names[1])).unwrap();
    // Two blobs and a layer's three files are there already.
    claim.set_reference(&names[2], &app.digest()).unwrap();
    assert_eq!(files(&store).len(), before + 2 + 1 + 3 + 2 + 2);
    drop(claim);

    let removed = store.remove(&names[0], false, &nobody).unwrap();
    assert_eq!(
        (removed.references, removed.total()),
        (1, 1),
        "it has another name"
    );
    store.verify(&app.digest()).unwrap();
    let removed = store.remove(&names[2], false, &nobody).unwrap();
    assert_eq!(
        (removed.references, removed.images, removed.metadata),
        (1, 1, 1)
    );
    assert_eq!((removed.layers, removed.blobs), (1, 3));
    assert!(removed.bytes > 0);
    assert_eq!(store.image(&app.digest()).unwrap(), None);
    store.verify(&other.digest()).unwrap();
    store.remove(&names[1], false, &nobody).unwrap();
    assert_eq!(files(&store), BTreeSet::new());
    assert!(matches!(
        store.remove(&names[1], false, &nobody),
        Err(StoreError::ReferenceMissing(name)) if name == "docker.io/library/other:latest"
    ));
}

#[test]
fn an_image_in_use_stays_whatever_is_asked() {
    let (_home, store) = store();
    let app = app();
    let name = reference("app");
    app.import(&store.claim().unwrap(), Some(&name)).unwrap();
    let used = || -> NoError { Ok(vec![app.digest()]) };
    let there = files(&store);
    assert!(matches!(
        store.remove(&name, false, &used),
        Err(StoreError::InUse(_))
    ));
    assert_eq!(store.prune(&used).unwrap().total(), 0);
    assert_eq!(files(&store), there);
    let removed = store.remove(&name, true, &used).unwrap();
    assert_eq!((removed.references, removed.total()), (1, 1));
    assert_eq!(store.collect(&used).unwrap().total(), 0);
    store.verify(&app.digest()).unwrap();
    assert!(store.open_image(&app.digest()).is_ok());
    assert!(store.collect(&nobody).unwrap().images == 1);
    assert_eq!(files(&store), BTreeSet::new());
}

#[test]
fn what_is_claimed_stays_and_what_cannot_be_told_stops_it() {
    let (_home, store) = store();
    let app = app();
    let name = reference("app");
    app.import(&store.claim().unwrap(), Some(&name)).unwrap();
    let claim = store.claim().unwrap();
    claim.find(&name).unwrap().unwrap();
    assert!(matches!(
        store.remove(&name, false, &nobody),
        Err(StoreError::InUse(_))
    ));
    assert_eq!(store.prune(&nobody).unwrap().total(), 0);
    drop(claim);
    let open = store.open_image(&app.digest()).unwrap();
    assert_eq!(store.prune(&nobody).unwrap().total(), 0);
    drop(open);
    let unknown = || -> NoError { Err("the catalog cannot be read".into()) };
    for result in [
        store.remove(&name, true, &unknown),
        store.collect_layers(&unknown),
        store.collect(&unknown),
        store.prune(&unknown),
    ] {
        assert!(matches!(result, Err(StoreError::InUseUnknown(_))));
    }
    store.verify(&app.digest()).unwrap();

    // What somebody is fetching, and no reference names yet.
    let claim = store.claim().unwrap();
    let other = other();
    other.import(&claim, None).unwrap();
    put(&claim, b"a layer of some other image").unwrap();
    assert_eq!(store.prune(&nobody).unwrap().references, 1);
    store.verify(&other.digest()).unwrap();
    assert!(
        store
            .blob(&Digest::of(b"a layer of some other image"))
            .unwrap()
            .is_some()
    );
    drop(claim);
    let report = store.prune(&nobody).unwrap();
    assert_eq!((report.images, report.metadata), (1, 1));
    assert_eq!(files(&store), BTreeSet::new());
}

#[test]
fn pruning_counts_everything_that_it_removes() {
    let (_home, store) = store();
    let (app, other) = (app(), other());
    let claim = store.claim().unwrap();
    app.import(&claim, Some(&reference("app"))).unwrap();
    other.import(&claim, Some(&reference("other"))).unwrap();
    put(&claim, b"nobody's").unwrap();
    let digest = Digest::of(b"cut short");
    let BlobTurn::Mine(mut writer) = claim.begin_blob(&digest, 9).unwrap() else {
        panic!("nobody else is at it");
    };
    writer.write(b"cut").unwrap();
    assert_eq!(store.collect(&nobody).unwrap().total(), 0, "all is claimed");
    drop((writer, claim));
    // The work of a process that is gone, and what is not ours.
    let dead = store.layout.tmp().join("dead.work");
    fs::create_dir(&dead).unwrap();
    fs::write(dead.join("0"), [1; 5000]).unwrap();
    fs::write(store.layout.blobs().join("README"), "not a blob").unwrap();
    let taken = || -> u64 {
        let paths = files(&store).into_iter();
        let size = |path| space::on_disk(&fs::metadata(store.path().join(path)).unwrap());
        paths.map(size).sum()
    };

    let before = taken();
    let report = store.collect(&nobody).unwrap();
    let expected = Collected {
        blobs: 1,
        partials: 1,
        works: 1,
        bytes: before - taken(),
        ..Collected::default()
    };
    assert_eq!(report, expected);
    assert_eq!(report.total(), 3);
    let before = taken();
    let used = || -> NoError { Ok(vec![other.digest()]) };
    let report = store.prune(&used).unwrap();
    let expected = Collected {
        references: 1,
        images: 1,
        metadata: 1,
        layers: 1,
        blobs: 3,
        bytes: before - taken(),
        ..Collected::default()
    };
    assert_eq!(report, expected);
    assert_eq!(store.references().unwrap().len(), 1);
    store.verify(&other.digest()).unwrap();
    assert!(store.layout.blobs().join("README").exists());
}

#[test]
fn layers_alone_are_collected_alone() {
    let (_home, store) = store();
    let claim = store.claim().unwrap();
    let app = app();
    for layer in &app.layers {
        put(&claim, &layer.blob).unwrap();
        let blob = Digest::of(&layer.blob);
        claim
            .unpack_layer(&blob, &layer.diff_id, &Limits::default(), &mut |_| {
                std::ops::ControlFlow::Continue(())
            })
            .unwrap();
    }
    assert_eq!(store.collect_layers(&nobody).unwrap().layers, 0);
    drop(claim);
    let report = store.collect_layers(&nobody).unwrap();
    assert_eq!((report.layers, report.total()), (2, 2));
    assert_eq!(store.collect(&nobody).unwrap().blobs, 2);
}

#[test]
fn a_file_with_other_bytes_is_not_booted_from_and_is_mended_by_another_import() {
    let (_home, store) = store();
    let app = app();
    app.import(&store.claim().unwrap(), None).unwrap();
    let diff_id = &app.layers[0].diff_id;
    let index = store.layout.layer(diff_id).join("index");
    let erofs = store.layout.image_erofs(&app.digest());
    for path in [data(&store, diff_id), erofs] {
        let file = fs::OpenOptions::new().write(true).open(&path).unwrap();
        file.write_all_at(b"guest", 10).unwrap();
        drop(file);
        let opened = store.open_image(&app.digest());
        assert!(
            matches!(&opened, Err(StoreError::Integrity { path: found, .. }) if *found == path),
            "{opened:?}"
        );
        assert!(store.verify(&app.digest()).is_err());
        app.import(&store.claim().unwrap(), None).unwrap();
        store.verify(&app.digest()).unwrap();
        store.open_image(&app.digest()).unwrap();
    }
    // An index is needed to make a tree, and not to boot.
    fs::write(&index, b"MSBLAYER").unwrap();
    assert!(store.open_image(&app.digest()).is_ok());
    assert!(store.verify(&app.digest()).is_err());
    app.import(&store.claim().unwrap(), None).unwrap();
    store.verify(&app.digest()).unwrap();
}

#[test]
fn a_file_cut_short_or_gone_is_seen_and_mended() {
    let (_home, store) = store();
    let app = app();
    app.import(&store.claim().unwrap(), None).unwrap();
    let diff_id = &app.layers[0].diff_id;
    let path = data(&store, diff_id);
    fs::write(&path, b"").unwrap();
    assert!(store.open_image(&app.digest()).is_err());
    app.import(&store.claim().unwrap(), None).unwrap();
    fs::remove_file(&path).unwrap();
    assert!(store.open_image(&app.digest()).is_err());
    app.import(&store.claim().unwrap(), None).unwrap();
    std::os::unix::fs::symlink("/etc/passwd", store.layout.layer(diff_id).join("link")).unwrap();
    fs::remove_file(&path).unwrap();
    std::os::unix::fs::symlink("/dev/zero", &path).unwrap();
    assert!(store.open_image(&app.digest()).is_err());
    for record in [
        store.layout.layer(diff_id).join("noted.json"),
        store.layout.image_record(&app.digest()),
    ] {
        fs::write(&record, b"{\"version\": 1}").unwrap();
        assert!(matches!(
            store.open_image(&app.digest()),
            Err(StoreError::Damaged { .. })
        ));
        app.import(&store.claim().unwrap(), None).unwrap();
        store.open_image(&app.digest()).unwrap();
    }
    store.verify(&app.digest()).unwrap();
}

/// Whatever file it is, and however it was damaged, importing the image once more puts it right. Of layers as they came
/// that needs somebody who reads them, as whoever saves the image does.
#[test]
fn every_file_of_an_image_is_mended_by_another_import() {
    let (_home, store) = store();
    let app = app();
    let name = reference("app:1");
    app.import(&store.claim().unwrap(), Some(&name)).unwrap();
    let layers = app.layers.iter().map(|layer| Digest::of(&layer.blob));
    let layers: Vec<_> = layers.map(|digest| store.layout.blob(&digest)).collect();
    for path in files(&store) {
        let path = store.path().join(path);
        for how in ["gone", "cut", "changed"] {
            let mut bytes = fs::read(&path).unwrap();
            let middle = bytes.len() / 2;
            match how {
                "gone" => fs::remove_file(&path).unwrap(),
                "cut" => fs::write(&path, &bytes[1..]).unwrap(),
                _ => {
                    bytes[middle] ^= 0x20;
                    fs::write(&path, bytes).unwrap();
                }
            }
            let said = format!("{} {how}", path.display());
            if how == "changed" && layers.contains(&path) {
                let claim = store.claim().unwrap();
                let names = [name.clone()];
                let format = crate::archive::Format::Oci;
                let saved = crate::archive::save(&claim, &names, format, Vec::new(), &path);
                assert!(saved.is_err(), "{said}");
            }
            let mended = app.import(&store.claim().unwrap(), Some(&name));
            mended.unwrap_or_else(|error| panic!("{said}: {error}"));
            let verified = store.verify(&app.digest());
            verified.unwrap_or_else(|error| panic!("{said}: {error}"));
            assert!(store.claim().unwrap().find(&name).unwrap().is_some());
            store.open_image(&app.digest()).unwrap();
        }
    }
}

/// An image that says another size of what is here is not believed.
#[test]
fn a_wrong_size_does_not_remove_what_is_right() {
    let (_home, store) = store();
    let claim = store.claim().unwrap();
    put(&claim, b"layer").unwrap();
    let digest = Digest::of(b"layer");
    for size in [0, 4, 6] {
        assert!(matches!(
            claim.begin_blob(&digest, size),
            Err(StoreError::WrongSize { found: 5, .. })
        ));
    }
    assert!(store.blob(&digest).unwrap().is_some());
}

#[test]
fn a_store_that_was_copied_is_verified_once_and_noted() {
    let (home, store) = store();
    let app = app();
    app.import(&store.claim().unwrap(), None).unwrap();
    let copy = home.path().join("copy");
    let copied = std::process::Command::new("cp")
        .arg("-r")
        .args([store.path(), &copy])
        .status();
    assert!(copied.unwrap().success());
    let copy = Store::open(&copy).unwrap();
    let noted = |store: &Store| {
        let layer = store
            .layout
            .layer(&app.layers[0].diff_id)
            .join("noted.json");
        let record = store.layout.image_record(&app.digest());
        (fs::read(layer).unwrap(), fs::read(record).unwrap())
    };
    let before = noted(&copy);
    assert_eq!(before, noted(&store));
    copy.open_image(&app.digest()).unwrap();
    let after = noted(&copy);
    assert!(before.0 != after.0 && before.1 != after.1);
    copy.open_image(&app.digest()).unwrap();
    assert_eq!(noted(&copy), after);
}

#[test]
fn what_a_newer_release_wrote_is_left_alone() {
    let (_home, store) = store();
    let app = app();
    let name = reference("app");
    app.import(&store.claim().unwrap(), Some(&name)).unwrap();
    for record in [
        store.layout.image_record(&app.digest()),
        store.ref_path(&name),
    ] {
        let text = fs::read_to_string(&record).unwrap();
        let newer = text.replace("\"version\": 1", "\"version\": 2");
        fs::write(&record, newer).unwrap();
        let there = files(&store);
        assert!(matches!(
            store.collect(&nobody),
            Err(StoreError::Newer { version: 2, .. })
        ));
        assert_eq!(files(&store), there);
        fs::write(&record, text).unwrap();
    }
    store.verify(&app.digest()).unwrap();
}

#[test]
fn a_damaged_image_or_reference_can_be_removed() {
    let (_home, store) = store();
    let app = app();
    let name = reference("app");
    app.import(&store.claim().unwrap(), Some(&name)).unwrap();
    fs::write(store.layout.image_record(&app.digest()), b"{").unwrap();
    assert!(matches!(
        store.collect(&nobody),
        Err(StoreError::Damaged { .. })
    ));
    store.remove(&name, false, &nobody).unwrap();
    store.collect(&nobody).unwrap();
    assert_eq!(files(&store), BTreeSet::new());
    fs::write(store.ref_path(&name), b"{").unwrap();
    assert!(store.reference(&name).is_err());
    assert_eq!(store.references().unwrap(), []);
    assert_eq!(store.remove(&name, false, &nobody).unwrap().references, 1);
    fs::write(store.ref_path(&name), b"{").unwrap();
    assert_eq!(store.prune(&nobody).unwrap().references, 1);
}

#[test]
fn an_image_can_be_removed_while_another_is_damaged() {
    let (_home, store) = store();
    let (app, other) = (app(), other());
    let names = [reference("app"), reference("other")];
    let claim = store.claim().unwrap();
    app.import(&claim, Some(&names[0])).unwrap();
    other.import(&claim, Some(&names[1])).unwrap();
    drop(claim);
    fs::write(store.layout.image_record(&other.digest()), b"{").unwrap();
    // What the other needs is not known, so nothing of this one goes yet.
    let removed = store.remove(&names[0], false, &nobody).unwrap();
    assert_eq!((removed.references, removed.total()), (1, 1));
    other.import(&store.claim().unwrap(), None).unwrap();
    assert_eq!(store.collect(&nobody).unwrap().images, 1);
    store.verify(&other.digest()).unwrap();
}

#[test]
fn a_reference_means_one_image_and_moves() {
    let (_home, store) = store();
    let (app, other) = (app(), other());
    let name = reference("app");
    let claim = store.claim().unwrap();
    app.import(&claim, Some(&name)).unwrap();
    let first = store.reference(&name).unwrap().unwrap();
    other.import(&claim, Some(&name)).unwrap();
    let second = store.reference(&name).unwrap().unwrap();
    assert_eq!(second.manifest_digest, other.digest());
    assert!(second.created_at >= first.created_at);
    assert_eq!(store.references().unwrap(), [second]);
    // By the digest it is found under whatever name.
    let pinned = reference(&format!("elsewhere.example/x@{}", app.digest()));
    assert_eq!(
        claim.find(&pinned).unwrap().unwrap().manifest_digest,
        app.digest()
    );
    let strange = reference(&format!("app@{}", Digest::of(b"")));
    assert_eq!(claim.find(&strange).unwrap(), None);
}

#[test]
fn many_at_once_import_open_and_remove() {
    let (_home, store) = store();
    let images = [app(), other(), image(&[base()], "base")];
    let names = [reference("app"), reference("other"), reference("base")];
    std::thread::scope(|scope| {
        for turn in 0..4 {
            let (store, images, names) = (&store, &images, &names);
            scope.spawn(move || {
                for round in 0..6 {
                    let which = (turn + round) % 3;
                    let claim = store.claim().unwrap();
                    images[which].import(&claim, Some(&names[which])).unwrap();
                    // Claimed, it is there whatever the others do.
                    store.open_image(&images[which].digest()).unwrap();
                    drop(claim);
                    match store.remove(&names[which], false, &nobody) {
                        Ok(_) | Err(StoreError::InUse(_) | StoreError::ReferenceMissing(_)) => {}
                        Err(error) => panic!("{error:?}"),
                    }
                    store.collect(&nobody).unwrap();
                }
            });
        }
    });
    store.prune(&nobody).unwrap();
    assert_eq!(files(&store), BTreeSet::new());
}
