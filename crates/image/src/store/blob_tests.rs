//! Downloads: whole, cut short, raced for, and wrong.

use std::os::unix::fs::PermissionsExt;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use super::*;
use crate::store::Store;

const LONG: Duration = Duration::from_secs(60);

fn store() -> (tempfile::TempDir, Store) {
    let home = tempfile::tempdir().unwrap();
    let store = Store::open(&home.path().join("images")).unwrap();
    (home, store)
}

fn mine(claim: &Claim, digest: &Digest, size: u64) -> BlobWriter {
    match claim.begin_blob(digest, size).unwrap() {
        BlobTurn::Mine(writer) => writer,
        other => panic!("{other:?}"),
    }
}

fn left_in_tmp(store: &Store) -> Vec<String> {
    let entries = fs::read_dir(store.layout.tmp()).unwrap();
    let mut names: Vec<_> = entries
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    names
}

#[test]
fn what_came_is_there_and_is_not_asked_for_again() {
    let (_home, store) = store();
    let claim = store.claim().unwrap();
    let digest = Digest::of(b"layer");
    assert_eq!(store.blob(&digest).unwrap(), None);
    let mut writer = mine(&claim, &digest, 5);
    assert_eq!(writer.offset(), 0);
    writer.write(b"lay").unwrap();
    writer.write(b"er").unwrap();
    let blob = writer.finish().unwrap();
    assert_eq!(blob.read_document().unwrap(), b"layer");
    assert!(matches!(
        claim.begin_blob(&digest, 5).unwrap(),
        BlobTurn::Present(there) if there == blob
    ));
    assert!(matches!(
        claim.begin_blob(&digest, 6),
        Err(StoreError::WrongSize {
            expected: 6,
            found: 5,
            ..
        })
    ));
    drop(claim);
    assert!(left_in_tmp(&store).is_empty());
}

#[test]
fn nobody_else_can_read_what_is_stored() {
    let (_home, store) = store();
    let claim = store.claim().unwrap();
    let blob = claim.put_document(b"{}").unwrap();
    let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode(&blob.path), 0o600);
    assert_eq!(mode(store.path()), 0o700);
    assert_eq!(mode(claim.scratch().parent().unwrap()), 0o700);
}

#[test]
fn a_download_cut_short_goes_on_where_it_was() {
    let (_home, store) = store();
    let digest = Digest::of(b"a layer of some length");
    let mut writer = mine(&store.claim().unwrap(), &digest, 22);
    writer.write(b"a layer").unwrap();
    drop(writer);
    assert_eq!(left_in_tmp(&store), [digest.hex() + ".partial"]);
    let claim = store.claim().unwrap();
    let mut writer = mine(&claim, &digest, 22);
    assert_eq!(writer.offset(), 7);
    assert!(matches!(
        mine_again(writer),
        StoreError::WrongSize { found: 7, .. }
    ));
    writer = mine(&claim, &digest, 22);
    writer.write(b" of some length").unwrap();
    writer.finish().unwrap();
    assert!(store.blob(&digest).unwrap().is_some());
}

fn mine_again(writer: BlobWriter) -> StoreError {
    writer.finish().unwrap_err()
}

#[test]
fn what_is_wrong_is_not_kept() {
    let (_home, store) = store();
    let claim = store.claim().unwrap();
    let digest = Digest::of(b"right");
    let mut writer = mine(&claim, &digest, 5);
    writer.write(b"wrong").unwrap();
    assert!(matches!(
        writer.finish(),
        Err(StoreError::WrongDigest { expected, found })
            if expected == digest && found == Digest::of(b"wrong")
    ));
    let mut writer = mine(&claim, &digest, 5);
    assert_eq!(writer.offset(), 0);
    writer.write(b"righ").unwrap();
    assert!(matches!(
        writer.write(b"t and more"),
        Err(StoreError::WrongSize { expected: 5, .. })
    ));
    drop(writer);
    let mut writer = mine(&claim, &digest, 5);
    assert_eq!(writer.offset(), 0);
    writer.write(b"wro").unwrap();
    writer.restart().unwrap();
    writer.write(b"right").unwrap();
    writer.finish().unwrap();
}

#[test]
fn a_partial_file_longer_than_the_blob_is_begun_anew() {
    let (_home, store) = store();
    let claim = store.claim().unwrap();
    let digest = Digest::of(b"right");
    fs::write(store.layout.partial(&digest), b"something longer").unwrap();
    assert_eq!(mine(&claim, &digest, 5).offset(), 0);
}

#[test]
fn one_downloads_and_the_others_find_it() {
    let (_home, store) = store();
    let bytes = vec![7; 300_000];
    let digest = Digest::of(&bytes);
    let size = bytes.len() as u64;
    let downloads = AtomicU32::new(0);
    std::thread::scope(|scope| {
        for _ in 0..8 {
            scope.spawn(|| {
                let claim = store.claim().unwrap();
                loop {
                    match claim.begin_blob(&digest, size).unwrap() {
                        BlobTurn::Present(blob) => {
                            assert_eq!(blob.size(), size);
                            break;
                        }
                        BlobTurn::Mine(mut writer) => {
                            downloads.fetch_add(1, Ordering::Relaxed);
                            for part in bytes.chunks(1000) {
                                writer.write(part).unwrap();
                            }
                            writer.finish().unwrap();
                        }
                        BlobTurn::Elsewhere(mut elsewhere) => {
                            assert!(elsewhere.wait(LONG, &mut |_| {}).unwrap());
                        }
                    }
                }
            });
        }
    });
    assert_eq!(downloads.into_inner(), 1);
    assert!(left_in_tmp(&store).is_empty());
}

#[test]
fn who_waits_hears_how_far_it_is_and_takes_over() {
    let (_home, store) = store();
    let claim = store.claim().unwrap();
    let digest = Digest::of(b"right");
    let mut writer = mine(&claim, &digest, 5);
    writer.write(b"rig").unwrap();
    let BlobTurn::Elsewhere(mut elsewhere) = claim.begin_blob(&digest, 5).unwrap() else {
        panic!("it is being downloaded");
    };
    let mut heard = 0;
    let waited = elsewhere.wait(Duration::from_millis(300), &mut |bytes| heard = bytes);
    assert!(!waited.unwrap());
    assert_eq!(heard, 3);
    drop(writer);
    assert!(elsewhere.wait(LONG, &mut |_| {}).unwrap());
    assert!(elsewhere.wait(LONG, &mut |_| {}).unwrap(), "and again");
    assert_eq!(mine(&claim, &digest, 5).offset(), 3);
}

#[test]
fn a_blob_larger_than_the_disk_is_not_begun() {
    let (_home, store) = store();
    let claim = store.claim().unwrap();
    let digest = Digest::of(b"vast");
    assert!(matches!(
        claim.begin_blob(&digest, u64::MAX),
        Err(StoreError::SpaceMissing { missing, .. }) if missing > 1 << 60
    ));
    assert!(
        claim.begin_blob(&digest, 4).is_ok(),
        "its lock is free again"
    );
}

#[test]
fn a_document_that_has_changed_on_the_disk_is_not_given_out() {
    let (_home, store) = store();
    let claim = store.claim().unwrap();
    let blob = claim.put_document(b"{}").unwrap();
    fs::write(&blob.path, b"[]").unwrap();
    assert!(matches!(
        blob.read_document(),
        Err(StoreError::Integrity { .. })
    ));
    let blob = claim.put_document(b"{}").unwrap();
    assert_eq!(blob.read_document().unwrap(), b"{}", "it came again");
    let long = vec![b' '; usize::try_from(MAX_DOCUMENT).unwrap() + 1];
    assert!(matches!(
        claim.put_document(&long),
        Err(StoreError::WrongSize { .. })
    ));
}
