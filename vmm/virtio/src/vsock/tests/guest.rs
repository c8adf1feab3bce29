//! A guest that speaks packets, and the programs on the host that it talks to.

use std::collections::{HashMap, VecDeque};
use std::io::{self, Read, Write};
use std::os::unix::net::{UnixListener, UnixStream};
use std::sync::{Arc, Mutex};

use tempfile::TempDir;

use super::*;
use crate::Fault;
use crate::testing::{Buffer, Harness, guest_ram};

pub(super) const SOCKET: &str = "vm.sock";
pub(super) const CID: u64 = 3;
const MEMORY: usize = 32 << 20;
const RX_BUFFERS: u64 = 1 << 20;
const TX_BUFFERS: u64 = 8 << 20;
/// A packet of 64 KiB, its header, and space for an indirect table.
const TX_BYTES: u64 = 0x12000;

/// What Linux gives each of its receive buffers, about.
pub(super) const RX_BYTES: u32 = 4096;

pub(super) struct Refuse;

impl Connector for Refuse {
    fn connect(&mut self, _port: u32) -> io::Result<UnixStream> {
        Err(io::ErrorKind::ConnectionRefused.into())
    }
}

/// Gives the device one end of a pair, and keeps the other for the test.
#[derive(Clone, Default)]
struct Switchboard(Arc<Mutex<Board>>);

#[derive(Default)]
struct Board {
    refuse: bool,
    ends: HashMap<u32, Vec<UnixStream>>,
}

impl Connector for Switchboard {
    fn connect(&mut self, port: u32) -> io::Result<UnixStream> {
        let mut board = self.0.lock().unwrap();
        if board.refuse {
            return Err(io::ErrorKind::ConnectionRefused.into());
        }
        let (ours, theirs) = UnixStream::pair()?;
        theirs.set_nonblocking(true)?;
        board.ends.entry(port).or_default().push(theirs);
        Ok(ours)
    }
}

/// A listening socket, and the directory that it is in.
pub(super) fn listener() -> (UnixListener, TempDir) {
    let dir = tempfile::tempdir().unwrap();
    (UnixListener::bind(dir.path().join(SOCKET)).unwrap(), dir)
}

pub(super) fn would_block(stream: &mut UnixStream) -> bool {
    stream
        .read(&mut [0])
        .is_err_and(|error| error.kind() == io::ErrorKind::WouldBlock)
}

pub(super) struct Guest {
    pub(super) harness: Harness<Vsock>,
    board: Switchboard,
    dir: TempDir,
    /// Where each receive buffer is that the device has.
    rx: HashMap<u16, u64>,
    /// Whether receive buffers go back to the device at once.
    pub(super) refill: bool,
    rx_spare: Vec<u64>,
    tx: HashMap<u16, u64>,
    tx_spare: Vec<u64>,
    inbox: VecDeque<(Header, Vec<u8>)>,
    /// Looks at the rings only when interrupted, as a driver does.
    started: bool,
}

impl Guest {
    pub(super) fn new() -> Self {
        Self::with_buffers(256, RX_BYTES)
    }

    pub(super) fn with_buffers(count: u64, bytes: u32) -> Self {
        let (listener, dir) = listener();
        let board = Switchboard::default();
        let device = Vsock::new(CID, Some(listener), Box::new(board.clone()));
        let mut harness = Harness::new(device, guest_ram(MEMORY));
        harness.start().unwrap();
        let mut guest = Self {
            harness,
            board,
            dir,
            rx: HashMap::new(),
            refill: true,
            rx_spare: (0..count)
                .map(|n| RX_BUFFERS + n * u64::from(bytes))
                .collect(),
            tx: HashMap::new(),
            tx_spare: (0..256).map(|n| TX_BUFFERS + n * TX_BYTES).collect(),
            inbox: VecDeque::new(),
            started: false,
        };
        guest.offer_rx(bytes);
        guest
    }

    pub(super) fn offer_rx(&mut self, bytes: u32) {
        while let Some(addr) = self.rx_spare.pop() {
            let Some(head) = self.harness.queues[0].offer(&[Buffer::writable(addr, bytes)]) else {
                self.rx_spare.push(addr);
                break;
            };
            self.rx.insert(head, addr);
        }
        self.harness.kick_if_wanted();
    }

    /// A program on the host asks for a port.
    pub(super) fn dial(&mut self, port: u32) -> UnixStream {
        let mut program = UnixStream::connect(self.dir.path().join(SOCKET)).unwrap();
        program.set_nonblocking(true).unwrap();
        program
            .write_all(format!("CONNECT {port}\n").as_bytes())
            .unwrap();
        program
    }

    /// A program that says nothing yet.
    pub(super) fn dial_silently(&mut self) -> UnixStream {
        let program = UnixStream::connect(self.dir.path().join(SOCKET)).unwrap();
        program.set_nonblocking(true).unwrap();
        program
    }

    pub(super) fn refuse_all(&mut self) {
        self.board.0.lock().unwrap().refuse = true;
    }

    /// The host's end of a connection that the guest made to `port`.
    pub(super) fn accepted(&mut self, port: u32) -> UnixStream {
        let mut board = self.board.0.lock().unwrap();
        board.ends.get_mut(&port).unwrap().remove(0)
    }

    /// A connection from the guest, both ends ready.
    pub(super) fn connect(&mut self, guest: u32, host: u32) -> (Ports, UnixStream) {
        let ports = Ports { guest, host };
        self.send(&self.header(ports, OP_REQUEST), b"");
        assert_eq!(self.next().op, OP_RESPONSE);
        (ports, self.accepted(host))
    }

    /// A packet of the guest, with 256 KiB of credit for the host.
    pub(super) fn header(&self, ports: Ports, op: u16) -> Header {
        Header {
            src_cid: CID,
            dst_cid: 2,
            src_port: ports.guest,
            dst_port: ports.host,
            socket_type: TYPE_STREAM,
            op,
            buf_alloc: 256 << 10,
            ..Header::default()
        }
    }

    pub(super) fn shutdown(&mut self, ports: Ports, flags: u32) {
        let header = Header {
            flags,
            ..self.header(ports, OP_SHUTDOWN)
        };
        self.send(&header, b"");
    }

    pub(super) fn reply(&mut self, to: &Header, op: u16, payload: &[u8]) {
        let ports = Ports {
            guest: to.dst_port,
            host: to.src_port,
        };
        self.send(&self.header(ports, op), payload);
    }

    /// Sends a packet; its length is that of the payload.
    pub(super) fn send(&mut self, header: &Header, payload: &[u8]) {
        self.send_cut(header, payload, &[], false);
    }

    /// The same, with the packet cut into descriptors after these numbers of bytes.
    pub(super) fn send_cut(
        &mut self,
        header: &Header,
        payload: &[u8],
        cuts: &[u32],
        indirect: bool,
    ) {
        let header = Header {
            len: u32::try_from(payload.len()).unwrap(),
            ..*header
        };
        assert!(
            self.send_raw(&header, payload, cuts, indirect),
            "the queue is full"
        );
    }

    /// Sends a packet with whatever length the header says. `false`: no room in the queue.
    pub(super) fn send_raw(
        &mut self,
        header: &Header,
        payload: &[u8],
        cuts: &[u32],
        indirect: bool,
    ) -> bool {
        self.collect();
        let Some(addr) = self.tx_spare.pop() else {
            return false;
        };
        let mem = self.harness.mem.clone();
        mem.write(addr, &header.encode()).unwrap();
        mem.write(addr + 44, payload).unwrap();
        let mut buffers = Vec::new();
        let mut at = addr;
        let mut left = 44 + u32::try_from(payload.len()).unwrap();
        for cut in cuts.iter().copied().chain([u32::MAX]) {
            let len = cut.min(left);
            if len > 0 {
                buffers.push(Buffer::readable(at, len));
                at += u64::from(len);
                left -= len;
            }
        }
        let queue = &mut self.harness.queues[1];
        let head = if indirect {
            queue.offer_indirect(addr + TX_BYTES - 0x1000, &buffers)
        } else {
            queue.offer(&buffers)
        };
        let Some(head) = head else {
            self.tx_spare.push(addr);
            return false;
        };
        self.tx.insert(head, addr);
        self.harness.kick_if_wanted();
        true
    }

    /// Serves what is ready, once, and takes what came. Returns how many events there were.
    pub(super) fn turn(&mut self) -> usize {
        let events = self.try_turn().unwrap();
        self.collect();
        events
    }

    pub(super) fn try_turn(&mut self) -> Result<usize, Fault> {
        self.harness.turn(std::time::Duration::ZERO)
    }

    /// Until nothing is ready.
    pub(super) fn settle(&mut self) {
        for _ in 0..2000 {
            if self.turn() == 0 {
                return;
            }
        }
        panic!("the device spins");
    }

    /// The next packet, which has no payload.
    pub(super) fn next(&mut self) -> Header {
        let (header, payload) = self.next_packet().expect("a packet");
        assert!(payload.is_empty(), "{header:?} has a payload");
        header
    }

    /// The next packet, which has a payload.
    pub(super) fn next_data(&mut self) -> (Header, Vec<u8>) {
        let (header, payload) = self.next_packet().expect("a packet");
        assert_eq!(header.op, OP_RW);
        (header, payload)
    }

    pub(super) fn next_packet(&mut self) -> Option<(Header, Vec<u8>)> {
        if self.inbox.is_empty() {
            self.settle();
        }
        self.inbox.pop_front()
    }

    /// A packet that has come already.
    pub(super) fn take_packet(&mut self) -> Option<(Header, Vec<u8>)> {
        self.inbox.pop_front()
    }

    /// Only the kicks and the listener are watched, and no timer runs.
    pub(super) fn nothing_is_left(&mut self) {
        self.settle();
        assert!(self.inbox.is_empty(), "{:?}", self.inbox);
        assert_eq!(self.harness.events.watched(), 4);
        assert_eq!(self.harness.events.timers(), 0);
    }

    /// What an interrupt handler does.
    fn collect(&mut self) {
        if !self.harness.take_interrupt() && self.started {
            return;
        }
        self.started = true;
        while let Some((head, len)) = self.harness.queues[0].take_used() {
            let addr = self.rx.remove(&head).expect("a buffer that was offered");
            let mut raw = [0; 44];
            self.harness.mem.read(addr, &mut raw).unwrap();
            let header = Header::decode(&raw);
            assert_eq!(len, 44 + header.len);
            let mut payload = vec![0; header.len as usize];
            self.harness.mem.read(addr + 44, &mut payload).unwrap();
            self.inbox.push_back((header, payload));
            self.rx_spare.push(addr);
        }
        while let Some((head, _)) = self.harness.queues[1].take_used() {
            let addr = self.tx.remove(&head).expect("a packet that was sent");
            self.tx_spare.push(addr);
        }
        if self.refill {
            self.offer_rx(RX_BYTES);
        }
    }
}
