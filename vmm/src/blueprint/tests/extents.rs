//! Disks that are put together from stretches of files.

use msb_vmapi::{DiskContent, DiskExtent};

use super::*;

fn extent(path: impl Into<Source>, offset: u64, length: u64) -> DiskExtent {
    DiskExtent {
        path: path.into(),
        offset,
        length,
    }
}

fn disk(extents: Vec<DiskExtent>) -> DiskConfig {
    DiskConfig {
        content: DiskContent::Extents(extents),
        read_only: true,
        id: None,
    }
}

impl Place {
    fn with(&self, extents: Vec<DiskExtent>) -> VmConfig {
        let mut config = self.config();
        config.disk = vec![disk(extents)];
        config
    }

    /// A stretch of the 4096 bytes of the disk.
    fn part(&self, offset: u64, length: u64) -> DiskExtent {
        extent(self.path("disk"), offset, length)
    }
}

#[test]
fn stretches_of_files_are_a_disk() {
    let place = Place::new();
    place.file("more", &[0; 1024]);
    let blueprint = build(place.with(vec![
        place.part(512, 1024),
        extent(place.path("more"), 0, 1024),
        place.part(4096, 0),
        place.part(0, 4096),
    ]));
    assert_eq!(blueprint.unwrap().disks.len(), 1);
}

#[test]
fn each_mistake_has_its_error() {
    let place = Place::new();
    for (extents, kind, says) in [
        (vec![], ErrorKind::InvalidConfig, "no bytes"),
        (vec![place.part(0, 0)], ErrorKind::InvalidConfig, "no bytes"),
        (
            vec![place.part(0, 512), place.part(100, 512)],
            ErrorKind::InvalidConfig,
            "extent 1 (from 0) is 512 bytes at 100",
        ),
        (
            vec![place.part(0, 100)],
            ErrorKind::InvalidConfig,
            "multiples of 512",
        ),
        (
            vec![place.part(u64::MAX - 511, 1024)],
            ErrorKind::InvalidConfig,
            "extent 0 (from 0) ends beyond",
        ),
        (
            vec![place.part(0, 4096), place.part(512, 4096)],
            ErrorKind::Disk,
            "ends at byte 4608 of",
        ),
        (
            vec![place.part(4608, 0), place.part(0, 512)],
            ErrorKind::Disk,
            "which has 4096",
        ),
        (
            vec![extent(place.path("missing"), 0, 512)],
            ErrorKind::Disk,
            "No such file",
        ),
        (
            vec![extent(place.path(""), 0, 512)],
            ErrorKind::Disk,
            "not a regular file",
        ),
        (
            vec![place.part(0, 0); 257],
            ErrorKind::InvalidConfig,
            "257 extents; give at most 256",
        ),
    ] {
        refused(place.with(extents), kind, says);
    }
    let mut config = place.with(vec![place.part(0, 512)]);
    config.disk[0].read_only = false;
    refused(config, ErrorKind::InvalidConfig, "add read_only");
}

#[test]
fn as_many_as_an_image_may_have_layers() {
    let place = Place::new();
    build(place.with(vec![place.part(512, 512); 256])).unwrap();
}

#[test]
fn more_bytes_than_a_disk_can_have() {
    let place = Place::new();
    let huge = File::create(place.path("huge")).unwrap();
    // Where the file system takes so large a file; it has no bytes.
    if huge.set_len(1 << 43).is_ok() {
        let config = place.with(vec![extent(place.path("huge"), 0, 1 << 43); 256]);
        build(config).unwrap();
    }
    let error = Blueprint::new(place.with(vec![place.part(0, 1 << 62)]), Vec::new(), &HOST);
    let error = error.unwrap_err();
    assert!(
        matches!(error, BlueprintError::ExtentBeyondEnd { .. }),
        "{error}"
    );
}

#[test]
fn one_descriptor_serves_all_stretches_of_its_file() {
    let place = Place::new();
    let open = |name: &str| OwnedFd::from(File::open(place.path(name)).unwrap());
    let fd = |fd| Source::Fd { fd };
    let with = |disks: Vec<DiskConfig>, descriptors| {
        let mut config = VmConfig::new(fd(0));
        config.disk = disks;
        Blueprint::new(config, descriptors, &HOST)
    };
    let both = disk(vec![extent(fd(1), 0, 512), extent(fd(1), 1024, 512)]);
    let descriptors = || vec![open("kernel"), open("disk")];
    with(vec![both.clone()], descriptors()).unwrap();
    // Of another disk too, for nobody writes to it.
    with(vec![both.clone(), both.clone()], descriptors()).unwrap();
    for other in [
        disk(vec![extent(fd(0), 0, 512)]),
        disk(vec![extent(fd(1), 0, 512), extent(fd(0), 0, 512)]),
    ] {
        let error = with(vec![other], descriptors()).unwrap_err();
        assert!(matches!(
            error,
            BlueprintError::DescriptorTwice { index: 0 }
        ));
    }
    let whole = DiskConfig::whole(fd(1), true);
    let error = with(vec![both, whole], descriptors()).unwrap_err();
    assert!(matches!(
        error,
        BlueprintError::DescriptorTwice { index: 1 }
    ));
    let missing = disk(vec![extent(fd(7), 0, 512)]);
    let error = with(vec![missing], descriptors()).unwrap_err();
    assert!(matches!(
        error,
        BlueprintError::NoDescriptor { index: 7, count: 2 }
    ));
}

#[test]
fn machines_share_what_none_of_them_writes() {
    let place = Place::new();
    let with = || place.with(vec![place.part(0, 512), place.part(512, 512)]);
    let first = build(with()).unwrap();
    let second = build(with()).unwrap();
    let mut writer = place.config();
    writer.disk = vec![place.disk("disk")];
    refused(writer.clone(), ErrorKind::DiskInUse, "in use");
    drop((first, second));
    let writer = build(writer).unwrap();
    refused(with(), ErrorKind::DiskInUse, "in use");
    drop(writer);
}

#[test]
fn a_machine_needs_the_files_of_its_disks_and_writes_to_its_own() {
    let place = Place::new();
    let parts = vec![place.part(512, 1024), place.part(0, 512), place.part(0, 0)];
    let mut config = place.with(parts);
    let needs = |config: &VmConfig| {
        let needs = build(config.clone()).unwrap().needs();
        (needs.threads, needs.disk_files, needs.largest_file)
    };
    assert_eq!(needs(&config), (2, 2, Some(0)));
    place.file("own", &[0; 8192]);
    config
        .disk
        .push(DiskConfig::whole(place.path("own"), false));
    assert_eq!(needs(&config), (3, 3, Some(8192)));
}
