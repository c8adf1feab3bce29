//! Address range to device: what answers where the guest has no memory, and at its I/O ports.
//!
//! A bus is filled while the machine is built and never changes after, so every vCPU thread reads it
//! without a lock. An address that belongs to nobody reads as all ones and swallows writes, as an
//! empty bus does; so does an access that runs out of the range in which it starts.

use std::fmt;
use std::sync::Arc;

/// Something on a bus. Called by any vCPU thread, by several at once.
pub trait BusDevice: Send + Sync + fmt::Debug {
    /// The guest reads at `offset` from the start of the range. `out` is all ones before.
    fn read(&self, offset: u64, out: &mut [u8]);
    /// The guest writes at `offset` from the start of the range.
    fn write(&self, offset: u64, bytes: &[u8]);
}

/// A range could not be given to a device.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum BusError {
    /// The range is empty or goes beyond the last address.
    #[error("a device range of {len:#x} at {start:#x} is empty or beyond the last address")]
    Range {
        /// First address.
        start: u64,
        /// Length.
        len: u64,
    },
    /// Another device has some of it.
    #[error("the device range at {start:#x} is taken")]
    Overlap {
        /// First address.
        start: u64,
    },
}

#[derive(Clone, Debug)]
struct Entry {
    first: u64,
    last: u64,
    device: Arc<dyn BusDevice>,
}

/// Devices by address. Ranges include their last address, so one may end at the last there is.
#[derive(Clone, Debug, Default)]
pub struct Bus {
    /// By rising address, without overlap.
    entries: Vec<Entry>,
}

impl Bus {
    /// Gives `len` addresses from `start` to a device.
    pub fn insert(
        &mut self,
        start: u64,
        len: u64,
        device: Arc<dyn BusDevice>,
    ) -> Result<(), BusError> {
        let last = len
            .checked_sub(1)
            .and_then(|more| start.checked_add(more))
            .ok_or(BusError::Range { start, len })?;
        let at = self.entries.partition_point(|entry| entry.last < start);
        if self.entries.get(at).is_some_and(|next| next.first <= last) {
            return Err(BusError::Overlap { start });
        }
        let entry = Entry {
            first: start,
            last,
            device,
        };
        self.entries.insert(at, entry);
        Ok(())
    }

    /// The guest reads; all ones if nobody answers.
    pub fn read(&self, address: u64, out: &mut [u8]) {
        out.fill(0xff);
        if let Some((device, offset)) = self.find(address, out.len()) {
            device.read(offset, out);
        }
    }

    /// The guest writes; nothing happens if nobody answers.
    pub fn write(&self, address: u64, bytes: &[u8]) {
        if let Some((device, offset)) = self.find(address, bytes.len()) {
            device.write(offset, bytes);
        }
    }

    fn find(&self, address: u64, len: usize) -> Option<(&dyn BusDevice, u64)> {
        let last = address.checked_add(u64::try_from(len.checked_sub(1)?).ok()?)?;
        let at = self.entries.partition_point(|entry| entry.last < address);
        let entry = self.entries.get(at)?;
        (entry.first <= address && last <= entry.last)
            .then(|| (entry.device.as_ref(), address - entry.first))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::sync::Mutex;

    #[derive(Debug, Default)]
    struct Recorder(Mutex<Vec<(u64, Vec<u8>)>>);

    impl BusDevice for Recorder {
        fn read(&self, offset: u64, out: &mut [u8]) {
            out.fill(u8::try_from(offset & 0x7f).unwrap());
        }
        fn write(&self, offset: u64, bytes: &[u8]) {
            self.0.lock().unwrap().push((offset, bytes.to_vec()));
        }
    }

    #[test]
    fn nobody_answers_with_all_ones() {
        let mut bus = Bus::default();
        let device = Arc::new(Recorder::default());
        bus.insert(0x1000, 0x10, device.clone()).unwrap();
        for (address, len) in [(0xfff, 1), (0x1010, 4), (0x100e, 4), (0xffe, 4)] {
            let mut out = vec![0; len];
            bus.read(address, &mut out);
            assert_eq!(out, vec![0xff; len], "{address:#x}");
            bus.write(address, &out);
        }
        assert!(device.0.lock().unwrap().is_empty());
        bus.write(0x100c, &[1, 2, 3, 4]);
        assert_eq!(*device.0.lock().unwrap(), [(0xc, vec![1, 2, 3, 4])]);
    }

    #[test]
    fn ranges_reach_the_last_address_and_not_beyond() {
        let mut bus = Bus::default();
        let device = Arc::new(Recorder::default());
        bus.insert(u64::MAX, 1, device.clone()).unwrap();
        assert!(matches!(
            bus.insert(u64::MAX, 2, device.clone()),
            Err(BusError::Range { .. })
        ));
        assert!(matches!(
            bus.insert(1, 0, device.clone()),
            Err(BusError::Range { .. })
        ));
        bus.write(u64::MAX, &[1]);
        bus.write(u64::MAX, &[1, 2]);
        assert_eq!(device.0.lock().unwrap().len(), 1);
    }

    proptest! {
        /// The bus answers as a plain search through the accepted ranges does.
        #[test]
        fn agrees_with_a_plain_search(
            ranges in prop::collection::vec((0u64..64, 0u64..16), 0..12),
            accesses in prop::collection::vec((0u64..90, 1usize..9), 0..40),
        ) {
            let mut bus = Bus::default();
            let mut accepted: Vec<(u64, u64)> = Vec::new();
            for (start, len) in ranges {
                let free = len > 0 && accepted.iter().all(|(s, l)| start + len <= *s || s + l <= start);
                let inserted = bus.insert(start, len, Arc::new(Recorder::default())).is_ok();
                prop_assert_eq!(inserted, free);
                if free {
                    accepted.push((start, len));
                }
            }
            for (address, len) in accesses {
                let end = address + len as u64;
                let owner = accepted.iter().find(|(s, l)| *s <= address && end <= s + l);
                let mut out = vec![0; len];
                bus.read(address, &mut out);
                let expected = owner.map_or(0xff, |(s, _)| u8::try_from(address - s).unwrap());
                prop_assert_eq!(out, vec![expected; len]);
            }
        }
    }
}
