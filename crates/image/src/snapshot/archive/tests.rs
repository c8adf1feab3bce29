use std::fs::{self, File};
use std::io::{Read, Write};
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::process::Command;

use proptest::prelude::*;

use super::name::Name;
use super::*;
use crate::snapshot::capture::Capture;
use crate::snapshot::manifest::{ImageRef, Manifest};
use crate::snapshot::{GoOn, PatchFiles, SnapshotDir, always};

mod hostile;
mod images;

/// A directory with snapshots in it, each the parent of the next.
struct Place {
    dir: tempfile::TempDir,
    snapshots: Vec<SnapshotDir>,
}

impl Place {
    fn new() -> Self {
        Self {
            dir: tempfile::tempdir().unwrap(),
            snapshots: Vec::new(),
        }
    }

    fn path(&self) -> &Path {
        self.dir.path()
    }

    fn add(&mut self, disk: &File, patched: bool, record_integrity: bool) {
        let image = ImageRef {
            manifest_digest: Digest::of(b"image").to_string(),
            reference: "python:3.12".to_owned(),
        };
        let mut manifest = Manifest::new(image, Some("web".to_owned()), 0);
        let parent = self.snapshots.last();
        manifest.parent = parent.map(|parent| parent.sealed().digest().to_string());
        let file = |byte: u8| {
            let mut file = tempfile::tempfile().unwrap();
            file.write_all(&[byte; 8192]).unwrap();
            file
        };
        let capture = Capture {
            upper: disk,
            patch: patched.then(|| PatchFiles {
                index: file(1),
                data: file(2),
            }),
            manifest,
            record_integrity,
        };
        let target = self.path().join(format!("s{}", self.snapshots.len()));
        let made = capture.make(&target, false, &mut always).unwrap();
        self.snapshots.push(made);
    }

    fn contents(&self, image: bool) -> Contents {
        let entry = |snapshot: &SnapshotDir| Entry {
            digest: snapshot.sealed().digest(),
            name: name(snapshot),
        };
        Contents::new(self.snapshots.iter().map(entry).collect(), image).unwrap()
    }

    fn archive(&self, plain: bool, image: &[(ImagePath, Vec<u8>)]) -> Vec<u8> {
        let contents = self.contents(!image.is_empty());
        let mut writer = Writer::begin(Vec::new(), plain, &contents).unwrap();
        for snapshot in &self.snapshots {
            writer.snapshot(snapshot, &mut always).unwrap();
        }
        for (path, bytes) in image {
            let size = bytes.len() as u64;
            writer.image(*path, size, &mut &bytes[..]).unwrap();
        }
        writer.finish().unwrap()
    }
}

fn name(snapshot: &SnapshotDir) -> String {
    let name = snapshot.path().file_name().unwrap();
    name.to_str().unwrap().to_owned()
}

fn disk(size: u64, blocks: &[(u64, u8)]) -> File {
    let disk = tempfile::tempfile().unwrap();
    disk.set_len(size).unwrap();
    for (block, byte) in blocks {
        let at = block * 4096;
        if at < size {
            disk.write_all_at(&[*byte; 4096], at).unwrap();
        }
    }
    disk
}

/// Keeps an image's files.
#[derive(Default)]
struct Kept(Vec<(ImagePath, Vec<u8>)>);

impl ImageFiles for Kept {
    fn file(
        &mut self,
        path: ImagePath,
        size: u64,
        contents: &mut dyn Read,
        _: GoOn<'_>,
    ) -> Result<()> {
        let mut bytes = Vec::new();
        contents.read_to_end(&mut bytes).map_err(broken)?;
        assert_eq!(bytes.len() as u64, size);
        self.0.push((path, bytes));
        Ok(())
    }
}

fn unpack(archive: &[u8], into: &Path, image: &mut dyn ImageFiles) -> Result<Unpacked> {
    read(archive, into, &Limits::default(), image, &mut always)
}

/// Unpacks an archive and puts its snapshots in their places.
fn restored(archive: &[u8], into: &Path) -> Vec<SnapshotDir> {
    let unpacked = unpack(archive, into, &mut NoImage).unwrap();
    let place = |snapshot: UnpackedSnapshot| {
        let target = into.join(&snapshot.name);
        snapshot.staging.complete(&snapshot.sealed, &target, false)
    };
    let snapshots = unpacked.snapshots.into_iter();
    snapshots.map(|snapshot| place(snapshot).unwrap()).collect()
}

fn bytes(mut file: File) -> Vec<u8> {
    let mut bytes = Vec::new();
    io::Seek::rewind(&mut file).unwrap();
    file.read_to_end(&mut bytes).unwrap();
    bytes
}

#[track_caller]
fn same(one: &SnapshotDir, other: &SnapshotDir) {
    assert_eq!(one.sealed(), other.sealed());
    assert_eq!(name(one), name(other));
    assert!(bytes(one.upper().unwrap()) == bytes(other.upper().unwrap()));
    let files = |snapshot: &SnapshotDir| {
        let files = snapshot.patch().unwrap();
        files.map(|files| (bytes(files.index), bytes(files.data)))
    };
    assert_eq!(files(one), files(other));
}

#[test]
fn what_is_written_is_read_with_its_parents_patches_and_image() {
    let mut place = Place::new();
    place.add(&disk(1 << 20, &[(0, 1), (200, 2)]), false, false);
    place.add(&disk(1 << 20, &[(0, 1), (200, 3), (255, 4)]), true, true);
    let image = [
        (ImagePath::Layout, b"{}".to_vec()),
        (ImagePath::Index, b"{}".to_vec()),
        (ImagePath::Blob(Digest::of(b"layer")), vec![7; 100_000]),
        (ImagePath::Blob(Digest::of(b"")), Vec::new()),
    ];
    for plain in [true, false] {
        let archive = place.archive(plain, &image);
        let elsewhere = tempfile::tempdir().unwrap();
        let mut kept = Kept::default();
        let unpacked = unpack(&archive, elsewhere.path(), &mut kept).unwrap();
        assert!(unpacked.image);
        assert_eq!(kept.0, image);
        drop(unpacked);
        assert_eq!(fs::read_dir(elsewhere.path()).unwrap().count(), 0);
        let restored = restored(&archive, elsewhere.path());
        assert_eq!(restored.len(), 2);
        for (one, other) in place.snapshots.iter().zip(&restored) {
            same(one, other);
            other.verify(&mut always).unwrap();
        }
    }
}

#[test]
fn holes_take_no_time_and_no_space() {
    let mut place = Place::new();
    let size = 1 << 40;
    let blocks = [(0, 1), (1 << 20, 2), (size / 4096 - 1, 3)];
    place.add(&disk(size, &blocks), false, true);
    for plain in [true, false] {
        let archive = place.archive(plain, &[]);
        assert!(archive.len() < 200_000, "{}", archive.len());
        let elsewhere = tempfile::tempdir().unwrap();
        let restored = restored(&archive, elsewhere.path());
        let upper = restored[0].upper().unwrap();
        let found = upper.metadata().unwrap();
        assert_eq!(found.len(), size);
        assert!(found.blocks() * 512 < 1 << 20, "{}", found.blocks());
        restored[0].verify(&mut always).unwrap();
    }
}

#[test]
fn zeros_that_were_data_become_holes() {
    let mut place = Place::new();
    let blocks: Vec<_> = (0..2048)
        .map(|block| (block, u8::from(block == 77)))
        .collect();
    place.add(&disk(8 << 20, &blocks), false, true);
    let archive = place.archive(false, &[]);
    let elsewhere = tempfile::tempdir().unwrap();
    let restored = restored(&archive, elsewhere.path());
    same(&place.snapshots[0], &restored[0]);
    let found = restored[0].upper().unwrap().metadata().unwrap();
    assert!(found.blocks() * 512 < 1 << 20, "{}", found.blocks());
}

#[test]
fn a_disk_without_data_and_one_that_is_all_data() {
    for blocks in [vec![], (0..256).map(|block| (block, 9)).collect()] {
        let mut place = Place::new();
        place.add(&disk(1 << 20, &blocks), false, true);
        let archive = place.archive(true, &[]);
        let elsewhere = tempfile::tempdir().unwrap();
        same(
            &place.snapshots[0],
            &restored(&archive, elsewhere.path())[0],
        );
    }
}

#[test]
fn gnu_tar_unpacks_it() {
    if Command::new("tar").arg("--version").output().is_err() {
        return;
    }
    let mut place = Place::new();
    place.add(&disk(16 << 20, &[(0, 1), (2000, 2)]), true, false);
    let elsewhere = tempfile::tempdir().unwrap();
    let file = elsewhere.path().join("archive.tar");
    fs::write(&file, place.archive(true, &[])).unwrap();
    let unpacked = Command::new("tar")
        .arg("-xf")
        .arg(&file)
        .current_dir(elsewhere.path())
        .output()
        .unwrap();
    assert!(unpacked.status.success(), "{unpacked:?}");
    let of = |name: Name| -> PathBuf { elsewhere.path().join(name.to_string()) };
    let snapshot = &place.snapshots[0];
    let digest = snapshot.sealed().digest();
    let manifest = fs::read(of(Name::Manifest(digest))).unwrap();
    assert_eq!(manifest, snapshot.sealed().bytes());
    let upper = fs::read(of(Name::Upper(digest))).unwrap();
    assert!(upper == bytes(snapshot.upper().unwrap()));
    assert_eq!(fs::read(of(Name::PatchData(digest))).unwrap(), [2; 8192]);
}

#[test]
fn a_damaged_snapshot_is_not_spread() {
    let mut place = Place::new();
    place.add(&disk(1 << 20, &[(0, 1)]), true, true);
    let target = place.snapshots[0].path().to_path_buf();
    let change = |name: &str| {
        use std::os::unix::fs::PermissionsExt;
        let path = target.join(name);
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
        let file = fs::OpenOptions::new().write(true).open(&path).unwrap();
        file.write_all_at(&[9], 5000).unwrap();
    };
    for name in ["patch/data", "upper.ext4"] {
        change(name);
        let contents = place.contents(false);
        let mut writer = Writer::begin(Vec::new(), true, &contents).unwrap();
        let written = writer.snapshot(&place.snapshots[0], &mut always);
        assert!(
            matches!(written, Err(SnapshotError::Damaged { .. })),
            "{written:?}"
        );
    }
}

#[test]
fn whoever_wants_it_ended_ends_it_and_nothing_is_left() {
    let mut place = Place::new();
    place.add(&disk(8 << 20, &[(0, 1), (2000, 2)]), false, false);
    let archive = place.archive(false, &[]);
    let elsewhere = tempfile::tempdir().unwrap();
    let mut steps = 0;
    let mut twice = || {
        steps += 1;
        match steps {
            1 => Ok(()),
            _ => Err(io::ErrorKind::Interrupted.into()),
        }
    };
    let into = elsewhere.path();
    let ended = read(
        &archive[..],
        into,
        &Limits::default(),
        &mut NoImage,
        &mut twice,
    );
    assert!(ended.is_err());
    assert_eq!(fs::read_dir(into).unwrap().count(), 0);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]
    #[test]
    fn any_disk_comes_back(
        blocks in proptest::collection::vec((0_u64..600, 0_u8..3), 0..60),
        size in 1_u64..600,
        plain in any::<bool>(),
    ) {
        let mut place = Place::new();
        place.add(&disk(size * 4096, &blocks), false, true);
        let archive = place.archive(plain, &[]);
        let elsewhere = tempfile::tempdir().unwrap();
        let restored = restored(&archive, elsewhere.path());
        same(&place.snapshots[0], &restored[0]);
        restored[0].verify(&mut always).unwrap();
    }
}
