//! Every way to get a description wrong, and what is said to it.

use std::fs;
use std::os::unix::fs::symlink;
use std::os::unix::net::UnixListener;
use std::path::Path;

use msb_vmapi::{DiskConfig, ErrorKind, MemorySize};
use tempfile::TempDir;

mod extents;
mod mapped;

use super::*;
use crate::test_support::TinyKernel;

const HOST: Host = Host {
    memory: 8 << 30,
    max_vcpus: 1024,
    address_bits: 46,
};

struct Place {
    dir: TempDir,
}

impl Place {
    fn new() -> Self {
        let dir = TempDir::new().unwrap();
        let place = Self { dir };
        place.file("kernel", &TinyKernel::new(&[0xf4]).build());
        place.file("disk", &[0; 4096]);
        place
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn source(&self, name: &str) -> Source {
        self.path(name).into()
    }

    fn file(&self, name: &str, bytes: &[u8]) -> Source {
        fs::write(self.path(name), bytes).unwrap();
        self.source(name)
    }

    fn config(&self) -> VmConfig {
        VmConfig::new(self.path("kernel"))
    }

    fn disk(&self, name: &str) -> DiskConfig {
        DiskConfig::whole(self.path(name), false)
    }

    fn names(&self) -> Vec<String> {
        let mut names: Vec<String> = fs::read_dir(self.dir.path())
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        names.sort();
        names
    }
}

fn build(config: VmConfig) -> Result<Blueprint, BlueprintError> {
    Blueprint::new(config, Vec::new(), &HOST)
}

fn refused(config: VmConfig, kind: ErrorKind, says: &str) {
    let error = build(config).expect_err(says);
    let text = crate::report::chain(&error);
    assert_eq!(error.kind(), kind, "{text}");
    assert!(text.contains(says), "{text:?} does not say {says:?}");
}

#[test]
fn a_good_machine_is_accepted() {
    let place = Place::new();
    let mut config = place.config();
    config.initrd = Some(place.file("initrd", b"0707"));
    config.disk = vec![place.disk("disk")];
    config.vsock = Some(VsockConfig {
        socket: place.source("vsock"),
        cid: 7,
    });
    config.control = Some(place.path("control"));
    let blueprint = build(config).unwrap();
    assert_eq!(blueprint.cpus, 1);
    assert!(blueprint.command_line.starts_with("console=hvc0 reboot=k"));
    assert_eq!(
        place.names(),
        ["control", "disk", "initrd", "kernel", "vsock"]
    );
    drop(blueprint);
    assert_eq!(place.names(), ["disk", "initrd", "kernel"]);
}

#[test]
fn cpus() {
    let place = Place::new();
    for (cpus, says) in [(0, "give 1 to 64"), (65, "cpus is 65"), (u32::MAX, "cpus")] {
        let mut config = place.config();
        config.cpus = cpus;
        refused(config, ErrorKind::Cpus, says);
    }
    let mut config = place.config();
    config.cpus = 5;
    let small = Host {
        max_vcpus: 4,
        ..HOST
    };
    let error = Blueprint::new(config, Vec::new(), &small).unwrap_err();
    assert!(matches!(error, BlueprintError::Cpus { given: 5, max: 4 }));
    for cpus in [1, 32, 64] {
        let mut config = place.config();
        config.cpus = cpus;
        build(config).unwrap();
    }
}

#[test]
fn memory() {
    let place = Place::new();
    for (bytes, says) in [
        (0, "at least 32M"),
        ((32 << 20) - 4096, "at least 32M"),
        ((64 << 20) + 1, "multiple of 4096"),
        (9 << 30, "the host has 8G"),
        (u64::MAX, "the host has 8G"),
    ] {
        let mut config = place.config();
        config.memory = MemorySize::from_bytes(bytes);
        refused(config, ErrorKind::Memory, says);
    }
    let big = TinyKernel::new(&[0xf4]).needing(40 << 20).build();
    let mut config = VmConfig::new(place.file("big", &big));
    config.memory = MemorySize::from_mib(40);
    refused(
        config.clone(),
        ErrorKind::Memory,
        "this kernel needs more than 41M",
    );
    config.memory = MemorySize::from_mib(41);
    build(config).unwrap();
}

#[test]
fn kernels() {
    let place = Place::new();
    let good = TinyKernel::new(&[0xf4]).build();
    let mut thirty_two = good.clone();
    thirty_two[4] = 1;
    fs::create_dir(place.path("dir")).unwrap();
    for (source, says) in [
        (place.source("missing"), "No such file"),
        (place.source("dir"), "not a regular file"),
        (
            place.file("text", b"hello, this is no kernel"),
            "not an ELF file",
        ),
        (place.file("empty", b""), "not an ELF file"),
        (place.file("cut", &good[..good.len() - 1]), "truncated"),
        (place.file("32", &thirty_two), "32-bit"),
        (
            place.file("no-pvh", &TinyKernel::new(&[0xf4]).without_note().build()),
            "CONFIG_PVH",
        ),
    ] {
        refused(VmConfig::new(source), ErrorKind::Kernel, says);
    }
    symlink("loop", place.path("loop")).unwrap();
    refused(
        VmConfig::new(place.source("loop")),
        ErrorKind::Kernel,
        "loop",
    );
}

#[test]
fn initramfs() {
    let place = Place::new();
    fs::create_dir(place.path("dir")).unwrap();
    let sparse = File::create(place.path("huge")).unwrap();
    sparse.set_len(1 << 30).unwrap();
    for (source, says) in [
        (place.source("missing"), "No such file"),
        (place.source("dir"), "not a regular file"),
        (place.file("empty", b""), "is empty"),
        (place.source("huge"), "more memory or a smaller initrd"),
    ] {
        let mut config = place.config();
        config.initrd = Some(source);
        refused(config, ErrorKind::Initrd, says);
    }
}

#[test]
fn disks() {
    let place = Place::new();
    fs::create_dir(place.path("dir")).unwrap();
    rustix::fs::mkfifoat(rustix::fs::CWD, place.path("fifo"), 0o600.into()).unwrap();
    place.file("odd", &[0; 513]);
    place.file("empty", b"");
    for (name, says) in [
        ("missing", "No such file"),
        ("dir", "not a regular file"),
        ("fifo", "not a regular file"),
        ("odd", "512"),
        ("empty", "empty"),
    ] {
        for read_only in [false, true] {
            let mut config = place.config();
            config.disk = vec![DiskConfig {
                read_only,
                ..place.disk(name)
            }];
            refused(config, ErrorKind::Disk, says);
        }
    }
    let mut config = place.config();
    config.disk = vec![DiskConfig {
        id: Some("x".repeat(21)),
        ..place.disk("disk")
    }];
    refused(config, ErrorKind::Disk, "20");
    let mut config = place.config();
    for n in 0..=MAX_DISKS {
        place.file(&format!("disk{n}"), &[0; 512]);
        config.disk.push(place.disk(&format!("disk{n}")));
    }
    refused(config.clone(), ErrorKind::InvalidConfig, "at most");
    config.disk.pop();
    build(config).unwrap();
}

#[test]
fn disks_in_use() {
    let place = Place::new();
    let with = |read_only| {
        let mut config = place.config();
        config.disk = vec![DiskConfig {
            read_only,
            ..place.disk("disk")
        }];
        config
    };
    let writer = build(with(false)).unwrap();
    refused(
        with(false),
        ErrorKind::DiskInUse,
        "in use by another machine",
    );
    refused(with(true), ErrorKind::DiskInUse, "in use");
    drop(writer);
    let reader = build(with(true)).unwrap();
    let second = build(with(true)).unwrap();
    refused(with(false), ErrorKind::DiskInUse, "in use");
    drop((reader, second));
    build(with(false)).unwrap();
    let mut twice = with(false);
    twice.disk.push(place.disk("disk"));
    refused(twice, ErrorKind::DiskInUse, "in use");
}

#[test]
fn command_lines() {
    let place = Place::new();
    let mut config = place.config();
    config.cmdline = Some("x".repeat(2048));
    refused(config.clone(), ErrorKind::InvalidConfig, "Linux reads 2047");
    config.cmdline = Some("a\0b".to_owned());
    refused(config.clone(), ErrorKind::InvalidConfig, "zero byte");
    config.cmdline = Some("x".repeat(2047));
    build(config.clone()).unwrap();
    config.cmdline = None;
    config.serial = ConsoleTarget::Stdio;
    let serial = build(config.clone()).unwrap().command_line;
    assert!(serial.starts_with("console=ttyS0 reboot"), "{serial}");
    config.console = ConsoleTarget::File(place.source("log"));
    let both = build(config).unwrap().command_line;
    assert!(both.starts_with("console=ttyS0 console=hvc0"), "{both}");
}

#[test]
fn sockets() {
    let place = Place::new();
    let with = |path: &Path| {
        let mut config = place.config();
        config.control = Some(path.to_owned());
        config
    };
    let long = place.path(&"s".repeat(108));
    refused(with(&long), ErrorKind::Socket, "at most 107");
    refused(
        with(&place.path("no/such")),
        ErrorKind::Socket,
        "No such file",
    );
    refused(with(&place.path("disk")), ErrorKind::Socket, "is taken");
    let live = UnixListener::bind(place.path("live")).unwrap();
    refused(with(&place.path("live")), ErrorKind::Socket, "is taken");
    drop(live);
    let blueprint = build(with(&place.path("live"))).unwrap();
    refused(with(&place.path("live")), ErrorKind::Socket, "is taken");
    drop(blueprint);
    assert!(!place.path("live").exists());
}

#[test]
fn a_socket_made_before_the_mistake_is_removed() {
    let place = Place::new();
    let mut config = place.config();
    config.vsock = Some(VsockConfig {
        socket: place.source("vsock"),
        cid: 3,
    });
    config.control = Some(place.path("disk"));
    refused(config, ErrorKind::Socket, "is taken");
    assert_eq!(place.names(), ["disk", "kernel"]);
}

#[test]
fn a_socket_that_somebody_replaced_is_left() {
    let place = Place::new();
    let mut config = place.config();
    config.control = Some(place.path("control"));
    let blueprint = build(config).unwrap();
    fs::remove_file(place.path("control")).unwrap();
    let _other = UnixListener::bind(place.path("control")).unwrap();
    drop(blueprint);
    assert!(place.path("control").exists());
}

#[test]
fn context_ids() {
    let place = Place::new();
    for cid in 0..3 {
        let mut config = place.config();
        config.vsock = Some(VsockConfig {
            socket: place.source("vsock"),
            cid,
        });
        refused(config, ErrorKind::InvalidConfig, "3 or more");
    }
}

#[test]
fn one_terminal_for_one_console() {
    let place = Place::new();
    let mut config = place.config();
    config.console = ConsoleTarget::Stdio;
    config.serial = ConsoleTarget::Stdio;
    refused(config, ErrorKind::InvalidConfig, "stdio");
}

#[test]
fn descriptors() {
    let place = Place::new();
    let open = |name: &str| OwnedFd::from(File::open(place.path(name)).unwrap());
    let with = |kernel, disk, descriptors| {
        let mut config = VmConfig::new(Source::Fd { fd: kernel });
        config.disk = vec![DiskConfig::whole(Source::Fd { fd: disk }, false)];
        Blueprint::new(config, descriptors, &HOST)
    };
    let error = with(0, 2, vec![open("kernel"), open("disk")]).unwrap_err();
    assert!(matches!(
        error,
        BlueprintError::NoDescriptor { index: 2, count: 2 }
    ));
    let error = with(0, 0, vec![open("kernel"), open("disk")]).unwrap_err();
    assert!(matches!(
        error,
        BlueprintError::DescriptorTwice { index: 0 }
    ));
    let error = with(0, 1, vec![open("kernel"), open("disk")]).unwrap_err();
    assert!(matches!(error, BlueprintError::DiskNotWritable { .. }));
    let mut writable = fs::OpenOptions::new();
    let writable = writable.read(true).write(true).open(place.path("disk"));
    with(0, 1, vec![open("kernel"), writable.unwrap().into()]).unwrap();
}

#[test]
fn a_vsock_descriptor_has_to_listen() {
    let place = Place::new();
    let with = |descriptor: OwnedFd| {
        let mut config = place.config();
        config.vsock = Some(VsockConfig {
            socket: Source::Fd { fd: 0 },
            cid: 3,
        });
        Blueprint::new(config, vec![descriptor], &HOST)
    };
    let file = File::open(place.path("disk")).unwrap();
    let error = with(file.into()).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Socket);
    let (socket, _other) = std::os::unix::net::UnixStream::pair().unwrap();
    assert!(matches!(
        with(socket.into()),
        Err(BlueprintError::NotListening { index: 0 })
    ));
    let listener = UnixListener::bind(place.path("mine")).unwrap();
    with(listener.into()).unwrap();
    assert!(place.path("mine").exists(), "not ours to remove");
}
