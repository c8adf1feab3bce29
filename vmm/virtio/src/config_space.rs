//! A device's configuration bytes, where vCPU threads can read them without the device.
//!
//! The driver reads a field that is wider than one access in several, and asks for the *generation*
//! before and after: if it changed, the driver reads again (virtio 1.2, section 2.5.1). So bytes and
//! generation change together, under one small lock that is only ever held for a copy.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// Configuration bytes and their generation.
#[derive(Debug)]
pub struct ConfigSpace(Mutex<State>);

#[derive(Debug)]
struct State {
    bytes: Box<[u8]>,
    generation: u32,
}

impl ConfigSpace {
    /// The configuration of a device that has none.
    pub fn empty() -> Arc<Self> {
        Self::new(&[])
    }

    /// A configuration that starts as `bytes`; its length never changes.
    pub fn new(bytes: &[u8]) -> Arc<Self> {
        Arc::new(Self(Mutex::new(State {
            bytes: bytes.into(),
            generation: 0,
        })))
    }

    /// Copies the bytes at `offset`. What is beyond the end reads as zeros.
    pub fn read(&self, offset: u64, out: &mut [u8]) {
        out.fill(0);
        let state = self.lock();
        let tail = usize::try_from(offset)
            .ok()
            .and_then(|offset| state.bytes.get(offset..))
            .unwrap_or_default();
        for (to, from) in out.iter_mut().zip(tail) {
            *to = *from;
        }
    }

    /// Changes whenever the bytes do.
    pub fn generation(&self) -> u32 {
        self.lock().generation
    }

    /// Changes the bytes, and the generation with them. `f` must be short: a vCPU may be waiting.
    pub fn update(&self, f: impl FnOnce(&mut [u8])) {
        let mut state = self.lock();
        f(&mut state.bytes);
        state.generation = state.generation.wrapping_add(1);
    }

    /// Length in bytes.
    pub fn len(&self) -> usize {
        self.lock().bytes.len()
    }

    /// Whether the device has no configuration.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // Bytes are bytes, even if a closure of `update` panicked half way.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_beyond_the_end_are_zeros() {
        let config = ConfigSpace::new(&[1, 2, 3]);
        let mut out = [0xff; 4];
        config.read(1, &mut out);
        assert_eq!(out, [2, 3, 0, 0]);
        for offset in [3, 4, u64::from(u32::MAX), u64::MAX] {
            let mut out = [0xff; 4];
            config.read(offset, &mut out);
            assert_eq!(out, [0; 4]);
        }
    }

    #[test]
    fn an_update_changes_the_generation() {
        let config = ConfigSpace::new(&[0]);
        let before = config.generation();
        config.update(|bytes| bytes.fill(7));
        assert_ne!(config.generation(), before);
        let mut out = [0];
        config.read(0, &mut out);
        assert_eq!(out, [7]);
    }
}
