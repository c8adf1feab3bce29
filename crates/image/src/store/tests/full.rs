//! A disk that becomes full: a small one in memory, where this process may mount one.

use std::process::Command;

use super::*;
use crate::testing::gzip;

const INSIDE: &str = "MSB_TEST_FULL_DISK";

/// Runs the test once more where it may mount, and says whether that is here.
fn may_mount(name: &str) -> bool {
    if std::env::var_os(INSIDE).is_some() {
        return true;
    }
    for how in [&["--mount"][..], &["--user", "--map-root-user", "--mount"]] {
        let mut unshare = Command::new("unshare");
        let can = unshare.args(how).arg("true").output();
        if can.is_ok_and(|output| output.status.success()) {
            let status = Command::new("unshare")
                .args(how)
                .arg(std::env::current_exe().unwrap())
                .args(["--exact", name, "--nocapture"])
                .env(INSIDE, "1")
                .status();
            assert!(status.unwrap().success(), "see above");
            return false;
        }
    }
    println!("skipped: this process may not mount");
    false
}

#[test]
fn a_full_disk_is_said_to_be_one_and_nothing_is_left_on_it() {
    if !may_mount("store::tests::full::a_full_disk_is_said_to_be_one_and_nothing_is_left_on_it") {
        return;
    }
    let home = tempfile::tempdir().unwrap();
    let mounted = Command::new("mount")
        .args(["-t", "tmpfs", "-o", "size=24m", "tmpfs"])
        .arg(home.path())
        .status();
    assert!(mounted.unwrap().success());
    let store = Store::open(&home.path().join("images")).unwrap();
    let claim = store.claim().unwrap();
    let there = files(&store);

    // What is known to be too large is not begun; how much is missing is said.
    let digest = Digest::of(b"large");
    assert!(matches!(
        claim.begin_blob(&digest, 9 << 20),
        Err(StoreError::SpaceMissing { missing, .. }) if missing > 512 << 10 && missing < 2 << 20
    ));
    // What turns out to be is given up.
    let large: Vec<u8> = b"0123456789abcdef".repeat(2 << 20);
    let large = tar(&[("large", large.as_slice())]);
    let blob = gzip(&large);
    put(&claim, &blob).unwrap();
    let unpacked = claim.unpack_layer(
        &Digest::of(&blob),
        &Digest::of(&large),
        &Limits::default(),
        &mut |_| std::ops::ControlFlow::Continue(()),
    );
    assert!(
        matches!(unpacked, Err(StoreError::DiskFull { .. })),
        "{unpacked:?}"
    );
    drop(claim);
    store.collect(&nobody).unwrap();
    assert_eq!(
        files(&store),
        there
            .into_iter()
            .filter(|path| !path.starts_with("tmp"))
            .collect()
    );
    let app = app();
    app.import(&store.claim().unwrap(), None).unwrap();
    store.verify(&app.digest()).unwrap();

    // A download that the disk has no room for goes on where it was.
    let filler = home.path().join("filler");
    let claim = store.claim().unwrap();
    let bytes = vec![7; 3 << 20];
    let digest = Digest::of(&bytes);
    let BlobTurn::Mine(mut writer) = claim.begin_blob(&digest, bytes.len() as u64).unwrap() else {
        panic!("nobody else is at it");
    };
    writer.write(&bytes[..1 << 20]).unwrap();
    let full = fs::write(&filler, vec![1; 32 << 20]);
    assert_eq!(full.unwrap_err().kind(), std::io::ErrorKind::StorageFull);
    let error = writer.write(&bytes[1 << 20..]).unwrap_err();
    assert!(matches!(error, StoreError::DiskFull { .. }), "{error:?}");
    fs::remove_file(&filler).unwrap();
    assert_eq!(writer.offset(), 1 << 20);
    writer.write(&bytes[1 << 20..]).unwrap();
    writer.finish().unwrap();
}
