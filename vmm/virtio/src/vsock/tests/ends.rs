//! How connections end: one direction at a time, with nothing lost.

use std::io::{Read, Write};
use std::net::Shutdown;

use super::guest::{Guest, would_block};
use super::*;

/// Reads to the end of the stream, letting the device work in between.
fn read_all(guest: &mut Guest, stream: &mut std::os::unix::net::UnixStream) -> Vec<u8> {
    let mut all = Vec::new();
    loop {
        let mut bytes = [0; 8192];
        match stream.read(&mut bytes) {
            Ok(0) => return all,
            Ok(n) => all.extend(&bytes[..n]),
            Err(error) => {
                assert_eq!(error.kind(), std::io::ErrorKind::WouldBlock);
                assert_ne!(guest.turn(), 0, "the stream has stopped without an end");
            }
        }
    }
}

#[test]
fn the_host_ends_its_side_first() {
    let mut guest = Guest::new();
    let (ports, mut server) = guest.connect(5, 6);
    server.write_all(b"last").unwrap();
    server.shutdown(Shutdown::Write).unwrap();
    assert_eq!(guest.next_data().1, b"last");
    let end = guest.next();
    assert_eq!((end.op, end.flags), (OP_SHUTDOWN, SHUTDOWN_SEND));
    // The other direction goes on.
    guest.send(&guest.header(ports, OP_RW), b"answer");
    guest.settle();
    let mut bytes = [0; 16];
    assert_eq!(server.read(&mut bytes).unwrap(), 6);
    guest.shutdown(ports, SHUTDOWN_SEND);
    let end = guest.next();
    assert_eq!((end.op, end.flags), (OP_SHUTDOWN, SHUTDOWN_BOTH));
    assert_eq!(server.read(&mut bytes).unwrap(), 0);
    guest.send(&guest.header(ports, OP_RST), b"");
    guest.nothing_is_left();
}

#[test]
fn the_guest_ends_its_side_first() {
    let mut guest = Guest::new();
    let (ports, mut server) = guest.connect(5, 6);
    guest.send(&guest.header(ports, OP_RW), b"question");
    guest.shutdown(ports, SHUTDOWN_SEND);
    guest.settle();
    let mut bytes = [0; 16];
    assert_eq!(server.read(&mut bytes).unwrap(), 8);
    assert_eq!(server.read(&mut bytes).unwrap(), 0);
    server.write_all(b"answer").unwrap();
    assert_eq!(guest.next_data().1, b"answer");
    drop(server);
    let end = guest.next();
    assert_eq!((end.op, end.flags), (OP_SHUTDOWN, SHUTDOWN_BOTH));
    guest.send(&guest.header(ports, OP_RST), b"");
    guest.nothing_is_left();
}

#[test]
fn a_host_program_that_goes_away_is_told_of_at_once() {
    let mut guest = Guest::new();
    let (ports, server) = guest.connect(5, 6);
    drop(server);
    let end = guest.next();
    assert_eq!((end.op, end.flags), (OP_SHUTDOWN, SHUTDOWN_BOTH));
    guest.send(&guest.header(ports, OP_RST), b"");
    guest.nothing_is_left();
}

#[test]
fn going_away_after_half_an_end_is_told_of_too() {
    let mut guest = Guest::new();
    let (_, server) = guest.connect(5, 6);
    server.shutdown(Shutdown::Write).unwrap();
    assert_eq!(guest.next().flags, SHUTDOWN_SEND);
    drop(server);
    assert_eq!(guest.next().flags, SHUTDOWN_BOTH);
    guest.settle();
}

#[test]
fn a_host_program_that_goes_away_without_reading_still_delivers() {
    let mut guest = Guest::new();
    guest.refill = false;
    let (ports, mut server) = guest.connect(5, 6);
    // More than the guest has room for at once, then gone.
    let sent: Vec<u8> = (0..100_000u32).map(|n| n.to_le_bytes()[0]).collect();
    server.write_all(&sent).unwrap();
    drop(server);
    guest.refill = true;
    let mut got = Vec::new();
    let end = loop {
        match guest.next_packet().unwrap() {
            (header, payload) if header.op == OP_RW => got.extend(payload),
            (header, _) => break header,
        }
    };
    assert!(got == sent);
    assert_eq!((end.op, end.flags), (OP_SHUTDOWN, SHUTDOWN_BOTH));
    guest.send(&guest.header(ports, OP_RST), b"");
    guest.nothing_is_left();
}

#[test]
fn no_reset_takes_away_what_the_guest_has_not_read() {
    let mut guest = Guest::new();
    let (ports, mut server) = guest.connect(5, 6);
    server.write_all(b"read this later").unwrap();
    drop(server);
    assert_eq!(guest.next_data().1.len(), 15);
    assert_eq!(guest.next().flags, SHUTDOWN_BOTH);
    // The guest's program takes its time: the host forgets, in silence.
    guest.harness.expire_timers().unwrap();
    guest.settle();
    // The clock has not really moved, so the connection is still there; either way no reset came.
    assert!(guest.take_packet().is_none());
    guest.send(&guest.header(ports, OP_RST), b"");
    guest.nothing_is_left();
}

#[test]
fn what_a_guest_sent_before_closing_reaches_a_slow_reader() {
    let mut guest = Guest::new();
    let (ports, mut server) = guest.connect(5, 6);
    // Fill the socket and some of what waits behind it.
    let piece = [7; 32 << 10];
    let mut sent = 0;
    while guest.harness.queues[1].room() > 0 && sent < 400 << 10 {
        guest.send(&guest.header(ports, OP_RW), &piece);
        guest.settle();
        sent += piece.len();
    }
    guest.shutdown(ports, SHUTDOWN_BOTH);
    while let Some((header, _)) = guest.next_packet() {
        assert!([OP_RST, OP_CREDIT_UPDATE].contains(&header.op));
    }
    // The guest has its reset, and may use the ports again.
    let (_, mut second) = guest.connect(5, 6);
    assert!(would_block(&mut second));
    let got = read_all(&mut guest, &mut server);
    assert_eq!(got.len(), sent);
    drop(second);
    assert_eq!(guest.next().flags, SHUTDOWN_BOTH);
    guest.send(&guest.header(ports, OP_RST), b"");
    guest.nothing_is_left();
}

#[test]
fn writing_to_a_program_that_stopped_reading_ends_that_direction() {
    let mut guest = Guest::new();
    let (ports, server) = guest.connect(5, 6);
    server.shutdown(Shutdown::Read).unwrap();
    guest.send(&guest.header(ports, OP_RW), b"to nobody");
    let end = guest.next();
    assert_eq!((end.op, end.flags), (OP_SHUTDOWN, SHUTDOWN_RECEIVE));
    // What was on its way is let go, not answered with a reset.
    guest.send(&guest.header(ports, OP_RW), &[0; 60_000]);
    guest.send(&guest.header(ports, OP_RW), &[0; 60_000]);
    guest.send(&guest.header(ports, OP_RW), &[0; 60_000]);
    let update = guest.next();
    assert_eq!((update.op, update.fwd_cnt), (OP_CREDIT_UPDATE, 180_009));
}

#[test]
fn a_program_that_gives_up_before_the_answer_is_a_reset() {
    let mut guest = Guest::new();
    let program = guest.dial(52);
    let request = guest.next();
    drop(program);
    let reset = guest.next();
    assert_eq!((reset.op, reset.src_port), (OP_RST, request.src_port));
    guest.reply(&request, OP_RESPONSE, b"");
    assert_eq!(guest.next().op, OP_RST);
    guest.nothing_is_left();
}

#[test]
fn a_stopped_device_closes_every_socket() {
    let mut guest = Guest::new();
    let (_, mut server) = guest.connect(5, 6);
    let mut program = guest.dial(52);
    guest.settle();
    guest.harness.stop();
    assert_eq!(server.read(&mut [0]).unwrap(), 0);
    assert_eq!(program.read(&mut [0]).unwrap(), 0);
}
