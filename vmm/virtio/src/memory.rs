//! Guest memory, by one name.
//!
//! The machine's memory is a few host mappings, each at a guest address; a guest address range may
//! cross from one into the next. [`GuestRam`] is the only type by which the workspace names them, so
//! nothing is generic over memory and a change of the library below touches this file.
//!
//! The guest writes to this memory while the host reads it. Whatever decides something is therefore
//! copied out once and judged on the copy; buffers are only ever moved by volatile copies or by
//! system calls, never seen as a Rust slice.

use std::sync::Arc;

use vm_memory::{
    Bytes, GuestAddress, GuestMemoryBackend, GuestMemoryMmap, GuestMemoryRegion, VolatileSlice,
};

use crate::Fault;

/// All of a guest's memory; a cheap handle that can be cloned for every thread.
#[derive(Clone, Debug)]
pub struct GuestRam(Arc<GuestMemoryMmap<()>>);

impl GuestRam {
    /// Names memory that the machine has mapped.
    pub fn new(inner: GuestMemoryMmap<()>) -> Self {
        Self(Arc::new(inner))
    }

    /// The mappings themselves.
    pub fn inner(&self) -> &GuestMemoryMmap<()> {
        &self.0
    }

    /// Whether all `len` bytes from `addr` are memory: inside one region, or several that adjoin.
    /// An empty range is contained nowhere.
    pub fn contains(&self, addr: u64, len: u64) -> bool {
        let Some(end) = addr.checked_add(len) else {
            return false;
        };
        let mut at = addr;
        while at < end {
            let Some(region) = self.0.find_region(GuestAddress(at)) else {
                return false;
            };
            match region.start_addr().0.checked_add(region.len()) {
                Some(next) => at = next,
                None => return false,
            }
        }
        len > 0
    }

    /// Copies bytes out of guest memory, from the guest address `addr`.
    pub fn read(&self, addr: u64, out: &mut [u8]) -> Result<(), Fault> {
        Ok(self.0.read_slice(out, GuestAddress(addr))?)
    }

    /// Copies bytes into guest memory, to the guest address `addr`.
    pub fn write(&self, addr: u64, bytes: &[u8]) -> Result<(), Fault> {
        Ok(self.0.write_slice(bytes, GuestAddress(addr))?)
    }

    /// The host's view of `len` bytes from `addr`: one slice for each region that they cross, an
    /// error where there is no memory.
    pub fn slices(
        &self,
        addr: u64,
        len: usize,
    ) -> impl Iterator<Item = Result<VolatileSlice<'_, ()>, Fault>> {
        self.0
            .get_slices(GuestAddress(addr), len)
            .map(|slice| slice.map_err(Fault::from))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn two_regions_and_a_third_apart() -> GuestRam {
        GuestRam::new(
            GuestMemoryMmap::from_ranges(&[
                (GuestAddress(0), 0x1000),
                (GuestAddress(0x1000), 0x1000),
                (GuestAddress(0x10000), 0x1000),
            ])
            .unwrap(),
        )
    }

    #[test]
    fn contains_crosses_adjoining_regions_only() {
        let ram = two_regions_and_a_third_apart();
        assert!(ram.contains(0, 0x2000));
        assert!(ram.contains(0xfff, 2));
        assert!(ram.contains(0x10fff, 1));
        assert!(!ram.contains(0x1fff, 2));
        assert!(!ram.contains(0x10fff, 2));
        assert!(!ram.contains(0x5000, 1));
        assert!(!ram.contains(0, 0));
        assert!(!ram.contains(u64::MAX, 1));
        assert!(!ram.contains(0, u64::MAX));
    }

    #[test]
    fn bytes_cross_adjoining_regions() {
        let ram = two_regions_and_a_third_apart();
        ram.write(0xffe, &[1, 2, 3, 4]).unwrap();
        let mut back = [0; 4];
        ram.read(0xffe, &mut back).unwrap();
        assert_eq!(back, [1, 2, 3, 4]);
        let lengths: Vec<usize> = ram.slices(0xffe, 4).map(|s| s.unwrap().len()).collect();
        assert_eq!(lengths, [2, 2]);
        assert!(ram.write(0x1fff, &[1, 2]).is_err());
    }
}
