//! A disk in memory that loses power, tears writes, or refuses.
//!
//! It counts its writes, length changes and syncs. From a chosen one on, every call fails. What
//! is then on the platter is what was synced, plus an arbitrary part of what was not: each
//! unsynced write may be there, be missing, or be torn at a sector.

use std::io;
use std::ops::Bound;
use std::sync::{Arc, Mutex};

use redb::{BackendError, StorageBackend};

const SECTOR: usize = 512;

#[derive(Clone, Debug)]
enum Pending {
    Write(usize, Vec<u8>),
    Length(usize),
}

#[derive(Debug, Default)]
struct State {
    synced: Vec<u8>,
    seen: Vec<u8>,
    pending: Vec<Pending>,
    steps: u64,
    /// The step at which it fails, and how.
    fails: Option<(u64, io::ErrorKind)>,
}

/// The disk. Clones are the same disk.
#[derive(Clone, Debug, Default)]
pub(super) struct Disk(Arc<Mutex<State>>);

impl Disk {
    /// A disk with these bytes on it.
    pub(super) fn holding(bytes: Vec<u8>) -> Self {
        Self(Arc::new(Mutex::new(State {
            synced: bytes.clone(),
            seen: bytes,
            ..State::default()
        })))
    }

    /// Fails at step `step` and from then on.
    pub(super) fn fail_at(&self, step: u64, kind: io::ErrorKind) {
        let mut state = self.0.lock().unwrap();
        state.steps = 0;
        state.fails = Some((step, kind));
    }

    /// Whether it has failed.
    pub(super) fn has_failed(&self) -> bool {
        let state = self.0.lock().unwrap();
        state.fails.is_some_and(|(step, _)| state.steps > step)
    }

    /// Works again, as after space was freed: nothing is lost.
    pub(super) fn repair(&self) {
        self.0.lock().unwrap().fails = None;
    }

    /// What a reader of the file sees while there is power.
    pub(super) fn seen(&self) -> Vec<u8> {
        self.0.lock().unwrap().seen.clone()
    }

    /// What is left after a power failure.
    pub(super) fn after_power_failure(&self, random: &mut fastrand::Rng) -> Vec<u8> {
        let state = self.0.lock().unwrap();
        let mut bytes = state.synced.clone();
        for pending in &state.pending {
            match (random.u8(0..3), pending) {
                (0, _) => {}
                (_, Pending::Length(length)) => bytes.resize(*length, 0),
                (1, Pending::Write(offset, data)) => put(&mut bytes, *offset, data),
                (_, Pending::Write(offset, data)) => {
                    // Any of the sectors, in any order.
                    for (index, sector) in data.chunks(SECTOR).enumerate() {
                        if random.bool() {
                            put(&mut bytes, offset + index * SECTOR, sector);
                        }
                    }
                }
            }
        }
        bytes
    }

    fn step(&self) -> io::Result<std::sync::MutexGuard<'_, State>> {
        let mut state = self.0.lock().unwrap();
        let now = state.steps;
        state.steps += 1;
        match state.fails {
            Some((step, kind)) if now >= step => {
                state.steps = step + 1;
                Err(kind.into())
            }
            _ => Ok(state),
        }
    }
}

fn put(bytes: &mut Vec<u8>, offset: usize, data: &[u8]) {
    let end = offset + data.len();
    if bytes.len() < end {
        bytes.resize(end, 0);
    }
    bytes[offset..end].copy_from_slice(data);
}

fn index(number: u64) -> usize {
    usize::try_from(number).unwrap()
}

impl StorageBackend for Disk {
    fn len(&self) -> io::Result<u64> {
        Ok(self.0.lock().unwrap().seen.len() as u64)
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        let state = self.0.lock().unwrap();
        let start = index(offset);
        let bytes = state
            .seen
            .get(start..start + out.len())
            .ok_or(io::ErrorKind::UnexpectedEof)?;
        out.copy_from_slice(bytes);
        Ok(())
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        let mut state = self.step()?;
        state.seen.resize(index(len), 0);
        state.pending.push(Pending::Length(index(len)));
        Ok(())
    }

    fn sync_data(&self) -> io::Result<()> {
        let mut state = self.step()?;
        state.synced = state.seen.clone();
        state.pending.clear();
        Ok(())
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        let mut state = match self.step() {
            Ok(state) => state,
            Err(error) => {
                // The write that the power failed in: torn.
                let mut state = self.0.lock().unwrap();
                if state.fails.is_some_and(|(step, _)| state.steps == step + 1) {
                    state
                        .pending
                        .push(Pending::Write(index(offset), data.to_vec()));
                }
                return Err(error);
            }
        };
        put(&mut state.seen, index(offset), data);
        state
            .pending
            .push(Pending::Write(index(offset), data.to_vec()));
        Ok(())
    }

    // One process has this disk, so every lock is free.

    fn try_lock_range(&self, _: Bound<u64>, _: Bound<u64>) -> Result<bool, BackendError> {
        Ok(true)
    }

    fn try_lock_shared_range(&self, _: Bound<u64>, _: Bound<u64>) -> Result<bool, BackendError> {
        Ok(true)
    }

    fn lock_range(&self, _: Bound<u64>, _: Bound<u64>) -> Result<(), BackendError> {
        Ok(())
    }

    fn lock_shared_range(&self, _: Bound<u64>, _: Bound<u64>) -> Result<(), BackendError> {
        Ok(())
    }

    fn unlock_range(&self, _: Bound<u64>, _: Bound<u64>) -> Result<(), BackendError> {
        Ok(())
    }

    fn query_lock_range(&self, _: Bound<u64>, _: Bound<u64>) -> Result<bool, BackendError> {
        Ok(false)
    }
}
