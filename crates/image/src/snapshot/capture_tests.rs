//! Snapshots of disks, and what begins from them.

use std::io::Write;
use std::os::unix::fs::{FileExt, MetadataExt};

use super::*;
use crate::Digest;
use crate::snapshot::always;
use crate::snapshot::manifest::ImageRef;

fn snapshot(target: &Path, patched: bool) -> SnapshotDir {
    let disk = tempfile::tempfile().unwrap();
    disk.set_len(1 << 30).unwrap();
    disk.write_all_at(&[9; 4096], 1 << 29).unwrap();
    let file = || {
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(&[5; 4096]).unwrap();
        file
    };
    let patch = patched.then(|| PatchFiles {
        index: file(),
        data: file(),
    });
    let image = ImageRef {
        manifest_digest: Digest::of(b"image").to_string(),
        reference: "python:3.12".to_owned(),
    };
    let capture = Capture {
        upper: &disk,
        patch,
        manifest: Manifest::new(image, None, 0),
        record_integrity: false,
    };
    capture.make(target, false, &mut always).unwrap()
}

#[test]
fn what_begins_from_a_snapshot_has_its_bytes_and_may_write_its_own() {
    for patched in [false, true] {
        let dir = tempfile::tempdir().unwrap();
        let target = dir.path().join("base");
        let made = snapshot(&target, patched);
        assert_eq!(made.sealed().manifest().upper.size_bytes, 1 << 30);
        for child in ["a", "b"] {
            let into = dir.path().join(child);
            fs::create_dir(&into).unwrap();
            restore(&target.join("upper.ext4"), &into, &mut always).unwrap();
            assert_eq!(into.join("patch/index").exists(), patched);
            assert_eq!(into.join("patch/data").exists(), patched);
            let path = into.join("upper.ext4");
            let upper = OpenOptions::new()
                .read(true)
                .write(true)
                .open(&path)
                .unwrap();
            let mut read = [0; 4096];
            upper.read_exact_at(&mut read, 1 << 29).unwrap();
            assert_eq!(read, [9; 4096]);
            let found = upper.metadata().unwrap();
            assert_eq!((found.len(), found.mode() & 0o777), (1 << 30, 0o600));
            assert!(found.blocks() * 512 < 1 << 22, "{}", found.blocks());
            upper.write_all_at(&[1], 0).unwrap();
        }
        let mut byte = [7];
        made.upper().unwrap().read_exact_at(&mut byte, 0).unwrap();
        assert_eq!(byte, [0]);
    }
}

#[test]
fn a_disk_that_lies_by_itself_is_taken_for_what_it_is() {
    let dir = tempfile::tempdir().unwrap();
    for name in ["upper.ext4", "disk.img"] {
        let disk = dir.path().join(name);
        fs::write(&disk, [3; 8192]).unwrap();
        let into = dir.path().join(format!("of-{name}"));
        fs::create_dir(&into).unwrap();
        restore(&disk, &into, &mut always).unwrap();
        assert_eq!(fs::read(into.join("upper.ext4")).unwrap(), [3; 8192]);
    }
    let gone = restore(&dir.path().join("gone"), dir.path(), &mut always);
    assert!(matches!(gone, Err(SnapshotError::Io { .. })));
}

#[test]
fn a_damaged_one_begins_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let target = dir.path().join("base");
    snapshot(&target, true);
    fs::remove_file(target.join("patch/index")).unwrap();
    let refused = restore(&target.join("upper.ext4"), dir.path(), &mut always);
    assert!(matches!(refused, Err(SnapshotError::Damaged { .. })));
    assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1);
}

#[test]
fn what_was_given_up_leaves_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let disk = tempfile::tempfile().unwrap();
    disk.set_len(1 << 20).unwrap();
    disk.write_all_at(&[9; 4096], 0).unwrap();
    let image = ImageRef {
        manifest_digest: Digest::of(b"image").to_string(),
        reference: "python:3.12".to_owned(),
    };
    let capture = Capture {
        upper: &disk,
        patch: None,
        manifest: Manifest::new(image, None, 0),
        record_integrity: true,
    };
    let target = dir.path().join("base");
    let mut never = || Err(io::ErrorKind::Interrupted.into());
    let refused = capture.make(&target, false, &mut never);
    assert!(matches!(refused, Err(SnapshotError::Io { .. })));
    assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 0);
}
