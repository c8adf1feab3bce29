//! Sandboxes that begin from a snapshot.

use std::os::unix::fs::{FileExt, MetadataExt};

use msb_image::snapshot::{Capture, ImageRef, Manifest, PatchFiles, SnapshotDir, always};

use super::images::{PATCHED, check, patches};
use super::*;

impl Place {
    /// A snapshot of the sandbox that was prepared.
    pub(super) fn snapshot(&self, digest: &str) -> SnapshotDir {
        let dir = self.dir();
        let open = |name: &str| File::open(dir.path().join(name));
        let disk = open(upper::FILE).unwrap();
        let patch = match (open("patch/index"), open("patch/data")) {
            (Ok(index), Ok(data)) => Some(PatchFiles { index, data }),
            _ => None,
        };
        let image = ImageRef {
            manifest_digest: digest.to_owned(),
            reference: "app:1".to_owned(),
        };
        let capture = Capture {
            upper: &disk,
            patch,
            manifest: Manifest::new(image, Some("web".to_owned()), 0),
            record_integrity: false,
        };
        let target = self.path("base");
        capture.make(&target, false, &mut always).unwrap()
    }

    /// Prepares another sandbox in the place of the one that was.
    pub(super) fn begin(
        &self,
        config: &SandboxConfig,
        snapshot: &SnapshotDir,
    ) -> Result<(), LaunchError> {
        fs::remove_dir_all(self.dir().path()).unwrap();
        fs::create_dir(self.dir().path()).unwrap();
        let launch = Launch {
            snapshot_upper: Some(snapshot.path().join("upper.ext4")),
            ..self.launch(None)
        };
        prepare(&launch, config, self.dir().path()).map(drop)
    }

    fn upper(&self) -> File {
        let path = self.dir().path().join(upper::FILE);
        fs::OpenOptions::new()
            .read(true)
            .write(true)
            .open(path)
            .unwrap()
    }
}

pub(super) fn of(digest: msb_image::Digest, mib: u32) -> SandboxConfig {
    SandboxConfig {
        image: RootfsSource::Oci {
            reference: "app:1".to_owned(),
            upper_size_mib: Some(mib),
        },
        manifest_digest: Some(digest.to_string()),
        ..SandboxConfig::default()
    }
}

#[test]
fn it_has_what_was_written_and_no_template_is_needed() {
    let place = Place::new();
    let digest = place.load(&[images::BASE, images::APP]);
    place.prepare(&of(digest, 64), Some("template")).unwrap();
    place.upper().write_all_at(b"written", 1 << 20).unwrap();
    let snapshot = place.snapshot(&digest.to_string());
    for (mib, bytes) in [(64, 64 << 20), (100, 100 << 20)] {
        place.begin(&of(digest, mib), &snapshot).unwrap();
        let upper = place.upper();
        let found = upper.metadata().unwrap();
        assert_eq!((found.len(), found.mode() & 0o777), (bytes, 0o600));
        let mut read = [0; 7];
        upper.read_exact_at(&mut read, 1 << 20).unwrap();
        assert_eq!(&read, b"written");
        // What it writes is its own.
        upper.write_all_at(b"another", 1 << 20).unwrap();
        let root = place.open(&of(digest, mib)).unwrap();
        assert!(matches!(root.guest, GuestRoot::Overlay { .. }));
        assert_eq!(fs::read_dir(place.dir().path()).unwrap().count(), 1);
    }
    let small = place.begin(&of(digest, 32), &snapshot).unwrap_err();
    assert!(matches!(&small, LaunchError::Boot(error) if error.message.contains("at least")));
}

#[test]
fn the_patches_of_its_parent_are_there_and_can_be_taken_on() {
    let place = Place::new();
    let digest = place.load(&[images::BASE, images::EMPTY, images::APP]);
    let patched = place.image(digest, patches(&place));
    place.prepare(&patched, Some("template")).unwrap();
    let snapshot = place.snapshot(&digest.to_string());
    let plain = of(digest, 64);
    place.begin(&plain, &snapshot).unwrap();
    check(&place.files(&plain, &PATCHED));
    // A snapshot of that one has them too.
    fs::rename(snapshot.path(), place.path("first")).unwrap();
    let next = place.snapshot(&digest.to_string());
    assert_eq!(
        next.sealed().manifest().patch,
        snapshot.sealed().manifest().patch
    );
    place.begin(&plain, &next).unwrap();
    check(&place.files(&plain, &PATCHED));
}

#[test]
fn one_that_is_damaged_or_gone_begins_nothing() {
    let place = Place::new();
    let digest = place.load(&[images::BASE]);
    let patched = place.image(digest, patches(&place)[..1].to_vec());
    place.prepare(&patched, Some("template")).unwrap();
    let snapshot = place.snapshot(&digest.to_string());
    let refused = |place: &Place| match place.begin(&of(digest, 64), &snapshot) {
        Err(LaunchError::Boot(error)) => error,
        other => panic!("{other:?}"),
    };
    fs::remove_file(snapshot.path().join("patch/data")).unwrap();
    assert_eq!(refused(&place).kind, BootErrorKind::Image);
    fs::remove_dir_all(snapshot.path()).unwrap();
    assert_eq!(refused(&place).kind, BootErrorKind::Image);
    // The image that it is over has to be here, whatever the snapshot has.
    let elsewhere = of(msb_image::Digest::of(b"elsewhere"), 64);
    let error = place.begin(&elsewhere, &snapshot).unwrap_err();
    assert!(matches!(error, LaunchError::Boot(error) if error.kind == BootErrorKind::ImageMissing));
}
