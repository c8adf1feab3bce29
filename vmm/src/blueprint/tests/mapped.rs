//! Disks that are mapped into the guest's memory.

use msb_vmapi::{DiskContent, DiskExtent, PmemConfig};

use super::*;

fn extent(path: impl Into<Source>, offset: u64, length: u64) -> DiskExtent {
    DiskExtent {
        path: path.into(),
        offset,
        length,
    }
}

fn of(extents: Vec<DiskExtent>) -> PmemConfig {
    PmemConfig {
        content: DiskContent::Extents(extents),
    }
}

impl Place {
    fn mapping(&self, disks: Vec<PmemConfig>) -> VmConfig {
        let mut config = self.config();
        config.pmem = disks;
        config
    }

    /// A file without a byte on the disk, but with a length.
    fn sparse(&self, name: &str, len: u64) -> PathBuf {
        let file = File::create(self.path(name)).unwrap();
        file.set_len(len).unwrap();
        self.path(name)
    }
}

#[test]
fn each_has_its_place_above_memory() {
    let place = Place::new();
    let big = place.sparse("big", (1 << 30) + 4096);
    let mut config = place.mapping(vec![
        PmemConfig::whole(place.path("disk")),
        of(vec![
            extent(big.clone(), 4096, 1 << 30),
            extent(big, 0, 4096),
        ]),
        PmemConfig::whole(place.path("disk")),
    ]);
    config.memory = MemorySize::from_mib(5 << 10);
    config.disk = vec![DiskConfig {
        read_only: true,
        ..place.disk("disk")
    }];
    let blueprint = build(config).unwrap();
    let found: Vec<_> = blueprint
        .mapped
        .iter()
        .map(|disk| (disk.start, disk.files.bytes()))
        .collect();
    let expected = [(7, 4096), (8, (1 << 30) + 4096), (10, 4096)];
    assert_eq!(found, expected.map(|(gib, bytes)| (gib << 30, bytes)));
    assert_eq!(blueprint.disks.len(), 1);
    // None of it is memory.
    assert_eq!(blueprint.ram.bytes(), 5 << 30);
}

#[test]
fn each_mistake_has_its_error() {
    let place = Place::new();
    let disk = || place.path("disk");
    let odd = place.sparse("odd", 4096 + 512);
    fs::create_dir(place.path("dir")).unwrap();
    for (content, kind, says) in [
        (
            PmemConfig::whole(odd.clone()),
            ErrorKind::Disk,
            "truncate -s %4096",
        ),
        (
            PmemConfig::whole(place.path("missing")),
            ErrorKind::Disk,
            "No such file",
        ),
        (
            PmemConfig::whole(place.path("dir")),
            ErrorKind::Disk,
            "not a regular file",
        ),
        (
            PmemConfig::whole(place.sparse("empty", 0)),
            ErrorKind::Disk,
            "empty",
        ),
        (of(vec![]), ErrorKind::InvalidConfig, "no bytes"),
        (
            of(vec![extent(disk(), 0, 0)]),
            ErrorKind::InvalidConfig,
            "no bytes",
        ),
        (
            of(vec![extent(disk(), 512, 512)]),
            ErrorKind::InvalidConfig,
            "give multiples of 4096",
        ),
        (
            of(vec![extent(disk(), 0, 4096), extent(odd.clone(), 0, 4608)]),
            ErrorKind::InvalidConfig,
            "extent 1 (from 0) is 4608 bytes at 0",
        ),
        (
            of(vec![extent(odd.clone(), 4096, 4096)]),
            ErrorKind::Disk,
            "ends at byte 8192 of",
        ),
        (
            of(vec![extent(disk(), u64::MAX - 4095, 8192)]),
            ErrorKind::InvalidConfig,
            "ends beyond",
        ),
        (
            of(vec![extent(disk(), 0, 4096); 257]),
            ErrorKind::InvalidConfig,
            "at most 256",
        ),
    ] {
        refused(place.mapping(vec![content]), kind, says);
    }
    build(place.mapping(vec![of(vec![extent(disk(), 0, 4096); 256])])).unwrap();
    let mut both = place.mapping(vec![PmemConfig::whole(disk()); MAX_DISKS]);
    both.disk = vec![DiskConfig {
        read_only: true,
        ..place.disk("disk")
    }];
    refused(both.clone(), ErrorKind::InvalidConfig, "at most");
    both.pmem.pop();
    build(both).unwrap();
}

#[test]
fn more_than_there_are_addresses_for() {
    let place = Place::new();
    let half = of(vec![extent(place.sparse("half", 1 << 40), 0, 1 << 39)]);
    let limit = MAX_MAPPED >> 30;
    build(place.mapping(vec![half.clone(); 2])).unwrap();
    let says = format!("at most {limit}G");
    refused(
        place.mapping(vec![half.clone(); 3]),
        ErrorKind::InvalidConfig,
        &says,
    );
    let narrow = |bits, disks| {
        let host = Host {
            address_bits: bits,
            ..HOST
        };
        Blueprint::new(place.mapping(disks), Vec::new(), &host)
    };
    let quarter = of(vec![extent(place.path("half"), 0, 1 << 38)]);
    narrow(40, vec![quarter.clone(); 3]).unwrap();
    let error = narrow(39, vec![quarter.clone(), quarter.clone()]).unwrap_err();
    let BlueprintError::MappedTooLarge { given, max } = error else {
        panic!("{error}");
    };
    assert_eq!((given, max), (1 << 39, (1 << 39) - (5 << 30)));
    narrow(39, vec![quarter]).unwrap();
    // However few the addresses are.
    for bits in [0, 32] {
        let error = narrow(bits, vec![PmemConfig::whole(place.path("disk"))]).unwrap_err();
        assert!(matches!(
            error,
            BlueprintError::MappedTooLarge { max: 0.., .. }
        ));
        narrow(bits, vec![]).unwrap();
    }
}

#[test]
fn machines_share_what_is_mapped_and_nobody_writes_to_it() {
    let place = Place::new();
    let with = || place.mapping(vec![PmemConfig::whole(place.path("disk"))]);
    let both = (build(with()).unwrap(), build(with()).unwrap());
    let mut writer = place.config();
    writer.disk = vec![place.disk("disk")];
    refused(writer.clone(), ErrorKind::DiskInUse, "in use");
    drop(both);
    let _writer = build(writer).unwrap();
    refused(with(), ErrorKind::DiskInUse, "in use");
}

#[test]
fn one_descriptor_serves_all_that_is_mapped_of_its_file() {
    let place = Place::new();
    let open = |name: &str| OwnedFd::from(File::open(place.path(name)).unwrap());
    let mut config = VmConfig::new(Source::Fd { fd: 0 });
    let part = || extent(Source::Fd { fd: 1 }, 0, 4096);
    config.pmem = vec![
        of(vec![part(), part()]),
        PmemConfig::whole(Source::Fd { fd: 1 }),
    ];
    let descriptors = vec![open("kernel"), open("disk")];
    let blueprint = Blueprint::new(config, descriptors, &HOST).unwrap();
    assert_eq!(blueprint.mapped.len(), 2);
}
