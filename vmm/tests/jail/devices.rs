//! All devices at work in the jail: a guest causes all that it can cause, and each rule of the filters that
//! it needs is there.

use std::fs::{self, File};
use std::io::{Read, Write};
use std::os::fd::AsRawFd;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::PathBuf;

use super::inside::{Child, Inside, jailed, with_everything};
use super::support::guest::driver::{Program, connect, copy_parts, use_devices};
use super::support::{Place, system};
use msb_vmapi::{ConsoleTarget, DiskConfig, Event, FromVmm, Outcome, Reply, Request, Source};
use rustix::fs::{MemfdFlags, SealFlags, fcntl_add_seals, memfd_create};

const PORT: u32 = 1024;

#[test]
fn a_machine_that_stands_alone() {
    if system().is_none() {
        return;
    }
    let mut program = Program::default();
    use_devices(&mut program);
    copy_parts(&mut program);
    connect(&mut program, PORT);
    let place = Place::new(&program.power_off());
    let mut config = place.config();
    with_everything(&place, &mut config);
    config.console = ConsoleTarget::File(Source::Path(place.path().join("console")));
    config.control = Some(place.path().join("control"));
    let service = UnixListener::bind(place.path().join(format!("vsock_{PORT}"))).unwrap();
    let child = Child::new(|| jailed(config, None));
    let (mut guest, _) = service.accept().unwrap();
    let mut heard = [1; 4];
    guest.read_exact(&mut heard).unwrap();
    assert_eq!(heard, [0; 4]);
    guest.write_all(b"word").unwrap();
    assert_eq!(guest.read(&mut heard).unwrap(), 0);
    let ended = child.wait();
    assert_eq!(ended.code(), Some(0), "{ended}");
    assert_eq!(fs::read(place.path().join("console")).unwrap(), b"yes\n");
    let disk = fs::read(place.path().join("disk")).unwrap();
    assert_eq!((&disk[512..517], disk.len()), (&b"Hello"[..], 8192));
    assert_eq!(disk[2048..2560], [1; 512]);
    assert_eq!(disk[2560..3584], [2; 1024]);
    assert!(!place.path().join("vsock").exists());
}

/// The connection that the guest makes.
fn guest(inside: &Inside) -> UnixStream {
    loop {
        match inside.supervisor.hear_with_descriptors().unwrap() {
            (FromVmm::Event(Event::GuestConnected { port }), mut descriptors) => {
                assert_eq!(port, PORT);
                return UnixStream::from(descriptors.remove(0));
            }
            (FromVmm::Event(Event::Ended(outcome)), _) => panic!("{outcome:?}"),
            _ => {}
        }
    }
}

#[test]
fn a_machine_under_a_supervisor() {
    let mut program = Program::default();
    use_devices(&mut program);
    connect(&mut program, PORT);
    let Some(mut inside) = Inside::new(&program.stay(), with_everything) else {
        return;
    };
    let mut guest = guest(&inside);
    let mut heard = [1; 4];
    guest.read_exact(&mut heard).unwrap();
    for _ in 0..3 {
        assert_eq!(inside.ask(Request::Pause), Reply::Done);
        assert_eq!(inside.ask(Request::Resume), Reply::Done);
    }
    guest.write_all(b"word").unwrap();
    assert_eq!(guest.read(&mut heard).unwrap(), 0);
    match inside.ask(Request::Counters) {
        Reply::Counters(counters) => {
            let disk = counters.disks[0];
            assert_eq!((disk.write_ops, disk.read_ops, disk.flushes), (1, 1, 1));
            assert!(counters.vcpu_time_ns > 0);
        }
        other => panic!("{other:?}"),
    }
    assert_eq!(inside.ask(Request::Kill), Reply::Done);
    let ended = FromVmm::Event(Event::Ended(Outcome::Killed));
    assert_eq!(inside.supervisor.hear(), Some(ended));
    assert_eq!(inside.child.wait().code(), Some(12));
}

/// Why, is found out and told by threads that may hardly call anything.
#[test]
fn what_the_host_cannot_serve_is_told() {
    let mut program = Program::default();
    connect(&mut program, PORT);
    copy_parts(&mut program);
    let flags = MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING;
    let disk = File::from(memfd_create("disk", flags).unwrap());
    disk.set_len(8192).unwrap();
    let path = format!("/proc/{}/fd/{}", std::process::id(), disk.as_raw_fd());
    let inside = Inside::new(&program.stay(), |place, config| {
        with_everything(place, config);
        config.disk[0] = DiskConfig::whole(PathBuf::from(path), false);
    });
    let Some(inside) = inside else {
        return;
    };
    let mut guest = guest(&inside);
    // Nobody may write to the one any more, and of the other half is gone.
    fcntl_add_seals(&disk, SealFlags::WRITE).unwrap();
    fs::write(inside.place.path().join("part-1"), []).unwrap();
    guest.write_all(b"word").unwrap();
    let mut told = Vec::new();
    while told.len() < 2 {
        match inside.supervisor.hear().expect("it ended") {
            FromVmm::Event(Event::DiskFailed { disk, error }) => told.push((disk, error)),
            FromVmm::Event(Event::Ended(outcome)) => panic!("{outcome:?}"),
            _ => {}
        }
    }
    let [(first, cut), (second, sealed)] = &told[..] else {
        panic!("{told:?}");
    };
    assert!((*first, *second) == (1, 0), "{told:?}");
    assert!(cut.contains("end of file"), "{told:?}");
    assert!(sealed.contains("not permitted"), "{told:?}");
}
