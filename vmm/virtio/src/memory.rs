//! Guest memory, by one name.
//!
//! The machine's memory is a few host mappings, each at a guest address; a guest address range may
//! cross from one into the next. [`GuestRam`] is the only type by which the workspace names them, so
//! nothing is generic over memory and a change of the library below touches this file.
//!
//! Beside it there may be mapped disks ([`Window`]), which nobody writes to. They are memory to the guest, and to a
//! device only where it reads: [`GuestRam::contains`] is about what can be written as well, and
//! [`GuestRam::is_readable`] about both.
//!
//! The guest writes to this memory while the host reads it. Whatever decides something is therefore
//! copied out once and judged on the copy; buffers are only ever moved by volatile copies or by
//! system calls, never seen as a Rust slice.

use std::sync::Arc;

use vm_memory::{Bytes, GuestAddress, GuestMemoryBackend, GuestMemoryMmap, GuestMemoryRegion};

use crate::iov::Iovecs;
use crate::{Fault, Window};

/// All of a guest's memory; a cheap handle that can be cloned for every thread.
#[derive(Clone, Debug)]
pub struct GuestRam(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    memory: GuestMemoryMmap<()>,
    /// Few, and none overlaps another or memory.
    windows: Vec<Window>,
}

impl GuestRam {
    /// Names memory that the machine has mapped.
    pub fn new(memory: GuestMemoryMmap<()>) -> Self {
        Self::with_windows(memory, Vec::new())
    }

    /// Names memory that the machine has mapped, and disks. None of them overlaps another, nor do they adjoin: a range
    /// that begins in one and ends in another is in none.
    pub fn with_windows(memory: GuestMemoryMmap<()>, windows: Vec<Window>) -> Self {
        Self(Arc::new(Inner { memory, windows }))
    }

    /// The mappings themselves, of memory that can be written.
    pub fn inner(&self) -> &GuestMemoryMmap<()> {
        &self.0.memory
    }

    /// The disks that are mapped.
    pub fn windows(&self) -> &[Window] {
        &self.0.windows
    }

    /// Whether all `len` bytes from `addr` are memory that can be written: inside one region, or several that adjoin.
    /// An empty range is contained nowhere.
    pub fn contains(&self, addr: u64, len: u64) -> bool {
        let Some(end) = addr.checked_add(len) else {
            return false;
        };
        let mut at = addr;
        while at < end {
            let Some(region) = self.0.memory.find_region(GuestAddress(at)) else {
                return false;
            };
            match region.start_addr().0.checked_add(region.len()) {
                Some(next) => at = next,
                None => return false,
            }
        }
        len > 0
    }

    /// Whether all `len` bytes from `addr` can be read: they are memory, or in one mapped disk.
    pub fn is_readable(&self, addr: u64, len: u64) -> bool {
        self.contains(addr, len) || self.window(addr, len).is_some()
    }

    /// The mapped disk that has all of these bytes, and how far into it they are.
    fn window(&self, addr: u64, len: u64) -> Option<(&Window, u64)> {
        let mut windows = self.0.windows.iter();
        windows.find_map(|window| Some((window, window.offset(addr, len)?)))
    }

    /// Copies bytes out of guest memory, or of a mapped disk, from the guest address `addr`.
    pub fn read(&self, addr: u64, out: &mut [u8]) -> Result<(), Fault> {
        match self.window(addr, out.len() as u64) {
            Some((window, offset)) => window.read(offset, out).map_err(Fault::Host),
            None => Ok(self.0.memory.read_slice(out, GuestAddress(addr))?),
        }
    }

    /// Copies bytes into guest memory, to the guest address `addr`.
    pub fn write(&self, addr: u64, bytes: &[u8]) -> Result<(), Fault> {
        Ok(self.0.memory.write_slice(bytes, GuestAddress(addr))?)
    }

    /// Adds the host's addresses of `len` bytes from `addr`, for a system call that reads them. `false`: not all of them
    /// had room.
    pub(crate) fn gather<'m>(
        &'m self,
        addr: u64,
        len: usize,
        vector: &mut Iovecs<'m>,
    ) -> Result<bool, Fault> {
        let mapped = self.window(addr, len as u64);
        match mapped.and_then(|(window, offset)| window.piece(offset, len)) {
            Some(piece) => Ok(vector.push_mapped(&piece)),
            None => self.scatter(addr, len, vector),
        }
    }

    /// The same, for a system call that fills them: only memory will do.
    pub(crate) fn scatter<'m>(
        &'m self,
        addr: u64,
        len: usize,
        vector: &mut Iovecs<'m>,
    ) -> Result<bool, Fault> {
        for slice in self.0.memory.get_slices(GuestAddress(addr), len) {
            if !vector.push(&slice?) {
                return Ok(false);
            }
        }
        Ok(true)
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
        let mut vector = Iovecs::new();
        assert!(ram.gather(0xffe, 4, &mut vector).unwrap());
        assert_eq!((vector.pieces(), vector.bytes()), (2, 4));
        assert!(ram.write(0x1fff, &[1, 2]).is_err());
    }
}
