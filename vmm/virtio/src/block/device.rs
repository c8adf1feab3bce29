//! The block device: requests off the queue, system calls, statuses back.

use std::fs::File;
use std::io;
use std::num::NonZeroUsize;
use std::sync::Arc;

use virtio_bindings::virtio_blk::{
    VIRTIO_BLK_F_BLK_SIZE, VIRTIO_BLK_F_DISCARD, VIRTIO_BLK_F_FLUSH, VIRTIO_BLK_F_RO,
    VIRTIO_BLK_F_SEG_MAX, VIRTIO_BLK_F_SIZE_MAX, VIRTIO_BLK_F_WRITE_ZEROES, VIRTIO_BLK_ID_BYTES,
};

use super::backing::{Backing, BlockError};
use super::counters::BlockCounters;
use super::request::{
    Disk, HEADER_BYTES, MAX_DISCARD_SECTORS, MAX_RANGES, MAX_ZERO_SECTORS, RANGE_BYTES, Range,
    Request, SECTOR, Status, parse,
};
use crate::{
    COMMON_FEATURES, Chain, ConfigSpace, Device, Fault, GuestRam, Live, Pace, Placement, Queue,
    Register, Spec, StartError, Tag,
};

/// Descriptors in the queue.
const QUEUE_SIZE: u16 = 256;
/// Most segments of data in a request; two more descriptors hold the header and the status.
const SEG_MAX: u32 = 126;
/// Most bytes in a segment. `SEG_MAX` of these stay below the most that a request may carry.
const SIZE_MAX: u32 = 256 << 10;
/// The driver is told of requests in between, and the loop may do something else after them, such as stop the device.
const PACE: Pace = Pace {
    batch: 64,
    signal_every: NonZeroUsize::new(8),
};

/// How a disk is shown to the guest.
#[derive(Clone, Debug, Default)]
pub struct BlockOptions {
    /// The guest may not write.
    pub read_only: bool,
    /// Serial of the disk, at most 20 bytes; Linux shows it as `/sys/block/vda/serial`.
    pub id: String,
}

/// Who is told what goes wrong with the host's side of a disk.
pub trait HostErrors: Send + std::fmt::Debug {
    /// A request failed for this reason. Each reason is told once.
    fn heard(&mut self, error: &io::Error);
}

/// A disk.
#[derive(Debug)]
pub struct Block {
    spec: Spec,
    config: Arc<ConfigSpace>,
    backing: Backing,
    disk: Disk,
    id: [u8; VIRTIO_BLK_ID_BYTES as usize],
    live: Option<Live>,
    counters: Arc<BlockCounters>,
    /// Requests that the host failed, since the device was made.
    host_errors: u64,
    /// The error numbers that were told of; 0 for a file that was cut short.
    told: Vec<i32>,
    listener: Option<Box<dyn HostErrors>>,
}

impl Block {
    /// A disk that is all of `file`, which is open for reading and, unless `read_only`, writing.
    pub fn new(file: File, options: BlockOptions) -> Result<Self, BlockError> {
        Self::with_backing(Backing::whole(file)?, options)
    }

    /// A disk over any backing. One put together from several extents should be `read_only`.
    pub fn with_backing(backing: Backing, options: BlockOptions) -> Result<Self, BlockError> {
        let mut id = [0; VIRTIO_BLK_ID_BYTES as usize];
        let bytes = options.id.as_bytes();
        id.get_mut(..bytes.len())
            .ok_or(BlockError::Id { bytes: bytes.len() })?
            .copy_from_slice(bytes);
        let disk = Disk {
            sectors: backing.sectors(),
            read_only: options.read_only,
            discard: backing.can_discard() && !options.read_only,
        };
        let mut features = COMMON_FEATURES
            | 1 << VIRTIO_BLK_F_SIZE_MAX
            | 1 << VIRTIO_BLK_F_SEG_MAX
            | 1 << VIRTIO_BLK_F_BLK_SIZE
            | 1 << VIRTIO_BLK_F_FLUSH;
        if disk.read_only {
            features |= 1 << VIRTIO_BLK_F_RO;
        }
        if disk.discard {
            features |= 1 << VIRTIO_BLK_F_DISCARD | 1 << VIRTIO_BLK_F_WRITE_ZEROES;
        }
        Ok(Self {
            spec: Spec {
                kind: virtio_bindings::virtio_ids::VIRTIO_ID_BLOCK,
                name: "block",
                features,
                queue_sizes: vec![QUEUE_SIZE],
                placement: Placement::Own,
            },
            config: ConfigSpace::new(&config_bytes(&disk)),
            backing,
            disk,
            id,
            live: None,
            counters: Arc::default(),
            host_errors: 0,
            told: Vec::new(),
            listener: None,
        })
    }

    /// What was served since the device was made.
    pub fn counters(&self) -> Arc<BlockCounters> {
        Arc::clone(&self.counters)
    }

    /// Bytes of the file that the guest may write to: none of a disk that is read-only.
    pub fn writable_bytes(&self) -> u64 {
        if self.disk.read_only {
            0
        } else {
            self.disk.sectors.saturating_mul(SECTOR)
        }
    }

    /// Files that the disk is in, at most: a file that has several stretches of it counts for each.
    pub fn files(&self) -> u64 {
        self.backing.files()
    }

    /// Has somebody told of what the host cannot serve.
    pub fn tell_host_errors(&mut self, listener: Box<dyn HostErrors>) {
        self.listener = Some(listener);
    }

    /// Requests that the host's file failed to serve, since the device was made.
    pub fn host_errors(&self) -> u64 {
        self.host_errors
    }

    /// Serves one request. The first number is of data bytes written to the chain.
    fn serve(&mut self, mem: &GuestRam, chain: &Chain, durable: bool) -> Result<u32, Fault> {
        let malformed = |problem| Fault::Malformed {
            device: "block",
            problem,
        };
        let room = chain
            .writable_len()
            .checked_sub(1)
            .ok_or_else(|| malformed("a request without a status byte"))?;
        let readable = chain
            .readable_len()
            .checked_sub(HEADER_BYTES)
            .ok_or_else(|| malformed("a request without a whole header"))?;
        let mut header = [0; HEADER_BYTES as usize];
        chain.read_at(mem, 0, &mut header)?;
        let (status, written) = match parse(&header, readable, room, &self.disk) {
            Err(status) => (status, 0),
            Ok(request) => match self.execute(mem, chain, request, durable)? {
                Ok(written) => {
                    self.counters.count(request);
                    (Status::Ok, written)
                }
                Err(status) => (status, 0),
            },
        };
        chain.write_at(mem, room, &[status.byte()])?;
        Ok(written + 1)
    }

    /// Carries a good request out. The outer error is the guest's, the inner one the status.
    fn execute(
        &mut self,
        mem: &GuestRam,
        chain: &Chain,
        request: Request,
        durable: bool,
    ) -> Result<Result<u32, Status>, Fault> {
        let done = match request {
            Request::Read { offset, len } => {
                let pieces = |at, n| chain.writable_iovecs(mem, at, n);
                let done = self.transfer(offset, len, |backing, disk_at, at, n| {
                    Ok(backing.read(disk_at, &pieces(at, n)?))
                })?;
                done.map(|()| len)
            }
            Request::Write { offset, len } => {
                let pieces = |at, n| chain.readable_iovecs(mem, HEADER_BYTES + at, n);
                let done = self.transfer(offset, len, |backing, disk_at, at, n| {
                    Ok(backing.write(disk_at, &pieces(at, n)?))
                })?;
                done.and_then(|()| self.settle(durable)).map(|()| 0)
            }
            // Nothing was written to it, and it may be hundreds of files.
            Request::Flush if self.disk.read_only => Ok(0),
            Request::Flush => self.backing.sync().map(|()| 0),
            Request::GetId => {
                chain.write_at(mem, 0, &self.id)?;
                Ok(VIRTIO_BLK_ID_BYTES)
            }
            Request::Discard { ranges } => match self.ranges(mem, chain, ranges, false)? {
                Err(status) => return Ok(Err(status)),
                Ok(ranges) => ranges
                    .iter()
                    .try_for_each(|range| self.backing.discard(range.offset, range.len))
                    .and_then(|()| self.settle(durable))
                    .map(|()| 0),
            },
            Request::WriteZeroes { ranges } => match self.ranges(mem, chain, ranges, true)? {
                Err(status) => return Ok(Err(status)),
                Ok(ranges) => ranges
                    .iter()
                    .try_for_each(|range| self.backing.zero(range.offset, range.len, range.unmap))
                    .and_then(|()| self.settle(durable))
                    .map(|()| 0),
            },
        };
        Ok(done.map_err(|error| self.failed(&error)))
    }

    /// Moves `len` bytes, as many system calls as it takes. The outer error is the guest's.
    fn transfer(
        &self,
        offset: u64,
        len: u32,
        step: impl Fn(&Backing, u64, u32, usize) -> Result<io::Result<u64>, Fault>,
    ) -> Result<io::Result<()>, Fault> {
        let mut done = 0;
        while done < len {
            let disk_at = offset + u64::from(done);
            let here = self.backing.contiguous(disk_at, u64::from(len - done));
            let here = usize::try_from(here).unwrap_or(usize::MAX);
            match step(&self.backing, disk_at, done, here)? {
                // Never more than was asked for, so it fits.
                Ok(moved) => done += u32::try_from(moved).unwrap_or(u32::MAX).min(len - done),
                Err(error) => return Ok(Err(error)),
            }
        }
        Ok(Ok(()))
    }

    /// Copies the ranges out and judges all of them before any is acted on.
    fn ranges(
        &self,
        mem: &GuestRam,
        chain: &Chain,
        count: u32,
        zeroes: bool,
    ) -> Result<Result<Vec<Range>, Status>, Fault> {
        let mut raw = [0; (MAX_RANGES * RANGE_BYTES) as usize];
        let len = usize::try_from(count * RANGE_BYTES).unwrap_or_default();
        let raw = raw.get_mut(..len).unwrap_or_default();
        chain.read_at(mem, HEADER_BYTES, raw)?;
        let (entries, _) = raw.as_chunks::<{ RANGE_BYTES as usize }>();
        Ok(entries
            .iter()
            .map(|entry| Range::parse(entry, zeroes, &self.disk))
            .collect())
    }

    /// What a driver that cannot flush is promised after every change.
    fn settle(&self, durable: bool) -> io::Result<()> {
        if durable { self.backing.sync() } else { Ok(()) }
    }

    fn failed(&mut self, error: &io::Error) -> Status {
        // A failing disk fails many requests: say each reason once, count the rest. There are no more
        // reasons than the host has error numbers.
        let reason = error.raw_os_error().unwrap_or(0);
        if !self.told.contains(&reason) {
            self.told.push(reason);
            tracing::warn!(%error, "the host cannot serve a disk request");
            if let Some(listener) = &mut self.listener {
                listener.heard(error);
            }
        }
        self.host_errors += 1;
        Status::IoError
    }

    fn work(&mut self, live: &mut Live) -> Result<(), Fault> {
        let durable = live.features & (1 << VIRTIO_BLK_F_FLUSH) == 0;
        live.serve_first(PACE, |mem, chain| self.serve(mem, chain, durable))
    }
}

impl Device for Block {
    fn spec(&self) -> &Spec {
        &self.spec
    }

    fn config(&self) -> Arc<ConfigSpace> {
        Arc::clone(&self.config)
    }

    fn start(&mut self, live: Live, reg: &mut dyn Register) -> Result<(), StartError> {
        let live = self.live.insert(live);
        live.register_kicks(&self.spec, reg)
    }

    fn ready(&mut self, tag: Tag, _reg: &mut dyn Register) -> Result<(), Fault> {
        let Some(mut live) = self.live.take_if(|_| tag == Tag::queue(0)) else {
            return Ok(());
        };
        let result = self.work(&mut live);
        self.live = Some(live);
        result
    }

    fn stop(&mut self) -> Vec<Queue> {
        // Requests are served within `ready`, so none is in flight here.
        self.live.take().map(|live| live.queues).unwrap_or_default()
    }
}

/// `struct virtio_blk_config` (virtio 1.2, section 5.2.4).
fn config_bytes(disk: &Disk) -> [u8; 60] {
    let mut bytes = [0; 60];
    let mut put = |offset: usize, value: &[u8]| {
        if let Some(field) = bytes.get_mut(offset..offset + value.len()) {
            field.copy_from_slice(value);
        }
    };
    put(0, &disk.sectors.to_le_bytes());
    put(8, &SIZE_MAX.to_le_bytes());
    put(12, &SEG_MAX.to_le_bytes());
    put(20, &512u32.to_le_bytes());
    put(34, &1u16.to_le_bytes());
    if disk.discard {
        put(36, &MAX_DISCARD_SECTORS.to_le_bytes());
        put(40, &MAX_RANGES.to_le_bytes());
        put(44, &8u32.to_le_bytes());
        put(48, &MAX_ZERO_SECTORS.to_le_bytes());
        put(52, &MAX_RANGES.to_le_bytes());
        put(56, &[1]);
    }
    bytes
}
