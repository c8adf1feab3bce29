//! All devices at work in the jail: a guest causes all that it can cause, and each rule of the filters that
//! it needs is there.

use std::fs;
use std::io::{Read, Write};
use std::os::unix::net::{UnixListener, UnixStream};

use super::inside::{Child, Inside, jailed, with_everything};
use super::support::driver::{
    CONSOLE, DISK, Packet, Program, RNG, VSOCK, disk_request, send_packet,
};
use super::support::{Place, system};
use msb_vmapi::{ConsoleTarget, Event, FromVmm, Outcome, Reply, Request, Source};

const PORT: u32 = 1024;

/// Flush, discard, write zeros.
const DISK_FEATURES: u32 = 1 << 9 | 1 << 13 | 1 << 14;

/// Random numbers, a line on the console, and each request that a disk knows.
fn devices(program: &mut Program) {
    let mut rng = program.start(RNG, 0, 1).remove(0);
    let buffer = rng.data(0);
    program.offer(&mut rng, &[(buffer, 64, true)]);
    program.finish(&rng);

    let mut console = program.start(CONSOLE, 0, 2).remove(1);
    let line = console.data(0);
    program.store(line, u32::from_le_bytes(*b"yes\n"));
    program.offer(&mut console, &[(line, 4, false)]);
    program.finish(&console);

    let mut disk = program.start(DISK, DISK_FEATURES, 1).remove(0);
    let data = disk.data(0x400);
    program.store_all(data, &[0x6c6c_6548, 0x0000_006f]);
    let none = (0, 0, false);
    // Write, flush, read, serial.
    disk_request(program, &mut disk, 1, 1, (data, 512, false));
    disk_request(program, &mut disk, 4, 0, none);
    disk_request(program, &mut disk, 0, 1, (data + 0x400, 512, true));
    disk_request(program, &mut disk, 8, 0, (data + 0x400, 20, true));
    // Discard; zeros that keep their space, and zeros that need not.
    for (kind, flags) in [(11, 0), (13, 0), (13, 1)] {
        program.store_all(data, &[8, 0, 8, flags]);
        disk_request(program, &mut disk, kind, 0, (data, 16, false));
    }
}

/// Connects to the host at [`PORT`], sends four bytes, hears some, and ends it in both directions.
fn connects(program: &mut Program) {
    let mut queues = program.start(VSOCK, 0, 3);
    let (mut to_host, mut to_guest) = (queues.remove(1), queues.remove(0));
    let from = 77;
    let packet = |op, flags, len| Packet {
        from,
        to: PORT,
        op,
        flags,
        len,
    };
    for buffer in 0..4 {
        let at = to_guest.data(0x200 * buffer);
        program.offer(&mut to_guest, &[(at, 0x200, true)]);
    }
    // Request; then the host's response takes the first buffer.
    send_packet(program, &mut to_host, packet(1, 0, 0));
    program.wait(to_guest.data(28), 1 | 2 << 16);
    send_packet(program, &mut to_host, packet(5, 0, 4));
    // What the host says is in the second one.
    program.wait(to_guest.data(0x200 + 44), u32::from_le_bytes(*b"word"));
    send_packet(program, &mut to_host, packet(4, 2, 0));
    send_packet(program, &mut to_host, packet(4, 3, 0));
}

#[test]
fn a_machine_that_stands_alone() {
    if system().is_none() {
        return;
    }
    let mut program = Program::default();
    devices(&mut program);
    connects(&mut program);
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
    assert!(!place.path().join("vsock").exists());
}

#[test]
fn a_machine_under_a_supervisor() {
    let mut program = Program::default();
    devices(&mut program);
    connects(&mut program);
    let Some(mut inside) = Inside::new(&program.stay(), with_everything) else {
        return;
    };
    let mut guest = loop {
        match inside.supervisor.hear_with_descriptors().unwrap() {
            (FromVmm::Event(Event::GuestConnected { port }), mut descriptors) => {
                assert_eq!(port, PORT);
                break UnixStream::from(descriptors.remove(0));
            }
            (FromVmm::Event(Event::Ended(outcome)), _) => panic!("{outcome:?}"),
            _ => {}
        }
    };
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
