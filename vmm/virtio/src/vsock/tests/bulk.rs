//! Much data on many connections in both directions at once, checked byte by byte.

use std::collections::HashMap;
use std::io::{ErrorKind, Read, Write};
use std::net::Shutdown;
use std::os::unix::net::UnixStream;

use super::guest::Guest;
use super::*;

/// What Linux guests hold for a connection.
const GUEST_BUF: u32 = 256 << 10;
const PIECE: usize = 64 << 10;

/// Byte `at` of what one end of connection `n` sends.
fn byte(n: u32, at: u64) -> u8 {
    let mixed = (at ^ (at >> 11))
        .wrapping_mul(0x9e37_79b9)
        .wrapping_add(u64::from(n) * 77);
    mixed.to_le_bytes()[1]
}

/// One direction, as its sender or its receiver counts it.
#[derive(Default)]
struct Count {
    done: u64,
    ended: bool,
}

struct Pair {
    n: u32,
    ports: Ports,
    program: UnixStream,
    /// The guest's socket: what it sent and got, and its credit.
    sent: Count,
    got: Count,
    peer_fwd: u32,
    peer_buf: u32,
    told: u32,
    /// The host's program.
    written: Count,
    read: Count,
}

fn counted(value: u64) -> u32 {
    (value & 0xffff_ffff) as u32
}

impl Pair {
    fn new(n: u32, ports: Ports, program: UnixStream, hello: &Header) -> Self {
        Self {
            n,
            ports,
            program,
            sent: Count::default(),
            got: Count::default(),
            peer_fwd: hello.fwd_cnt,
            peer_buf: hello.buf_alloc,
            told: 0,
            written: Count::default(),
            read: Count::default(),
        }
    }

    fn header(&mut self, guest: &Guest, op: u16) -> Header {
        self.told = counted(self.got.done);
        Header {
            buf_alloc: GUEST_BUF,
            fwd_cnt: self.told,
            ..guest.header(self.ports, op)
        }
    }

    /// The guest's program sends as much as it has credit for.
    fn guest_sends(&mut self, guest: &mut Guest, total: u64) {
        while !self.sent.ended {
            let credit = self.peer_buf - counted(self.sent.done).wrapping_sub(self.peer_fwd);
            let len = (total - self.sent.done)
                .min(credit.into())
                .min(PIECE as u64);
            if len == 0 {
                if self.sent.done == total {
                    let header = Header {
                        flags: SHUTDOWN_SEND,
                        ..self.header(guest, OP_SHUTDOWN)
                    };
                    self.sent.ended = guest.send_raw(&header, b"", &[], true);
                }
                return;
            }
            let payload: Vec<u8> = (self.sent.done..self.sent.done + len)
                .map(|at| byte(self.n, at))
                .collect();
            let header = Header {
                len: counted(len),
                ..self.header(guest, OP_RW)
            };
            if !guest.send_raw(&header, &payload, &[44, 4096, 4096, 1], true) {
                return;
            }
            self.sent.done += len;
        }
    }

    /// The guest's kernel takes a packet.
    fn guest_takes(&mut self, guest: &mut Guest, header: &Header, payload: &[u8]) {
        self.peer_fwd = header.fwd_cnt;
        self.peer_buf = header.buf_alloc;
        match header.op {
            OP_RW => {
                for (at, got) in (self.got.done..).zip(payload) {
                    assert_eq!(*got, byte(!self.n, at), "connection {} at {at}", self.n);
                }
                self.got.done += payload.len() as u64;
                assert!(!self.got.ended);
                if counted(self.got.done).wrapping_sub(self.told) > GUEST_BUF - (64 << 10) {
                    let update = self.header(guest, OP_CREDIT_UPDATE);
                    assert!(
                        guest.send_raw(&update, b"", &[], false),
                        "the queue has room for it"
                    );
                }
            }
            OP_SHUTDOWN => self.got.ended |= header.flags & SHUTDOWN_SEND != 0,
            OP_CREDIT_UPDATE => {}
            other => panic!("connection {}: operation {other}", self.n),
        }
    }

    fn program_works(&mut self, total: u64) {
        let mut buffer = [0; PIECE];
        while !self.written.ended {
            let left = total - self.written.done;
            let len = usize::try_from(left).unwrap_or(PIECE).min(PIECE);
            if len == 0 {
                self.program.shutdown(Shutdown::Write).unwrap();
                self.written.ended = true;
                break;
            }
            for (at, byte_at) in (self.written.done..).zip(&mut buffer[..len]) {
                *byte_at = byte(!self.n, at);
            }
            match self.program.write(&buffer[..len]) {
                Ok(n) => self.written.done += n as u64,
                Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                Err(error) => panic!("connection {}: {error}", self.n),
            }
        }
        while !self.read.ended {
            match self.program.read(&mut buffer) {
                Ok(0) => self.read.ended = true,
                Ok(n) => {
                    for (at, got) in (self.read.done..).zip(&buffer[..n]) {
                        assert_eq!(*got, byte(self.n, at), "connection {} at {at}", self.n);
                    }
                    self.read.done += n as u64;
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                Err(error) => panic!("connection {}: {error}", self.n),
            }
        }
    }

    fn is_done(&self) -> bool {
        self.got.ended && self.read.ended
    }
}

fn exchange(connections: u32, total: u64) {
    let mut guest = Guest::new();
    let mut pairs = HashMap::new();
    for n in 0..connections {
        // Half of them from each side.
        let pair = if n % 2 == 0 {
            let ports = Ports {
                guest: 100 + n,
                host: 7,
            };
            guest.send(&guest.header(ports, OP_REQUEST), b"");
            let response = guest.next();
            let program = guest.accepted(7);
            Pair::new(n, ports, program, &response)
        } else {
            let mut program = guest.dial(100 + n);
            let request = guest.next();
            guest.reply(&request, OP_RESPONSE, b"");
            guest.settle();
            let mut line = [0; 32];
            let len = program.read(&mut line).unwrap();
            assert!(line[..len].starts_with(b"OK "));
            let ports = Ports {
                guest: 100 + n,
                host: request.src_port,
            };
            Pair::new(n, ports, program, &request)
        };
        pairs.insert(pair.ports, pair);
    }
    let mut idle = 0;
    while !pairs.values().all(Pair::is_done) {
        let mut moved = guest.turn();
        while let Some((header, payload)) = guest.take_packet() {
            moved += 1;
            let ports = Ports {
                guest: header.dst_port,
                host: header.src_port,
            };
            // Both ends are told once everything has gone; the reset that ends it comes later.
            pairs
                .get_mut(&ports)
                .unwrap()
                .guest_takes(&mut guest, &header, &payload);
        }
        for pair in pairs.values_mut() {
            // Some room in the queue stays free for credit.
            if guest.harness.queues[1].room() > 64 {
                pair.guest_sends(&mut guest, total);
            }
            pair.program_works(total);
        }
        idle = if moved == 0 { idle + 1 } else { 0 };
        assert!(idle < 100, "nothing moves any more");
    }
    for pair in pairs.values() {
        assert_eq!((pair.got.done, pair.read.done), (total, total));
    }
}

#[test]
fn one_connection() {
    exchange(1, 3 << 20);
}

#[test]
fn forty_connections() {
    exchange(40, 1 << 20);
}

/// 64 MiB each way on 32 connections: `cargo test --release -- --ignored`.
#[test]
#[ignore = "minutes without optimization"]
fn much_on_many_connections() {
    exchange(32, 64 << 20);
}
