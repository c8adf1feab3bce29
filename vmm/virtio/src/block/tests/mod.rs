//! The disk, over a real file.

mod extents;
mod mapped;
mod parse;

use std::fs::File;
use std::io::{self, Write};
use std::os::unix::fs::{FileExt, MetadataExt};
use std::sync::mpsc;

use virtio_bindings::virtio_blk::*;

use super::*;
use crate::testing::{Buffer, Harness, conformance, guest_ram};
use crate::{Device, Fault};

const OK: u8 = 0;
const IO_ERROR: u8 = 1;
const UNSUPPORTED: u8 = 2;
const SECTORS: u64 = 128;

/// A file whose sector `n` is full of the byte `n`.
fn image() -> File {
    let mut file = tempfile::tempfile().unwrap();
    for sector in 0..SECTORS {
        file.write_all(&[u8::try_from(sector).unwrap(); 512])
            .unwrap();
    }
    file
}

fn options(read_only: bool) -> BlockOptions {
    BlockOptions {
        read_only,
        id: "disk-1".into(),
    }
}

struct Driver {
    harness: Harness<Block>,
    file: File,
}

impl Driver {
    fn new(read_only: bool) -> Self {
        let file = image();
        let device = Block::new(file.try_clone().unwrap(), options(read_only)).unwrap();
        Self::with(device, file)
    }

    fn with(device: Block, file: File) -> Self {
        let mut harness = Harness::new(device, guest_ram(8 << 20));
        harness.start().unwrap();
        Self { harness, file }
    }

    /// Offers a request and returns its status and what the device wrote before it. `cut` says how
    /// many bytes of the data are in the first buffer.
    fn request(
        &mut self,
        kind: u32,
        sector: u64,
        out: &[u8],
        room: u32,
        cut: u32,
    ) -> (u8, Vec<u8>) {
        let result = self.try_request(kind, sector, out, room, cut);
        result.unwrap().expect("an answer")
    }

    fn try_request(
        &mut self,
        kind: u32,
        sector: u64,
        out: &[u8],
        room: u32,
        cut: u32,
    ) -> Result<Option<(u8, Vec<u8>)>, Fault> {
        let base = self.harness.data();
        let mem = self.harness.mem.clone();
        let mut header = [0; 16];
        header[..4].copy_from_slice(&kind.to_le_bytes());
        header[8..].copy_from_slice(&sector.to_le_bytes());
        let (header_at, out_at, in_at) = (base, base + 0x1000, base + 0x10_0000);
        mem.write(header_at, &header).unwrap();
        mem.write(out_at, out).unwrap();
        mem.write(in_at, &vec![0xee; room as usize + 1]).unwrap();
        let out_len = u32::try_from(out.len()).unwrap();
        let mut buffers = vec![Buffer::readable(header_at, 16)];
        for (at, len) in pieces(out_at, out_len, cut) {
            buffers.push(Buffer::readable(at, len));
        }
        // The status shares the last buffer when that is cut.
        for (at, len) in pieces(in_at, room + 1, cut) {
            buffers.push(Buffer::writable(at, len));
        }
        self.harness.queues[0].offer(&buffers).unwrap();
        self.harness.kick_if_wanted();
        self.harness.settle(20)?;
        assert!(self.harness.take_interrupt());
        let Some((_, written)) = self.harness.queues[0].take_used() else {
            return Ok(None);
        };
        let mut answer = vec![0; room as usize + 1];
        mem.read(in_at, &mut answer).unwrap();
        let status = answer.pop().unwrap();
        assert!(written >= 1 && written <= room + 1);
        Ok(Some((status, answer)))
    }

    fn sector(&self, sector: u64) -> [u8; 512] {
        let mut bytes = [0; 512];
        self.file.read_exact_at(&mut bytes, sector * 512).unwrap();
        bytes
    }
}

fn pieces(at: u64, len: u32, cut: u32) -> Vec<(u64, u32)> {
    let first = cut.min(len);
    [(at, first), (at + u64::from(first), len - first)]
        .into_iter()
        .filter(|(_, len)| *len > 0)
        .collect()
}

fn range(sector: u64, count: u32, flags: u32) -> Vec<u8> {
    let mut bytes = sector.to_le_bytes().to_vec();
    bytes.extend(count.to_le_bytes());
    bytes.extend(flags.to_le_bytes());
    bytes
}

#[test]
fn conforms() {
    for read_only in [false, true] {
        let mut device = Block::new(image(), options(read_only)).unwrap();
        conformance(&mut device, &[0], &mut || {});
    }
}

#[test]
fn reads_and_writes_across_any_cut() {
    for cut in [0, 1, 511, 512, 700] {
        let mut driver = Driver::new(false);
        let (status, data) = driver.request(VIRTIO_BLK_T_IN, 5, &[], 1024, cut);
        assert_eq!(status, OK);
        assert_eq!((data[0], data[511], data[512], data[1023]), (5, 5, 6, 6));
        let written: Vec<u8> = (0..1024u32).map(|n| n.to_le_bytes()[0] ^ 0x5a).collect();
        let (status, _) = driver.request(VIRTIO_BLK_T_OUT, 7, &written, 0, cut);
        assert_eq!(status, OK);
        assert_eq!(driver.sector(7), written[..512]);
        assert_eq!(driver.sector(8), written[512..]);
        assert_eq!(driver.sector(9), [9; 512]);
        assert_eq!(driver.sector(6), [6; 512]);
        assert_eq!(driver.request(VIRTIO_BLK_T_FLUSH, 0, &[], 0, cut).0, OK);
    }
}

#[test]
fn the_last_sector_is_there_and_the_one_after_is_not() {
    let mut driver = Driver::new(false);
    let mut read = |sector, room| driver.request(VIRTIO_BLK_T_IN, sector, &[], room, 0).0;
    assert_eq!(read(SECTORS - 1, 512), OK);
    assert_eq!(read(SECTORS - 1, 1024), IO_ERROR);
    assert_eq!(read(SECTORS, 512), IO_ERROR);
    assert_eq!(read(u64::MAX, 512), IO_ERROR);
    assert_eq!(read(u64::MAX / 512, 512), IO_ERROR);
    assert_eq!(read(u64::MAX / 512 + 1, 512), IO_ERROR);
    assert_eq!(read(0, 0), IO_ERROR);
    assert_eq!(read(0, 511), IO_ERROR);
    assert_eq!(read(0, 513), IO_ERROR);
    let mut write = |sector, data: &[u8]| driver.request(VIRTIO_BLK_T_OUT, sector, data, 0, 0).0;
    assert_eq!(write(SECTORS - 1, &[1; 1024]), IO_ERROR);
    assert_eq!(write(u64::MAX, &[1; 512]), IO_ERROR);
    assert_eq!(write(0, &[]), IO_ERROR);
    assert_eq!(write(0, &[1; 100]), IO_ERROR);
    assert_eq!(driver.sector(SECTORS - 1), [127; 512]);
    assert_eq!(driver.sector(0), [0; 512]);
}

#[test]
fn a_read_only_disk_refuses_every_change() {
    let mut driver = Driver::new(true);
    let features = driver.harness.device.spec().features;
    assert_ne!(features & 1 << VIRTIO_BLK_F_RO, 0);
    assert_eq!(features & 1 << VIRTIO_BLK_F_DISCARD, 0);
    assert_eq!(
        driver.request(VIRTIO_BLK_T_OUT, 1, &[9; 512], 0, 0).0,
        IO_ERROR
    );
    let all = range(0, 8, 0);
    assert_eq!(
        driver.request(VIRTIO_BLK_T_DISCARD, 0, &all, 0, 0).0,
        UNSUPPORTED
    );
    assert_eq!(
        driver.request(VIRTIO_BLK_T_WRITE_ZEROES, 0, &all, 0, 0).0,
        UNSUPPORTED
    );
    assert_eq!(driver.sector(1), [1; 512]);
    assert_eq!(
        driver.request(VIRTIO_BLK_T_IN, 1, &[], 512, 0),
        (OK, vec![1; 512])
    );
}

#[test]
fn the_id_needs_its_twenty_bytes() {
    let mut driver = Driver::new(false);
    for room in [0, 1, 19] {
        let (status, data) = driver.request(VIRTIO_BLK_T_GET_ID, 0, &[], room, 0);
        assert_eq!(status, IO_ERROR);
        assert!(data.iter().all(|byte| *byte == 0xee));
    }
    for room in [20, 512] {
        let (status, data) = driver.request(VIRTIO_BLK_T_GET_ID, 0, &[], room, 3);
        assert_eq!(status, OK);
        assert_eq!(&data[..20], b"disk-1\0\0\0\0\0\0\0\0\0\0\0\0\0\0");
    }
    let long = BlockOptions {
        id: "x".repeat(21),
        ..BlockOptions::default()
    };
    assert!(matches!(
        Block::new(image(), long),
        Err(BlockError::Id { bytes: 21 })
    ));
}

#[test]
fn unknown_requests_are_unsupported() {
    let mut driver = Driver::new(false);
    for kind in [2, 3, 5, 7, 9, 10, 12, 14, 0xffff_ffff] {
        assert_eq!(
            driver.request(kind, 0, &[1; 512], 512, 0).0,
            UNSUPPORTED,
            "{kind}"
        );
    }
}

#[test]
fn a_request_without_header_or_status_is_a_fault() {
    for buffers in [
        &[Buffer::readable(0x10_0000, 16)][..],
        &[Buffer::writable(0x10_0000, 16)],
        &[
            Buffer::readable(0x10_0000, 15),
            Buffer::writable(0x11_0000, 1),
        ],
    ] {
        let mut driver = Driver::new(false);
        driver.harness.queues[0].offer(buffers).unwrap();
        driver.harness.kick(0);
        assert!(matches!(
            driver.harness.settle(5),
            Err(Fault::Malformed { .. })
        ));
    }
}

#[test]
fn ranges_are_zeroed_and_discarded() {
    for unmap in [0, VIRTIO_BLK_WRITE_ZEROES_FLAG_UNMAP] {
        let mut driver = Driver::new(false);
        let mut two = range(8, 8, unmap);
        two.extend(range(40, 1, unmap));
        let (status, _) = driver.request(VIRTIO_BLK_T_WRITE_ZEROES, 0, &two, 0, 20);
        assert_eq!(status, OK);
        assert_eq!(driver.sector(7), [7; 512]);
        assert_eq!(driver.sector(8), [0; 512]);
        assert_eq!(driver.sector(15), [0; 512]);
        assert_eq!(driver.sector(16), [16; 512]);
        assert_eq!(driver.sector(40), [0; 512]);
        assert_eq!(driver.sector(41), [41; 512]);
    }
    let mut driver = Driver::new(false);
    let before = driver.file.metadata().unwrap();
    let whole = range(0, u32::try_from(SECTORS).unwrap(), 0);
    assert_eq!(driver.request(VIRTIO_BLK_T_DISCARD, 0, &whole, 0, 0).0, OK);
    let after = driver.file.metadata().unwrap();
    assert_eq!(after.len(), before.len());
    assert!(after.blocks() <= before.blocks());
}

#[test]
fn a_bad_range_changes_nothing() {
    let mut driver = Driver::new(false);
    let good = range(8, 1, 0);
    for (bad, status) in [
        (range(SECTORS, 1, 0), IO_ERROR),
        (range(SECTORS - 1, 2, 0), IO_ERROR),
        (range(u64::MAX, 1, 0), IO_ERROR),
        (range(1, u32::MAX, 0), IO_ERROR),
        (range(1, 1, 2), UNSUPPORTED),
        (vec![0; 15], IO_ERROR),
    ] {
        let both = [good.clone(), bad].concat();
        assert_eq!(
            driver.request(VIRTIO_BLK_T_WRITE_ZEROES, 0, &both, 0, 0).0,
            status
        );
    }
    let unmap = range(8, 1, VIRTIO_BLK_WRITE_ZEROES_FLAG_UNMAP);
    assert_eq!(
        driver.request(VIRTIO_BLK_T_DISCARD, 0, &unmap, 0, 0).0,
        UNSUPPORTED
    );
    assert_eq!(
        driver.request(VIRTIO_BLK_T_DISCARD, 0, &[], 0, 0).0,
        IO_ERROR
    );
    let many = good.repeat(17);
    assert_eq!(
        driver.request(VIRTIO_BLK_T_DISCARD, 0, &many, 0, 0).0,
        IO_ERROR
    );
    assert_eq!(driver.sector(8), [8; 512]);
}

#[test]
fn a_file_that_shrinks_is_an_error_and_no_spin() {
    let mut driver = Driver::new(false);
    driver.file.set_len(512).unwrap();
    assert_eq!(driver.request(VIRTIO_BLK_T_IN, 4, &[], 512, 0).0, IO_ERROR);
    assert_eq!(driver.harness.device.host_errors(), 1);
    assert_eq!(driver.request(VIRTIO_BLK_T_IN, 0, &[], 512, 0).0, OK);
}

#[test]
fn what_is_served_is_counted_and_nothing_else() {
    let mut driver = Driver::new(false);
    let counters = driver.harness.device.counters();
    let numbers = || {
        [
            counters.read_ops(),
            counters.read_bytes(),
            counters.write_ops(),
            counters.write_bytes(),
            counters.flushes(),
        ]
    };
    assert_eq!(numbers(), [0; 5]);
    driver.request(VIRTIO_BLK_T_IN, 5, &[], 1024, 700);
    driver.request(VIRTIO_BLK_T_OUT, 7, &[1; 1536], 0, 0);
    driver.request(VIRTIO_BLK_T_OUT, 7, &[1; 512], 0, 0);
    driver.request(VIRTIO_BLK_T_FLUSH, 0, &[], 0, 0);
    assert_eq!(numbers(), [1, 1024, 2, 2048, 1]);
    // Others, refused ones, and ones that the host fails.
    driver.request(VIRTIO_BLK_T_GET_ID, 0, &[], 20, 0);
    driver.request(VIRTIO_BLK_T_DISCARD, 0, &range(0, 8, 0), 0, 0);
    driver.request(VIRTIO_BLK_T_IN, SECTORS, &[], 512, 0);
    driver.file.set_len(512).unwrap();
    driver.request(VIRTIO_BLK_T_IN, 4, &[], 512, 0);
    assert_eq!(numbers(), [1, 1024, 2, 2048, 1]);
}

/// Passes on what it hears.
#[derive(Debug)]
struct Passes(mpsc::Sender<String>);

impl HostErrors for Passes {
    fn heard(&mut self, error: &io::Error) {
        self.0.send(error.to_string()).unwrap();
    }
}

#[test]
fn what_the_host_fails_is_told_once() {
    let file = image();
    let mut device = Block::new(file.try_clone().unwrap(), options(false)).unwrap();
    let (sender, heard) = mpsc::channel();
    device.tell_host_errors(Box::new(Passes(sender)));
    let mut driver = Driver::with(device, file);
    driver.file.set_len(512).unwrap();
    for _ in 0..3 {
        assert_eq!(driver.request(VIRTIO_BLK_T_IN, 4, &[], 512, 0).0, IO_ERROR);
    }
    assert_eq!(heard.try_iter().count(), 1);
    // What the guest gets wrong is not the host's.
    driver.request(VIRTIO_BLK_T_IN, SECTORS, &[], 512, 0);
    assert_eq!(heard.try_iter().count(), 0);
}

#[test]
fn a_full_host_is_an_error_to_the_guest_and_is_named() {
    // Every write to it is answered with ENOSPC.
    let full = File::options().read(true).write(true).open("/dev/full");
    let extent = Extent {
        file: std::sync::Arc::new(full.unwrap()),
        offset: 0,
        len: SECTORS * 512,
    };
    let backing = Backing::extents(vec![extent]).unwrap();
    let mut device = Block::with_backing(backing, options(false)).unwrap();
    let (sender, heard) = mpsc::channel();
    device.tell_host_errors(Box::new(Passes(sender)));
    let mut driver = Driver::with(device, image());
    for _ in 0..2 {
        let (status, _) = driver.request(VIRTIO_BLK_T_OUT, 1, &[1; 512], 0, 0);
        assert_eq!(status, IO_ERROR);
    }
    let told: Vec<_> = heard.try_iter().collect();
    assert_eq!(told.len(), 1);
    assert!(told[0].contains("No space left"), "{told:?}");
}

#[test]
fn what_cannot_be_a_disk_is_refused() {
    let directory = File::open("/").unwrap();
    assert!(matches!(
        Block::new(directory, options(true)),
        Err(BlockError::NotADisk)
    ));
    let null = File::open("/dev/null").unwrap();
    assert!(matches!(
        Block::new(null, options(true)),
        Err(BlockError::NotADisk)
    ));
    let empty = tempfile::tempfile().unwrap();
    assert!(matches!(
        Block::new(empty, options(true)),
        Err(BlockError::Empty)
    ));
    let ragged = tempfile::tempfile().unwrap();
    ragged.set_len(1000).unwrap();
    let refused = Block::new(ragged, options(true));
    assert!(matches!(
        refused,
        Err(BlockError::PartialSector { bytes: 1000 })
    ));
}

#[test]
fn a_full_queue_is_served_with_few_interrupts() {
    let mut driver = Driver::new(false);
    let base = driver.harness.data();
    driver.harness.mem.write(base, &[0; 16]).unwrap();
    let request = [
        Buffer::readable(base, 16),
        Buffer::writable(base + 0x1000, 513),
    ];
    let mut offered = 0;
    while driver.harness.queues[0].offer(&request).is_some() {
        offered += 1;
    }
    assert_eq!(offered, 128);
    driver.harness.kick_if_wanted();
    driver.harness.settle(10).unwrap();
    assert!(driver.harness.take_interrupt());
    let mut served = 0;
    while driver.harness.queues[0].take_used().is_some() {
        served += 1;
    }
    assert_eq!(served, offered);
}

#[test]
fn the_configuration_is_that_of_the_disk() {
    let device = Block::new(image(), options(false)).unwrap();
    let mut raw = [0; 60];
    device.config().read(0, &mut raw);
    assert_eq!(raw[..8], SECTORS.to_le_bytes());
    assert_eq!(raw[20..24], 512u32.to_le_bytes());
}
