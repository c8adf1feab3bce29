//! Images that travel with snapshots, from one store to another.

use serde_json::json;

use super::*;
use crate::limits::Limits as ImageLimits;
use crate::snapshot::archive::StoreImages;
use crate::store::{BlobTurn, Claim, Store};

struct Images {
    dir: tempfile::TempDir,
    store: Store,
}

impl Images {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(&dir.path().join("images")).unwrap();
        Self { dir, store }
    }

    fn sent(&self) -> StoreImages {
        StoreImages::of(&self.store).unwrap()
    }
}

/// A layer with one file.
fn layer() -> Vec<u8> {
    let mut tar = tar::Builder::new(Vec::new());
    let mut header = tar::Header::new_ustar();
    header.set_size(5);
    header.set_mode(0o644);
    tar.append_data(&mut header, "etc/word", &b"hello"[..])
        .unwrap();
    tar.into_inner().unwrap()
}

fn put(claim: &Claim, bytes: &[u8]) -> Digest {
    let digest = Digest::of(bytes);
    let BlobTurn::Mine(mut writer) = claim.begin_blob(&digest, bytes.len() as u64).unwrap() else {
        panic!("nobody else is here");
    };
    writer.write(bytes).unwrap();
    writer.finish().unwrap();
    digest
}

/// Puts an image into a store: its manifest's digest and its blobs.
fn image(images: &Images) -> (Digest, Vec<Vec<u8>>) {
    let claim = images.store.claim().unwrap();
    let tar = layer();
    let layer = put(&claim, &tar);
    let config = json!({
        "architecture": "amd64",
        "os": "linux",
        "config": {},
        "rootfs": { "type": "layers", "diff_ids": [layer.to_string()] },
    });
    let config = config.to_string().into_bytes();
    let manifest = json!({
        "schemaVersion": 2,
        "mediaType": "application/vnd.oci.image.manifest.v1+json",
        "config": {
            "mediaType": "application/vnd.oci.image.config.v1+json",
            "digest": Digest::of(&config).to_string(),
            "size": config.len(),
        },
        "layers": [{
            "mediaType": "application/vnd.oci.image.layer.v1.tar",
            "digest": layer.to_string(),
            "size": tar.len(),
        }],
    });
    let manifest = manifest.to_string().into_bytes();
    let limits = ImageLimits::default();
    let progress = &mut |_| std::ops::ControlFlow::Continue(());
    claim
        .unpack_layer(&layer, &layer, &limits, progress)
        .unwrap();
    claim
        .commit_image(None, &manifest, &config, &limits)
        .unwrap();
    (Digest::of(&manifest), vec![manifest, config, tar])
}

fn archive(place: &Place, images: &Images, wanted: &BTreeSet<Digest>) -> Result<Vec<u8>> {
    let mut writer = Writer::begin(Vec::new(), true, &place.contents(true))?;
    for snapshot in &place.snapshots {
        writer.snapshot(snapshot, &mut always)?;
    }
    images.sent().send(wanted, &mut writer, &mut always)?;
    writer.finish()
}

fn taken(archive: &[u8], images: &Images, wanted: &BTreeSet<Digest>) -> Result<StoreImages> {
    let mut sent = images.sent();
    let into = images.dir.path();
    let _unpacked = read(archive, into, &Limits::default(), &mut sent, &mut always)?;
    sent.complete(wanted, &ImageLimits::default(), &mut always)?;
    Ok(sent)
}

fn place() -> Place {
    let mut place = Place::new();
    place.add(&disk(1 << 20, &[(0, 1)]), false, false);
    place
}

#[test]
fn an_image_arrives_as_it_was_and_under_no_name() {
    let (here, there) = (Images::new(), Images::new());
    let (digest, blobs) = image(&here);
    let wanted = BTreeSet::from([digest]);
    let archive = archive(&place(), &here, &wanted).unwrap();
    for _ in 0..2 {
        taken(&archive, &there, &wanted).unwrap();
        let found = there.store.image(&digest).unwrap().unwrap();
        assert_eq!(found.layers.len(), 1);
        there.store.verify(&digest).unwrap();
        for bytes in &blobs {
            let blob = there.store.blob(&Digest::of(bytes)).unwrap().unwrap();
            let mut read = Vec::new();
            blob.open().unwrap().read_to_end(&mut read).unwrap();
            assert_eq!(&read, bytes);
        }
        assert!(there.store.references().unwrap().is_empty());
    }
}

#[test]
fn an_image_that_was_damaged_does_not_travel() {
    let here = Images::new();
    let (digest, blobs) = image(&here);
    for bytes in &blobs {
        let path = here.dir.path().join("images/blobs/sha256");
        let path = path.join(Digest::of(bytes).hex());
        let mut changed = bytes.clone();
        changed[3] ^= 1;
        fs::write(&path, changed).unwrap();
        let sent = archive(&place(), &here, &BTreeSet::from([digest]));
        assert!(
            matches!(sent, Err(SnapshotError::Image { .. })),
            "{:?}",
            sent.map(|_| ())
        );
        fs::write(&path, bytes).unwrap();
    }
}

#[test]
fn an_image_that_is_not_here_is_named() {
    let missing = Digest::of(b"missing");
    let sent = archive(&place(), &Images::new(), &BTreeSet::from([missing]));
    assert!(matches!(
        sent,
        Err(SnapshotError::ImageMissing { image }) if image == missing
    ));
}

#[test]
fn what_is_not_what_it_is_called_is_not_taken() {
    let (here, there) = (Images::new(), Images::new());
    let (digest, blobs) = image(&here);
    let wanted = BTreeSet::from([digest]);
    let whole = archive(&place(), &here, &wanted).unwrap();
    // A byte in the middle of the layer.
    let word = blobs[2]
        .windows(5)
        .position(|bytes| bytes == b"hello")
        .unwrap();
    let start = whole
        .windows(64)
        .position(|bytes| bytes == &blobs[2][word..word + 64])
        .unwrap();
    let mut changed = whole.clone();
    changed[start] = b'j';
    let refused = taken(&changed, &there, &wanted);
    assert!(
        matches!(refused, Err(SnapshotError::Archive { .. })),
        "{refused:?}"
    );
    assert!(there.store.image(&digest).unwrap().is_none());

    // One that lacks a part.
    let place = place();
    let mut writer = Writer::begin(Vec::new(), true, &place.contents(true)).unwrap();
    writer.snapshot(&place.snapshots[0], &mut always).unwrap();
    for bytes in &blobs[..2] {
        let path = ImagePath::Blob(Digest::of(bytes));
        writer
            .image(path, bytes.len() as u64, &mut &bytes[..])
            .unwrap();
    }
    let lacking = writer.finish().unwrap();
    let refused = taken(&lacking, &there, &wanted);
    assert!(
        matches!(refused, Err(SnapshotError::Archive { .. })),
        "{refused:?}"
    );
    assert!(there.store.image(&digest).unwrap().is_none());
    // Another one's image is not the one that is wanted.
    let other = BTreeSet::from([Digest::of(b"other")]);
    let refused = taken(&whole, &there, &other);
    assert!(
        matches!(refused, Err(SnapshotError::Archive { .. })),
        "{refused:?}"
    );
}

#[test]
fn whoever_wants_it_ended_ends_it() {
    let (here, there) = (Images::new(), Images::new());
    let (digest, _) = image(&here);
    let wanted = BTreeSet::from([digest]);
    let archive = archive(&place(), &here, &wanted).unwrap();
    let mut sent = there.sent();
    let into = there.dir.path();
    drop(
        read(
            &archive[..],
            into,
            &Limits::default(),
            &mut sent,
            &mut always,
        )
        .unwrap(),
    );
    let mut never = || Err(io::ErrorKind::Interrupted.into());
    let ended = sent.complete(&wanted, &ImageLimits::default(), &mut never);
    assert!(matches!(ended, Err(SnapshotError::Io { .. })), "{ended:?}");
    assert!(there.store.image(&digest).unwrap().is_none());
}
