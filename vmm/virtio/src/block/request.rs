//! What a driver asks of a disk, and whether it may have it. Pure: numbers in, numbers out.

use virtio_bindings::virtio_blk::{
    VIRTIO_BLK_ID_BYTES, VIRTIO_BLK_S_IOERR, VIRTIO_BLK_S_OK, VIRTIO_BLK_S_UNSUPP,
    VIRTIO_BLK_T_DISCARD, VIRTIO_BLK_T_FLUSH, VIRTIO_BLK_T_GET_ID, VIRTIO_BLK_T_IN,
    VIRTIO_BLK_T_OUT, VIRTIO_BLK_T_WRITE_ZEROES, VIRTIO_BLK_WRITE_ZEROES_FLAG_UNMAP,
};

/// Bytes of a sector, whatever the block size of the medium.
pub(crate) const SECTOR: u64 = 512;
/// Bytes of a request header: type, a reserved word, first sector.
pub(crate) const HEADER_BYTES: u32 = 16;
/// Bytes of one range in a discard or write-zeroes request: first sector, count, flags.
pub(crate) const RANGE_BYTES: u32 = 16;
/// Most data in one read or write. With the segment limits that the device announces, no driver
/// goes beyond it; it bounds how long one request keeps the device from being stopped.
pub(crate) const MAX_DATA: u32 = 32 << 20;
/// Most ranges in one discard or write-zeroes request.
pub(crate) const MAX_RANGES: u32 = 16;
/// Most sectors in one range of a discard request: 1 GiB.
pub(crate) const MAX_DISCARD_SECTORS: u32 = 1 << 21;
/// Most sectors in one range of a write-zeroes request: 16 MiB, since they may have to be written.
pub(crate) const MAX_ZERO_SECTORS: u32 = 1 << 15;

/// The disk, as far as it decides whether a request is good.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Disk {
    /// Capacity in sectors.
    pub sectors: u64,
    /// Writes are refused.
    pub read_only: bool,
    /// Discard and write-zeroes requests are served.
    pub discard: bool,
}

/// The status byte that ends a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Status {
    /// Done.
    Ok,
    /// The host failed, or the request is outside what the disk allows.
    IoError,
    /// The disk does not know this kind of request.
    Unsupported,
}

impl Status {
    /// The byte.
    pub(crate) fn byte(self) -> u8 {
        let value = match self {
            Self::Ok => VIRTIO_BLK_S_OK,
            Self::IoError => VIRTIO_BLK_S_IOERR,
            Self::Unsupported => VIRTIO_BLK_S_UNSUPP,
        };
        u8::try_from(value).unwrap_or(u8::MAX)
    }
}

/// A request that is within the disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Request {
    /// Fill `len` bytes of the writable part from byte `offset` of the disk.
    Read {
        /// Byte on the disk.
        offset: u64,
        /// Bytes.
        len: u32,
    },
    /// Take `len` bytes of the readable part, after the header, to byte `offset` of the disk.
    Write {
        /// Byte on the disk.
        offset: u64,
        /// Bytes.
        len: u32,
    },
    /// Make all completed writes durable.
    Flush,
    /// Write the disk's serial, 20 bytes.
    GetId,
    /// Forget these ranges: `ranges` of them follow the header.
    Discard {
        /// How many.
        ranges: u32,
    },
    /// Make these ranges read as zeros: `ranges` of them follow the header.
    WriteZeroes {
        /// How many.
        ranges: u32,
    },
}

/// Judges a request: its header, how many readable bytes follow the header, and how many writable
/// bytes precede the status.
pub(crate) fn parse(
    header: &[u8; 16],
    readable: u32,
    writable: u32,
    disk: &Disk,
) -> Result<Request, Status> {
    let [t0, t1, t2, t3, _, _, _, _, s0, s1, s2, s3, s4, s5, s6, s7] = *header;
    let kind = u32::from_le_bytes([t0, t1, t2, t3]);
    let sector = u64::from_le_bytes([s0, s1, s2, s3, s4, s5, s6, s7]);
    let change = |request| {
        if disk.read_only {
            Err(Status::IoError)
        } else {
            Ok(request)
        }
    };
    match kind {
        VIRTIO_BLK_T_IN => {
            let offset = data(sector, writable, disk)?;
            Ok(Request::Read {
                offset,
                len: writable,
            })
        }
        VIRTIO_BLK_T_OUT => {
            let offset = data(sector, readable, disk)?;
            change(Request::Write {
                offset,
                len: readable,
            })
        }
        VIRTIO_BLK_T_FLUSH => Ok(Request::Flush),
        VIRTIO_BLK_T_GET_ID if writable >= VIRTIO_BLK_ID_BYTES => Ok(Request::GetId),
        VIRTIO_BLK_T_GET_ID => Err(Status::IoError),
        VIRTIO_BLK_T_DISCARD if disk.discard => {
            let ranges = ranges(readable)?;
            change(Request::Discard { ranges })
        }
        VIRTIO_BLK_T_WRITE_ZEROES if disk.discard => {
            let ranges = ranges(readable)?;
            change(Request::WriteZeroes { ranges })
        }
        _ => Err(Status::Unsupported),
    }
}

/// A stretch of the disk, in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Range {
    /// First byte.
    pub offset: u64,
    /// Bytes.
    pub len: u64,
    /// The space may be given back to the host's file system.
    pub unmap: bool,
}

impl Range {
    /// Judges one range of a discard (`zeroes` false) or write-zeroes request.
    pub(crate) fn parse(raw: &[u8; 16], zeroes: bool, disk: &Disk) -> Result<Self, Status> {
        let [
            s0,
            s1,
            s2,
            s3,
            s4,
            s5,
            s6,
            s7,
            n0,
            n1,
            n2,
            n3,
            f0,
            f1,
            f2,
            f3,
        ] = *raw;
        let sector = u64::from_le_bytes([s0, s1, s2, s3, s4, s5, s6, s7]);
        let count = u32::from_le_bytes([n0, n1, n2, n3]);
        let flags = u32::from_le_bytes([f0, f1, f2, f3]);
        // Virtio 1.2, section 5.2.6.2: unknown flags, and unmap on a discard, are unsupported.
        let unmap = flags & VIRTIO_BLK_WRITE_ZEROES_FLAG_UNMAP != 0;
        if flags & !VIRTIO_BLK_WRITE_ZEROES_FLAG_UNMAP != 0 || (unmap && !zeroes) {
            return Err(Status::Unsupported);
        }
        let most = if zeroes {
            MAX_ZERO_SECTORS
        } else {
            MAX_DISCARD_SECTORS
        };
        if count > most {
            return Err(Status::IoError);
        }
        let len = u64::from(count) * SECTOR;
        let offset = within(sector, len, disk)?;
        Ok(Self { offset, len, unmap })
    }
}

/// The byte at which `len` bytes of data from `sector` start, if all of them are on the disk.
fn data(sector: u64, len: u32, disk: &Disk) -> Result<u64, Status> {
    if len == 0 || len > MAX_DATA || !u64::from(len).is_multiple_of(SECTOR) {
        return Err(Status::IoError);
    }
    within(sector, u64::from(len), disk)
}

fn within(sector: u64, len: u64, disk: &Disk) -> Result<u64, Status> {
    let end = sector.checked_add(len / SECTOR);
    if end.is_none_or(|end| end > disk.sectors) {
        return Err(Status::IoError);
    }
    sector.checked_mul(SECTOR).ok_or(Status::IoError)
}

fn ranges(readable: u32) -> Result<u32, Status> {
    let count = readable / RANGE_BYTES;
    if count == 0 || count > MAX_RANGES || !readable.is_multiple_of(RANGE_BYTES) {
        return Err(Status::IoError);
    }
    Ok(count)
}
