//! Guest memory: how much there is, where it lies, and the host mappings behind it.
//!
//! Memory starts at 0. Devices need addresses below 4 GiB, so there is a hole before that limit, and
//! what does not fit below the hole goes on above it. The mappings are anonymous, private and not
//! reserved: a page costs nothing until the guest touches it.

use std::fs::File;
use std::io;

use vm_memory::{Bytes, GuestAddress, GuestMemoryBackend, GuestMemoryMmap, GuestMemoryRegion};
use vmm_virtio::GuestRam;

use crate::arch::x86_64::layout;

/// Least memory of a machine: less than this holds no kernel.
pub const MIN_MEMORY: u64 = 32 << 20;

/// Memory is given out in pages.
pub const PAGE: u64 = 4096;

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
}

/// Guest memory could not be made.
#[derive(Debug, thiserror::Error)]
#[error("cannot map {bytes} bytes of guest memory")]
pub struct MapError {
    bytes: u64,
    source: Box<dyn std::error::Error + Send + Sync>,
}

/// Maps the memory of a layout.
pub fn map(ram: &RamLayout) -> Result<GuestRam, MapError> {
    let error = |source: Box<dyn std::error::Error + Send + Sync>| MapError {
        bytes: ram.bytes(),
        source,
    };
    let ranges = ram
        .ranges()
        .map(|range| Ok((GuestAddress(range.start), usize::try_from(range.len)?)))
        .collect::<Result<Vec<_>, std::num::TryFromIntError>>()
        .map_err(|e| error(e.into()))?;
    let inner = GuestMemoryMmap::from_ranges(&ranges).map_err(|e| error(e.into()))?;
    Ok(GuestRam::new(inner))
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
}

/// The host mappings behind guest memory.
pub fn mappings(ram: &GuestRam) -> impl Iterator<Item = Mapping> {
    ram.inner().iter().map(|region| Mapping {
        guest: region.start_addr().0,
        len: region.len(),
        // A pointer's address always fits in 64 bits.
        host: region.as_ptr().addr() as u64,
    })
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
    fn a_mapping_for_each_side_of_the_hole() {
        let ram = map(&RamLayout::new(layout::HOLE_START + 2 * PAGE)).unwrap();
        let all: Vec<Mapping> = mappings(&ram).collect();
        assert_eq!(all.len(), 2);
        assert_eq!((all[1].guest, all[1].len), (layout::HOLE_END, 2 * PAGE));
        assert!(ram.contains(layout::HOLE_END, 2 * PAGE));
        assert!(!ram.contains(layout::HOLE_START - 1, 2));
    }
}
