//! A guest that lies.

use super::guest::{CID, Guest};
use super::*;
use crate::Fault;
use proptest::prelude::*;

const PORTS: Ports = Ports { guest: 5, host: 6 };

#[test]
fn sending_beyond_the_credit_resets_the_connection() {
    let mut guest = Guest::new();
    let (ports, mut server) = guest.connect(5, 6);
    let mut resets = 0;
    for _ in 0..40 {
        guest.send(&guest.header(ports, OP_RW), &[0; 60_000]);
        guest.settle();
        while let Some((header, _)) = guest.take_packet() {
            resets += usize::from(header.op == OP_RST);
        }
    }
    // The first one is for the lie, the others for packets to a connection that is gone.
    assert!(resets > 1);
    let mut got = 0;
    let mut bytes = [0; 65536];
    while let Ok(n @ 1..) = server.read(&mut bytes) {
        got += n;
    }
    assert!(got < 1 << 20);
    guest.nothing_is_left();
}

#[test]
fn a_count_ahead_of_what_was_sent_is_no_credit() {
    let mut guest = Guest::new();
    let (ports, mut server) = guest.connect(5, 6);
    for fwd_cnt in [1, 1 << 20, u32::MAX, 0] {
        let header = Header {
            fwd_cnt,
            ..guest.header(ports, OP_CREDIT_UPDATE)
        };
        guest.send(&header, b"");
    }
    server.set_nonblocking(true).unwrap();
    server.write_all(b"x").unwrap();
    assert_eq!(guest.next_data().1, b"x");
}

#[test]
fn packets_to_nobody_are_reset() {
    let mut guest = Guest::new();
    for op in [
        OP_RESPONSE,
        OP_SHUTDOWN,
        OP_RW,
        OP_CREDIT_UPDATE,
        OP_CREDIT_REQUEST,
        0,
        8,
        u16::MAX,
    ] {
        guest.send(&guest.header(PORTS, op), b"");
        let reset = guest.next();
        assert_eq!((reset.op, reset.src_port, reset.dst_port), (OP_RST, 6, 5));
    }
    guest.send(&guest.header(PORTS, OP_RST), b"");
    guest.nothing_is_left();
}

#[test]
fn operations_out_of_order_reset_the_connection() {
    for op in [OP_REQUEST, OP_RESPONSE, 0, 8, u16::MAX] {
        let mut guest = Guest::new();
        let (ports, mut server) = guest.connect(5, 6);
        guest.send(&guest.header(ports, op), b"");
        assert_eq!(guest.next().op, OP_RST);
        assert_eq!(server.read(&mut [0]).unwrap(), 0);
        guest.nothing_is_left();
    }
    for op in [
        OP_REQUEST,
        OP_RW,
        OP_SHUTDOWN,
        OP_CREDIT_UPDATE,
        OP_CREDIT_REQUEST,
        99,
    ] {
        let mut guest = Guest::new();
        let mut program = guest.dial(52);
        let request = guest.next();
        guest.reply(&request, op, b"");
        assert_eq!(guest.next().op, OP_RST);
        assert_eq!(program.read(&mut [0]).unwrap(), 0);
        guest.nothing_is_left();
    }
}

#[test]
fn data_after_the_guest_s_end_resets_the_connection() {
    let mut guest = Guest::new();
    let (ports, _server) = guest.connect(5, 6);
    guest.shutdown(ports, SHUTDOWN_SEND);
    guest.send(&guest.header(ports, OP_RW), b"more");
    assert_eq!(guest.next().op, OP_RST);
    guest.nothing_is_left();
}

#[test]
fn other_addresses_and_types_are_refused() {
    let mut guest = Guest::new();
    let other = Header {
        dst_cid: 77,
        ..guest.header(PORTS, OP_REQUEST)
    };
    guest.send(&other, b"");
    let reset = guest.next();
    assert_eq!((reset.op, reset.src_cid, reset.dst_cid), (OP_RST, 77, CID));
    let seqpacket = Header {
        socket_type: 2,
        ..guest.header(PORTS, OP_REQUEST)
    };
    guest.send(&seqpacket, b"");
    let reset = guest.next();
    assert_eq!((reset.op, reset.socket_type), (OP_RST, 2));
    let forged = Header {
        src_cid: CID + 1,
        ..guest.header(PORTS, OP_REQUEST)
    };
    guest.send(&forged, b"");
    guest.nothing_is_left();
}

#[test]
fn a_length_beyond_the_packet_is_a_fault() {
    for len in [1, 11, 1 << 16, u32::MAX] {
        let mut guest = Guest::new();
        let (ports, _server) = guest.connect(5, 6);
        let header = Header {
            len,
            ..guest.header(ports, OP_RW)
        };
        guest.send_raw(
            &header,
            if len == 11 { b"0123456789" } else { b"" },
            &[],
            false,
        );
        assert!(matches!(guest.try_turn(), Err(Fault::Malformed { .. })));
        guest.harness.stop();
    }
}

#[test]
fn an_answer_that_is_never_taken_stops_only_the_guest_s_own_packets() {
    let mut guest = Guest::with_buffers(0, 4096);
    let mut accepted = 0;
    while guest.send_raw(&guest.header(PORTS, OP_RW), b"", &[], false) {
        guest.settle();
        accepted += 1;
        assert!(accepted < 2000, "the host remembers without bound");
    }
    // It goes on as soon as there are buffers.
    let mut guest_rx = 0;
    for n in 0..200u64 {
        let buffer = crate::testing::Buffer::writable((1 << 20) + n * 4096, 4096);
        guest.harness.queues[0].offer(&[buffer]).unwrap();
    }
    guest.harness.kick_if_wanted();
    guest.harness.settle(500).unwrap();
    while guest.harness.queues[0].take_used().is_some() {
        guest_rx += 1;
    }
    assert_eq!(guest_rx, 200);
}

#[test]
fn a_receive_buffer_without_room_is_a_fault() {
    for bytes in [1, 43, 44] {
        let mut guest = Guest::with_buffers(8, bytes);
        guest.send(&guest.header(PORTS, OP_RW), b"");
        assert!(matches!(guest.try_turn(), Err(Fault::Malformed { .. })));
        guest.harness.stop();
    }
}

#[test]
fn a_receive_buffer_with_room_for_one_byte_is_enough() {
    let mut guest = Guest::with_buffers(256, 45);
    guest.refill = false;
    let (_, mut server) = guest.connect(5, 6);
    server.write_all(b"abc").unwrap();
    for byte in b"abc" {
        assert_eq!(guest.next_data().1, [*byte]);
    }
}

fn any_packet() -> impl Strategy<Value = (Header, Vec<u8>)> {
    let cid = prop_oneof![9 => Just(CID), 1 => any::<u64>()];
    let dst = prop_oneof![9 => Just(2u64), 1 => any::<u64>()];
    let credit = prop_oneof![Just(0u32), Just(4096), Just(256 << 10), any::<u32>()];
    (
        (cid, dst, 0u32..3, 0u32..3, 0u16..9),
        (
            prop_oneof![9 => Just(1u16), 1 => any::<u16>()],
            any::<u32>(),
            credit,
            any::<u32>(),
        ),
        prop::collection::vec(any::<u8>(), 0..2000),
    )
        .prop_map(
            |(
                (src_cid, dst_cid, src_port, dst_port, op),
                (socket_type, flags, buf_alloc, fwd_cnt),
                payload,
            )| {
                let header = Header {
                    src_cid,
                    dst_cid,
                    src_port,
                    dst_port,
                    len: 0,
                    socket_type,
                    op,
                    flags,
                    buf_alloc,
                    fwd_cnt,
                };
                (header, payload)
            },
        )
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// Whatever is sent, in whatever order, the device is quiet afterwards, and every packet that
    /// it takes is well-formed.
    #[test]
    fn any_packets_end_in_quiet(packets in prop::collection::vec(any_packet(), 1..60)) {
        let mut guest = Guest::new();
        for (header, payload) in packets {
            guest.send(&header, &payload);
            guest.settle();
            while let Some((answer, _)) = guest.take_packet() {
                prop_assert!((OP_REQUEST..=OP_CREDIT_REQUEST).contains(&answer.op));
            }
        }
    }
}
