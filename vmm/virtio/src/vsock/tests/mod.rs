//! The device against a guest written here, over real rings and real sockets.

mod bulk;
mod ends;
mod guest;
mod hostile;
mod limits;

use std::io::{Read, Write};

use guest::{Guest, would_block};

use super::connection::BUF_ALLOC;
use super::packet::*;
use crate::testing::conformance;
use crate::vsock::{Connector, Vsock};

#[test]
fn conforms() {
    let (listener, dir) = guest::listener();
    let path = dir.path().join(guest::SOCKET);
    let mut device = Vsock::new(3, Some(listener), Box::new(guest::Refuse));
    let mut kept = Vec::new();
    let before = resident_pages();
    for _ in 0..3 {
        conformance(&mut device, &[0, 1], &mut || {
            let mut program = std::os::unix::net::UnixStream::connect(&path).unwrap();
            program.write_all(b"CONNECT 7\n").unwrap();
            kept.push(program);
            if kept.len() > 4 {
                kept.remove(0);
            }
        });
    }
    let grown = resident_pages().saturating_sub(before);
    assert!(grown < 4096, "grew by {grown} pages");
}

fn resident_pages() -> u64 {
    let statm = std::fs::read_to_string("/proc/self/statm").unwrap();
    statm.split(' ').nth(1).unwrap().parse().unwrap()
}

#[test]
fn the_host_connects() {
    let mut guest = Guest::new();
    let mut program = guest.dial(52);
    program.write_all(b"early ").unwrap();
    let request = guest.next();
    assert_eq!(
        (request.op, request.dst_port, request.dst_cid),
        (OP_REQUEST, 52, 3)
    );
    assert_eq!((request.src_cid, request.socket_type), (2, TYPE_STREAM));
    assert_eq!(request.buf_alloc, BUF_ALLOC);
    assert!(
        would_block(&mut program),
        "nothing is said before the guest accepts"
    );

    guest.reply(&request, OP_RESPONSE, b"");
    let (data, bytes) = guest.next_data();
    assert_eq!((data.op, &bytes[..]), (OP_RW, &b"early "[..]));
    let mut line = [0; 64];
    let len = program.read(&mut line).unwrap();
    assert_eq!(
        &line[..len],
        format!("OK {}\n", request.src_port).as_bytes()
    );

    guest.reply(&request, OP_RW, b"from the guest");
    guest.settle();
    let len = program.read(&mut line).unwrap();
    assert_eq!(&line[..len], b"from the guest");
    program.write_all(b"from the host").unwrap();
    let (data, bytes) = guest.next_data();
    assert_eq!(&bytes, b"from the host");
    assert_eq!(data.fwd_cnt, 14);
}

#[test]
fn the_guest_connects() {
    let mut guest = Guest::new();
    let ports = Ports {
        guest: 1000,
        host: 80,
    };
    guest.send(&guest.header(ports, OP_REQUEST), b"");
    assert_eq!(guest.next().op, OP_RESPONSE);
    let mut server = guest.accepted(80);
    guest.send(&guest.header(ports, OP_RW), b"hello");
    guest.settle();
    let mut bytes = [0; 16];
    let len = server.read(&mut bytes).unwrap();
    assert_eq!(&bytes[..len], b"hello");
    server.write_all(b"hi").unwrap();
    assert_eq!(guest.next_data().1, b"hi");
}

#[test]
fn a_refusal_closes_the_program_s_socket() {
    let mut guest = Guest::new();
    let mut program = guest.dial(52);
    let request = guest.next();
    guest.reply(&request, OP_RST, b"");
    guest.settle();
    assert_eq!(program.read(&mut [0; 8]).unwrap(), 0);
    guest.nothing_is_left();
}

#[test]
fn nobody_serving_a_port_is_a_reset() {
    let mut guest = Guest::new();
    guest.refuse_all();
    let ports = Ports { guest: 9, host: 10 };
    guest.send(&guest.header(ports, OP_REQUEST), b"");
    let reset = guest.next();
    assert_eq!((reset.op, reset.src_port, reset.dst_port), (OP_RST, 10, 9));
    guest.nothing_is_left();
}

#[test]
fn any_layout_of_a_packet_is_read() {
    for cuts in [&[][..], &[44], &[1], &[43, 1], &[10, 20, 14, 3]] {
        let mut guest = Guest::new();
        let ports = Ports { guest: 5, host: 6 };
        guest.send(&guest.header(ports, OP_REQUEST), b"");
        assert_eq!(guest.next().op, OP_RESPONSE);
        let mut server = guest.accepted(6);
        guest.send_cut(&guest.header(ports, OP_RW), b"0123456789", cuts, false);
        guest.send_cut(&guest.header(ports, OP_RW), b"abc", cuts, true);
        guest.settle();
        let mut bytes = [0; 16];
        let len = server.read(&mut bytes).unwrap();
        assert_eq!(&bytes[..len], b"0123456789abc");
    }
}

#[test]
fn credit_is_told_when_asked_for() {
    let mut guest = Guest::new();
    let (ports, _server) = guest.connect(5, 6);
    guest.send(&guest.header(ports, OP_RW), b"0123456789");
    guest.send(&guest.header(ports, OP_CREDIT_REQUEST), b"");
    let update = guest.next();
    assert_eq!((update.op, update.fwd_cnt), (OP_CREDIT_UPDATE, 10));
}

#[test]
fn header_round_trip() {
    use proptest::prelude::*;
    proptest!(|(bytes in prop::array::uniform32(any::<u8>()), rest in prop::array::uniform12(any::<u8>()))| {
        let mut raw = [0; 44];
        raw[..32].copy_from_slice(&bytes);
        raw[32..].copy_from_slice(&rest);
        prop_assert_eq!(Header::decode(&raw).encode(), raw);
    });
}
