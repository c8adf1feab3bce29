//! Guest memory: how much there is, where it lies, and the host mappings behind it.
//!
//! Memory starts at 0. Devices need addresses below 4 GiB, so there is a hole before that limit, and
//! what does not fit below the hole goes on above it. The mappings are anonymous, private and not
//! reserved: a page costs nothing until the guest touches it.
//!
//! Above all memory, and apart from it, lie mapped disks: files of the host that the guest reads as if they were memory.
//! They are in no description of memory; a device of their own says where they are.

use std::fs::File;
use std::io;

use vm_memory::{Bytes, GuestAddress, GuestMemoryBackend, GuestMemoryMmap, GuestMemoryRegion};
use vmm_virtio::block::Backing;
use vmm_virtio::{GuestRam, Window};

use crate::arch::x86_64::layout;

/// Least memory of a machine: less than this holds no kernel.
pub const MIN_MEMORY: u64 = 32 << 20;

/// Memory is given out in pages.
pub const PAGE: u64 = 4096;

/// Mapped disks begin at multiples of this, so that the guest can map them in its largest pages, and none adjoins memory
/// or another: a buffer never begins in one and ends in the other.
const DISK_STEP: u64 = 1 << 30;

/// A range of guest memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RamRange {
    /// First guest address.
    pub start: u64,
    /// Length in bytes.
    pub len: u64,
}

impl RamRange {
    /// First address after it.
    pub fn end(self) -> u64 {
        self.start.saturating_add(self.len)
    }
}

/// Where a machine's memory lies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RamLayout {
    low: RamRange,
    high: Option<RamRange>,
}

impl RamLayout {
    /// Lays out this many bytes.
    pub fn new(bytes: u64) -> Self {
        let low = bytes.min(layout::HOLE_START);
        let high = bytes - low;
        Self {
            low: RamRange { start: 0, len: low },
            high: (high > 0).then_some(RamRange {
                start: layout::HOLE_END,
                len: high,
            }),
        }
    }

    /// The part below the hole, which starts at 0.
    pub fn low(&self) -> RamRange {
        self.low
    }

    /// All parts, lowest first.
    pub fn ranges(&self) -> impl Iterator<Item = RamRange> {
        [Some(self.low), self.high].into_iter().flatten()
    }

    /// Bytes in all.
    pub fn bytes(&self) -> u64 {
        self.ranges().map(|range| range.len).sum()
    }

    /// Where disks of these lengths, multiples of the step at which they may begin, can be mapped, in that order.
    /// The last number is where the last of them ends. `None`: there are not as many addresses.
    pub fn above(&self, lens: impl IntoIterator<Item = u64>) -> Option<(Vec<u64>, u64)> {
        let mut end = self
            .ranges()
            .map(RamRange::end)
            .fold(layout::HOLE_END, u64::max);
        let mut starts = Vec::new();
        for len in lens {
            let start = end.checked_add(1)?.checked_next_multiple_of(DISK_STEP)?;
            starts.push(start);
            end = start.checked_add(len)?;
        }
        Some((starts, end))
    }
}

/// A disk to be mapped.
#[derive(Debug)]
pub struct MappedDisk {
    /// First guest address.
    pub start: u64,
    /// Its bytes, in parts that begin and end at pages.
    pub files: Backing,
}

impl MappedDisk {
    /// Bytes of the process's addresses that it takes.
    pub fn addresses(&self) -> u64 {
        Window::addresses_for(self.files.bytes()).unwrap_or(u64::MAX)
    }
}

/// Guest memory could not be made.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum MapError {
    /// Memory that can be written.
    #[error("cannot map {bytes} bytes of guest memory")]
    Memory {
        /// Bytes of it.
        bytes: u64,
        /// Why not.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// A disk.
    #[error("cannot map a disk of {bytes} bytes; attach it as a plain disk")]
    Disk {
        /// Bytes of it.
        bytes: u64,
        /// Why not.
        #[source]
        source: io::Error,
    },
}

/// Maps the memory of a layout, and disks.
pub fn map(ram: &RamLayout, disks: Vec<MappedDisk>) -> Result<GuestRam, MapError> {
    let error = |source: Box<dyn std::error::Error + Send + Sync>| MapError::Memory {
        bytes: ram.bytes(),
        source,
    };
    let ranges = ram
        .ranges()
        .map(|range| Ok((GuestAddress(range.start), usize::try_from(range.len)?)))
        .collect::<Result<Vec<_>, std::num::TryFromIntError>>()
        .map_err(|e| error(e.into()))?;
    let inner = GuestMemoryMmap::from_ranges(&ranges).map_err(|e| error(e.into()))?;
    let windows = disks
        .into_iter()
        .map(|MappedDisk { start, files }| {
            let bytes = files.bytes();
            Window::map(start, files).map_err(|source| MapError::Disk { bytes, source })
        })
        .collect::<Result<_, _>>()?;
    Ok(GuestRam::with_windows(inner, windows))
}

/// A mapping of guest memory, as KVM is told of it.
#[derive(Clone, Copy, Debug)]
pub struct Mapping {
    /// First guest address.
    pub guest: u64,
    /// Length in bytes.
    pub len: u64,
    /// First host address.
    pub host: u64,
    /// The guest cannot write to it.
    pub read_only: bool,
}

/// The host mappings behind guest memory and mapped disks.
pub fn mappings(ram: &GuestRam) -> impl Iterator<Item = Mapping> {
    let memory = ram.inner().iter().map(|region| Mapping {
        guest: region.start_addr().0,
        len: region.len(),
        // A pointer's address always fits in 64 bits.
        host: region.as_ptr().addr() as u64,
        read_only: false,
    });
    let disks = ram.windows().iter().map(|window| Mapping {
        guest: window.start(),
        len: window.len(),
        host: window.host(),
        read_only: true,
    });
    memory.chain(disks)
}

/// Reads `len` bytes of a file, from its current position, to a guest address. The bytes go from the
/// page cache to guest memory without a buffer in between.
pub fn read_file(ram: &GuestRam, file: &mut File, address: u64, len: u64) -> io::Result<()> {
    let len = usize::try_from(len).map_err(io::Error::other)?;
    ram.inner()
        .read_exact_volatile_from(GuestAddress(address), file, len)
        .map_err(io::Error::other)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn memory_never_lies_in_the_hole(bytes in 1u64..1 << 42) {
            let ram = RamLayout::new(bytes);
            prop_assert_eq!(ram.bytes(), bytes);
            for range in ram.ranges() {
                prop_assert!(range.len > 0);
                prop_assert!(range.end() <= layout::HOLE_START || range.start >= layout::HOLE_END);
            }
        }
    }

    #[test]
    fn disks_lie_above_memory_and_apart() {
        for memory in [
            MIN_MEMORY,
            layout::HOLE_START,
            layout::HOLE_START + PAGE,
            1 << 40,
        ] {
            let ram = RamLayout::new(memory);
            let lens = [2 << 20, 1 << 30, (1 << 30) + (2 << 20), 4 << 30];
            let (starts, end) = ram.above(lens).unwrap();
            let mut last = ram.ranges().map(RamRange::end).max().unwrap();
            for (start, len) in starts.into_iter().zip(lens) {
                assert!(start > last && start > layout::HOLE_END);
                assert_eq!(start % DISK_STEP, 0);
                last = start + len;
            }
            assert_eq!(last, end);
            assert!(ram.above([u64::MAX - DISK_STEP]).is_none());
        }
    }

    #[test]
    fn a_disk_is_mapped_to_be_read() {
        let file = tempfile::tempfile().unwrap();
        file.set_len(3 * PAGE).unwrap();
        let disk = MappedDisk {
            start: 5 << 30,
            files: Backing::whole(file).unwrap(),
        };
        let ram = map(&RamLayout::new(MIN_MEMORY), vec![disk]).unwrap();
        let all: Vec<Mapping> = mappings(&ram).collect();
        assert_eq!(all.len(), 2);
        assert!(!all[0].read_only && all[1].read_only);
        assert_eq!((all[1].guest, all[1].len), (5 << 30, 2 << 20));
        assert!(all[1].host.is_multiple_of(2 << 20));
    }

    #[test]
    fn a_mapping_for_each_side_of_the_hole() {
        let ram = map(&RamLayout::new(layout::HOLE_START + 2 * PAGE), Vec::new()).unwrap();
        let all: Vec<Mapping> = mappings(&ram).collect();
        assert_eq!(all.len(), 2);
        assert_eq!((all[1].guest, all[1].len), (layout::HOLE_END, 2 * PAGE));
        assert!(ram.contains(layout::HOLE_END, 2 * PAGE));
        assert!(!ram.contains(layout::HOLE_START - 1, 2));
    }
}
