//! Whole pulls: what is asked of the registry, what is told meanwhile, and what is left when they are ended.

use super::*;
use crate::testing::tar;

/// A place for the progress of a pull.
#[derive(Clone, Default)]
struct Heard(Arc<Mutex<Vec<PullEvent>>>);

impl Heard {
    fn progress(&self) -> Progress {
        let heard = Arc::clone(&self.0);
        Arc::new(move |event| heard.lock().unwrap().push(event))
    }

    fn all(&self) -> Vec<PullEvent> {
        self.0.lock().unwrap().clone()
    }
}

fn layers() -> Vec<Vec<u8>> {
    vec![
        tar(&[("etc/name", b"base".as_slice()), ("big", &bytes(2_000_000))]),
        tar(&[("app", b"app".as_slice())]),
        tar(&[]),
    ]
}

fn pull(dir: &tempfile::TempDir, reference: Reference, heard: &Heard) -> Pull {
    let store = Store::open(dir.path()).unwrap();
    Pull::new(store, reference, heard.progress())
}

#[tokio::test(flavor = "multi_thread")]
async fn an_image_is_pulled_once_and_told_of() {
    let registry = FakeRegistry::new().await;
    let tars = layers();
    // One layer twice.
    let listed = [
        tars[0].clone(),
        tars[1].clone(),
        tars[2].clone(),
        tars[2].clone(),
    ];
    let image = registry.image("1", "amd64", &listed, r#"{"Env":["A=1"],"Cmd":["serve"]}"#);
    let dir = tempfile::tempdir().unwrap();
    let heard = Heard::default();
    let pulling = pull(&dir, reference(&registry, ":1"), &heard);
    assert!(pulling.find().await.unwrap().is_none());
    let pulled = pulling.pull(options()).await.unwrap();
    assert_eq!(pulled.record.manifest_digest, image.manifest);
    assert_eq!(pulled.config.env, ["A=1"]);
    assert_eq!(
        registry.asked("blobs").len(),
        4,
        "three layers and the configuration"
    );

    let events = heard.all();
    let total = tars.iter().map(|tar| tar.len() as u64).sum::<u64>();
    assert_eq!(events[0], PullEvent::Resolving);
    assert_eq!(
        events[1],
        PullEvent::Resolved {
            manifest: image.manifest,
            layers: 4,
            total,
        }
    );
    assert_eq!(events.last(), Some(&PullEvent::Complete { layers: 4 }));
    for (index, (digest, tar)) in image.layers.iter().zip(&listed).enumerate() {
        let total = tar.len() as u64;
        let downloaded = PullEvent::Downloaded {
            layer: index,
            digest: *digest,
            total,
        };
        let unpacked = PullEvent::Unpacked {
            layer: index,
            diff_id: *digest,
        };
        let at = |wanted: &PullEvent| events.iter().position(|event| event == wanted);
        assert!(at(&downloaded).unwrap() < at(&unpacked).unwrap());
        let progress = events.iter().filter_map(|event| match event {
            PullEvent::Downloading { layer, bytes, .. } if *layer == index => Some(*bytes),
            _ => None,
        });
        let progress: Vec<_> = progress.collect();
        assert!(
            progress.is_sorted() && progress.last() == Some(&total),
            "{progress:?}"
        );
    }

    // From now on it is here, by all its names.
    let asked = registry.asked("").len();
    let pinned = reference(&registry, &format!("@{}", image.manifest));
    for named in [reference(&registry, ":1"), pinned] {
        let heard = Heard::default();
        let found = pull(&dir, named, &heard).find().await.unwrap().unwrap();
        assert_eq!(found.record, pulled.record);
        assert_eq!(found.config, pulled.config);
        let events = heard.all();
        assert!(
            matches!(events[0], PullEvent::Resolved { .. }),
            "{events:?}"
        );
        assert_eq!(events[1..], [PullEvent::Complete { layers: 4 }]);
    }
    assert_eq!(registry.asked("").len(), asked);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_tag_means_now_is_asked_and_only_what_is_missing_comes() {
    let registry = FakeRegistry::new().await;
    let tars = layers();
    let first = registry.image("1", "amd64", &tars[..1], "{}");
    let dir = tempfile::tempdir().unwrap();
    let heard = Heard::default();
    let pulling = pull(&dir, reference(&registry, ":1"), &heard);
    pulling.pull(options()).await.unwrap();
    let again = pulling.pull(options()).await.unwrap();
    assert_eq!(again.record.manifest_digest, first.manifest);
    let of_layers = |registry: &FakeRegistry| {
        let digest = first.layers[0].to_string();
        registry
            .asked("blobs")
            .into_iter()
            .filter(|asked| asked.path.contains(&digest))
            .count()
    };
    assert_eq!(of_layers(&registry), 1);
    let second = registry.image("1", "amd64", &tars[..2], "{}");
    let moved = pulling.pull(options()).await.unwrap();
    assert_eq!(moved.record.manifest_digest, second.manifest);
    assert_eq!(of_layers(&registry), 1);
    let found = pulling.find().await.unwrap().unwrap();
    assert_eq!(found.record.manifest_digest, second.manifest);
    let old = pull(
        &dir,
        reference(&registry, &format!("@{}", first.manifest)),
        &heard,
    );
    assert!(old.find().await.unwrap().is_some(), "it is held still");
}

#[tokio::test(flavor = "multi_thread")]
async fn two_who_pull_fetch_each_part_once() {
    let registry = FakeRegistry::new().await;
    let image = registry.image("1", "amd64", &layers(), "{}");
    let dir = tempfile::tempdir().unwrap();
    let (one, other) = (Heard::default(), Heard::default());
    let named = reference(&registry, ":1");
    let first = pull(&dir, named.clone(), &one);
    let second = pull(&dir, named, &other);
    let (first, second) = futures::join!(first.pull(options()), second.pull(options()));
    assert_eq!(first.unwrap().record, second.unwrap().record);
    for layer in image.layers {
        assert_eq!(registry.asked(&layer.to_string()).len(), 1);
    }
    for heard in [one, other] {
        assert!(heard.all().contains(&PullEvent::Complete { layers: 3 }));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pull_that_is_dropped_leaves_what_has_come() {
    let registry = FakeRegistry::new().await;
    let tars = layers();
    let image = registry.image("1", "amd64", &tars, "{}");
    let big = image.layers[0].to_string();
    registry.fail(format!("blobs/{big}"), [Fault::Stall(1_500_000)]);
    let dir = tempfile::tempdir().unwrap();
    let heard = Heard::default();
    let pulling = pull(&dir, reference(&registry, ":1"), &heard);
    let ended = pulling.clone();
    let task = tokio::spawn(async move { ended.pull(options()).await.map(drop) });
    let stalled = |event: &PullEvent| {
        matches!(
            event,
            PullEvent::Downloading {
                layer: 0,
                bytes: 1_500_000,
                ..
            }
        )
    };
    until(|| heard.all().iter().any(stalled)).await;
    task.abort();
    assert!(task.await.unwrap_err().is_cancelled());
    assert!(pulling.find().await.unwrap().is_none());
    pulling.pull(options()).await.unwrap();
    let asked: Vec<_> = registry
        .asked(&big)
        .into_iter()
        .map(|asked| asked.range)
        .collect();
    assert_eq!(asked, [None, Some("bytes=1500000-".to_owned())]);
    assert_eq!(registry.asked(&image.layers[1].to_string()).len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_in_a_layer_must_be_what_the_image_says() {
    let registry = FakeRegistry::new().await;
    let tars = layers();
    let blob = registry.blob(tars[1].clone());
    let other = Digest::of(b"something else");
    let config = format!(
        r#"{{"architecture":"amd64","os":"linux","rootfs":{{"type":"layers","diff_ids":["{other}"]}}}}"#
    );
    let config_digest = registry.blob(config.clone());
    let (layer, image) = (
        crate::manifest::media::OCI_LAYER,
        crate::manifest::media::OCI_CONFIG,
    );
    let manifest = format!(
        r#"{{"schemaVersion":2,"config":{{"mediaType":"{image}","digest":"{config_digest}","size":{}}},"layers":[{{"mediaType":"{layer}","digest":"{blob}","size":{}}}]}}"#,
        config.len(),
        tars[1].len()
    );
    registry.document(Some("1"), crate::manifest::media::OCI_MANIFEST, &manifest);
    let dir = tempfile::tempdir().unwrap();
    let pulling = pull(&dir, reference(&registry, ":1"), &Heard::default());
    let error = pulling.pull(options()).await.unwrap_err();
    assert!(
        matches!(&error, PullError::Store(crate::store::StoreError::WrongDigest { expected, .. })
            if *expected == other),
        "{error:?}"
    );
    assert!(pulling.find().await.unwrap().is_none());
}

#[tokio::test(flavor = "multi_thread")]
async fn an_image_without_layers_is_an_image() {
    let registry = FakeRegistry::new().await;
    registry.image("1", "amd64", &[], "{}");
    let dir = tempfile::tempdir().unwrap();
    let pulling = pull(&dir, reference(&registry, ":1"), &Heard::default());
    let pulled = pulling.pull(options()).await.unwrap();
    assert_eq!(pulled.record.layers.len(), 0);
}

/// Whatever file was damaged, the next pull gets it anew. What is found out without a boot needs nobody to ask for that.
#[tokio::test(flavor = "multi_thread")]
async fn what_was_damaged_on_this_host_is_pulled_again() {
    let registry = FakeRegistry::new().await;
    let image = registry.image("1", "amd64", &layers(), "{}");
    let dir = tempfile::tempdir().unwrap();
    let pulling = pull(&dir, reference(&registry, ":1"), &Heard::default());
    let config = pulling.pull(options()).await.unwrap().record.config_digest;
    let store = Store::open(dir.path()).unwrap();
    for digest in [config, image.manifest, image.layers[0]] {
        let path = dir.path().join("blobs/sha256").join(digest.hex());
        let whole = std::fs::read(&path).unwrap();
        let mut changed = whole.clone();
        changed[whole.len() / 2] ^= 1;
        let is_layer = digest == image.layers[0];
        // That a layer's blob was changed shows when it is read, which nobody does who has it unpacked.
        let damages = [&whole[1..], &changed];
        for damage in damages.iter().take(if is_layer { 1 } else { 2 }) {
            std::fs::write(&path, damage).unwrap();
            assert!(store.verify(&image.manifest).is_err());
            let found = pulling.find().await;
            assert_eq!(found.is_ok_and(|found| found.is_some()), digest != config);
            // Of a configuration or a layer there is nothing to make it anew from.
            pulling.pull(options()).await.unwrap();
            store.verify(&image.manifest).unwrap();
        }
    }
}

/// What was made of an image's blobs is made anew from them, without anybody's help.
#[tokio::test(flavor = "multi_thread")]
async fn what_was_made_of_an_image_is_mended_from_its_blobs() {
    let registry = FakeRegistry::new().await;
    let image = registry.image("1", "amd64", &layers(), "{}");
    let dir = tempfile::tempdir().unwrap();
    let pulling = pull(&dir, reference(&registry, ":1"), &Heard::default());
    pulling.pull(options()).await.unwrap();
    let store = Store::open(dir.path()).unwrap();
    // The tag moves, and the image that is here is to stay the one.
    registry.image("1", "amd64", &[], "{}");
    let asked = registry.asked("").len();
    let layer = dir.path().join("layers").join(image.layers[0].hex());
    let meta = |end: &str| dir.path().join("meta").join(image.manifest.hex() + end);
    let files = [
        layer.join("data"),
        layer.join("noted.json"),
        meta(".erofs"),
        meta(".json"),
    ];
    for path in files {
        for gone in [false, true] {
            match gone {
                true => std::fs::remove_file(&path).unwrap(),
                false => {
                    let mut bytes = std::fs::read(&path).unwrap();
                    let middle = bytes.len() / 2;
                    bytes[middle] ^= 0x80;
                    std::fs::write(&path, bytes).unwrap();
                }
            }
            // An image without a record was never here.
            match pulling.find().await {
                Ok(None) => assert!(gone && path == meta(".json"), "{path:?}"),
                Err(PullError::Store(error)) => assert!(error.is_damaged_image(), "{error:?}"),
                other => panic!("{path:?}: {other:?}"),
            }
            let mended = pulling.mend().await.unwrap().unwrap();
            assert_eq!(mended.record.manifest_digest, image.manifest);
            store.verify(&image.manifest).unwrap();
            assert!(pulling.find().await.unwrap().is_some());
        }
    }
    assert_eq!(registry.asked("").len(), asked);

    // Without the blob, it has to come again.
    std::fs::write(layer.join("data"), "short").unwrap();
    let blob = dir.path().join("blobs/sha256").join(image.layers[0].hex());
    std::fs::write(&blob, "short").unwrap();
    assert!(pulling.mend().await.unwrap().is_none());
    assert_eq!(registry.asked("").len(), asked);
}
