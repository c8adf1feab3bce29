//! Many connections, slow ends, and waits that must not spin.

use std::io::{Read, Write};
use std::time::Duration;

use super::super::muxer::MAX_SLOTS;
use super::guest::Guest;
use super::*;

#[test]
fn a_host_socket_waits_for_the_guest_s_credit() {
    let mut guest = Guest::new();
    let ports = Ports { guest: 5, host: 6 };
    let mut request = guest.header(ports, OP_REQUEST);
    request.buf_alloc = 10;
    guest.send(&request, b"");
    assert_eq!(guest.next().op, OP_RESPONSE);
    let mut server = guest.accepted(6);
    server.write_all(b"0123456789abcde").unwrap();
    assert_eq!(guest.next_data().1, b"0123456789");
    guest.settle();
    assert!(guest.take_packet().is_none());
    let calls = guest.harness.calls;
    guest.settle();
    assert_eq!(
        guest.harness.calls, calls,
        "nothing is ready without credit"
    );

    let update = Header {
        buf_alloc: 10,
        fwd_cnt: 3,
        ..guest.header(ports, OP_CREDIT_UPDATE)
    };
    guest.send(&update, b"");
    assert_eq!(guest.next_data().1, b"abc");
    // Less room than is used: no credit, and no underflow.
    guest.send(
        &Header {
            buf_alloc: 1,
            ..update
        },
        b"",
    );
    guest.settle();
    assert!(guest.take_packet().is_none());
    // A program that goes away meanwhile does not wake the loop for ever.
    drop(server);
    guest.settle();
    let update = Header {
        fwd_cnt: 13,
        ..update
    };
    guest.send(&update, b"");
    assert_eq!(guest.next_data().1, b"de");
    assert_eq!(guest.next().flags, SHUTDOWN_BOTH);
}

#[test]
fn a_host_socket_waits_for_receive_buffers() {
    let mut guest = Guest::with_buffers(2, 4096);
    guest.refill = false;
    let (_, mut server) = guest.connect(5, 6);
    server.write_all(&[1; 12_000]).unwrap();
    assert_eq!(guest.next_data().1.len(), 4052);
    guest.settle();
    let calls = guest.harness.calls;
    guest.settle();
    assert_eq!(
        guest.harness.calls, calls,
        "nothing is ready without buffers"
    );
    let mut got = 4052;
    while got < 12_000 {
        guest.offer_rx(4096);
        got += guest.next_data().1.len();
    }
    assert_eq!(got, 12_000);
}

#[test]
fn a_slow_reader_holds_up_only_its_own_connection() {
    let mut guest = Guest::new();
    let (slow, mut slow_end) = guest.connect(5, 6);
    let (quick, mut quick_end) = guest.connect(7, 8);
    // As much as the host promised to hold, and a socket's worth that it passed on.
    let mut sent = 0u32;
    let mut told = 0u32;
    while sent.wrapping_sub(told) + 30_000 <= BUF_ALLOC {
        guest.send(&guest.header(slow, OP_RW), &[3; 30_000]);
        sent += 30_000;
        guest.settle();
        while let Some((header, _)) = guest.take_packet() {
            assert_eq!(header.op, OP_CREDIT_UPDATE);
            told = header.fwd_cnt;
        }
    }
    let calls = guest.harness.calls;
    guest.settle();
    assert_eq!(guest.harness.calls, calls, "a full socket is no event");
    for _ in 0..20 {
        guest.send(&guest.header(quick, OP_RW), b"quick");
        guest.settle();
        let mut bytes = [0; 8];
        assert_eq!(quick_end.read(&mut bytes).unwrap(), 5);
    }
    // Reading brings the rest, and the credit back.
    let mut got = 0u32;
    let mut bytes = [0; 65536];
    while got < sent {
        if let Ok(n) = slow_end.read(&mut bytes) {
            assert!(bytes[..n].iter().all(|byte| *byte == 3));
            got += u32::try_from(n).unwrap();
        }
        guest.settle();
    }
    guest.send(&guest.header(slow, OP_CREDIT_REQUEST), b"");
    let mut last = 0;
    while let Some((header, _)) = guest.next_packet() {
        last = header.fwd_cnt;
    }
    assert_eq!(last, sent);
}

#[test]
fn the_number_of_connections_is_bounded() {
    let mut guest = Guest::new();
    let mut ends = Vec::new();
    for n in 0..u32::try_from(MAX_SLOTS).unwrap() {
        ends.push(guest.connect(1000 + n, 6));
    }
    guest.send(&guest.header(Ports { guest: 1, host: 6 }, OP_REQUEST), b"");
    assert_eq!(guest.next().op, OP_RST);
    // Programs on the host wait at the listener, which wakes nobody.
    let mut program = guest.dial(52);
    guest.settle();
    let calls = guest.harness.calls;
    guest.settle();
    assert_eq!(guest.harness.calls, calls);
    // One leaves, one comes.
    let (ports, server) = ends.pop().unwrap();
    drop(server);
    assert_eq!(guest.next().op, OP_SHUTDOWN);
    guest.send(&guest.header(ports, OP_RST), b"");
    let request = guest.next();
    assert_eq!((request.op, request.dst_port), (OP_REQUEST, 52));
    guest.reply(&request, OP_RESPONSE, b"");
    guest.settle();
    assert_ne!(program.read(&mut [0; 32]).unwrap(), 0);
}

#[test]
fn a_line_that_is_wrong_or_cut_off_closes_the_socket() {
    for line in [&b"HELLO\n"[..], b"CONNECT x\n", &[b'C'; 100]] {
        let mut guest = Guest::new();
        let mut program = guest.dial_silently();
        program.write_all(line).unwrap();
        guest.settle();
        // The rest of the line was not read, so closing may show as a reset.
        assert!(!matches!(program.read(&mut [0]), Ok(1..)));
        guest.nothing_is_left();
    }
    let mut guest = Guest::new();
    let mut program = guest.dial_silently();
    program.write_all(b"CONN").unwrap();
    guest.settle();
    drop(program);
    guest.nothing_is_left();
}

#[test]
fn a_line_may_come_in_pieces() {
    let mut guest = Guest::new();
    let mut program = guest.dial_silently();
    for piece in [&b"CON"[..], b"NECT 1", b"7", b"\nbody"] {
        program.write_all(piece).unwrap();
        guest.settle();
    }
    let request = guest.next();
    assert_eq!(request.dst_port, 17);
    guest.reply(&request, OP_RESPONSE, b"");
    assert_eq!(guest.next_data().1, b"body");
}

#[test]
fn host_ports_differ() {
    let mut guest = Guest::new();
    let programs: Vec<_> = (0..50).map(|_| guest.dial(9)).collect();
    let mut ports: Vec<u32> = programs.iter().map(|_| guest.next().src_port).collect();
    ports.sort_unstable();
    ports.dedup();
    assert_eq!(ports.len(), 50);
}

#[test]
fn small_messages_change_nothing_in_the_event_loop() {
    let mut guest = Guest::new();
    let (ports, mut server) = guest.connect(5, 6);
    guest.settle();
    let changes = guest.harness.events.changes();
    for _ in 0..100 {
        server.write_all(b"ping").unwrap();
        assert_eq!(guest.next_data().1, b"ping");
        guest.send(&guest.header(ports, OP_RW), b"pong");
        guest.settle();
        assert_eq!(server.read(&mut [0; 8]).unwrap(), 4);
    }
    assert_eq!(guest.harness.events.changes(), changes);
}

#[test]
fn a_program_that_never_finishes_its_line_is_given_up() {
    let mut guest = Guest::new();
    guest.harness.device.set_patience(Duration::ZERO);
    let mut program = guest.dial_silently();
    guest.settle();
    assert_eq!(program.read(&mut [0]).unwrap(), 0);
    guest.nothing_is_left();
}

#[test]
fn a_guest_that_never_answers_is_given_up() {
    let mut guest = Guest::new();
    let mut program = guest.dial_silently();
    guest.settle();
    guest.harness.device.set_patience(Duration::ZERO);
    program.write_all(b"CONNECT 5\n").unwrap();
    assert_eq!(guest.next().op, OP_REQUEST);
    assert_eq!(guest.next().op, OP_RST);
    assert_eq!(program.read(&mut [0]).unwrap(), 0);
    // Not even the first line's timer is left.
    guest.nothing_is_left();
}

#[test]
fn a_guest_that_never_confirms_the_end_is_forgotten_in_silence() {
    let mut guest = Guest::new();
    guest.harness.device.set_patience(Duration::ZERO);
    let (_, mut server) = guest.connect(5, 6);
    server.write_all(b"last").unwrap();
    drop(server);
    assert_eq!(guest.next_data().1, b"last");
    assert_eq!(guest.next().flags, SHUTDOWN_BOTH);
    guest.nothing_is_left();
}

#[test]
fn an_established_connection_has_no_deadline() {
    let mut guest = Guest::new();
    let _program = guest.dial(5);
    let request = guest.next();
    assert_eq!(guest.harness.events.timers(), 1);
    guest.reply(&request, OP_RESPONSE, b"");
    guest.settle();
    assert_eq!(guest.harness.events.timers(), 0);
}
