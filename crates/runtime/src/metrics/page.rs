//! The writer's side: the page, mapped.
//!
//! The whole page is allocated on disk before it is mapped, so a disk that is full later is no
//! fault of a store (but for a copy-on-write file system, which may want a new block for each
//! change). It lies in the run directory, which only the sandbox's owner can enter: whoever
//! could shorten the file could as well kill the supervisor.
#![allow(unsafe_code)]

use std::fs::{self, OpenOptions};
use std::io;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::ptr::{NonNull, null_mut};
use std::sync::atomic::{AtomicU64, Ordering, fence};

use rustix::fs::{FallocateFlags, fallocate};
use rustix::mm::{MapFlags, ProtFlags, mmap, munmap};
use rustix::rand::{GetRandomFlags, getrandom};

use super::{HEAD, MAGIC, PAGE, Sample, VERSION, WORDS, checksum};

const SEQUENCE: usize = 3;
const CHECKSUM: usize = 4;

/// A sandbox's metrics page, open for writing. There is one writer for each page.
#[derive(Debug)]
pub struct MetricsPage {
    words: Mapping,
    run: u64,
    /// Even; how many times two samples were begun or ended.
    sequence: u64,
}

impl MetricsPage {
    /// Makes the page at `path`, with a new run id and no sample. A page of an earlier run is
    /// replaced, so that its readers can tell.
    pub fn create(path: &Path) -> io::Result<Self> {
        let mut run = [0; 8];
        // Eight bytes come at once or not at all.
        getrandom(&mut run, GetRandomFlags::empty())?;
        let run = u64::from_ne_bytes(run);
        let mut fresh = path.as_os_str().to_owned();
        fresh.push(".new");
        match fs::remove_file(&fresh) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(&fresh)?;
        // A file system that cannot allocate ahead gets the zeros written instead.
        let length = u64::try_from(PAGE).map_err(io::Error::other)?;
        if fallocate(&file, FallocateFlags::empty(), 0, length).is_err() {
            io::Write::write_all(&mut &file, &[0; PAGE])?;
        }
        let words = Mapping::new(&file)?;
        for (word, value) in words.get().iter().zip([MAGIC, VERSION, run]) {
            word.store(value, Ordering::Relaxed);
        }
        // Whoever finds it under its name finds the head complete.
        fs::rename(&fresh, path)?;
        Ok(Self {
            words,
            run,
            sequence: 0,
        })
    }

    /// Makes this the sample that readers get.
    pub fn publish(&mut self, sample: &Sample) {
        let payload = sample.to_words();
        let (writing, written) = (self.sequence.wrapping_add(1), self.sequence.wrapping_add(2));
        let words = self.words.get();
        words[SEQUENCE].store(writing, Ordering::Relaxed);
        // No word of the sample is seen before the odd number.
        fence(Ordering::Release);
        for (word, value) in words[HEAD..].iter().zip(payload) {
            word.store(value, Ordering::Relaxed);
        }
        let sum = checksum(self.run, written, &payload);
        words[CHECKSUM].store(sum, Ordering::Relaxed);
        words[SEQUENCE].store(written, Ordering::Release);
        self.sequence = written;
    }

    /// Leaves the page as a writer does that is killed in the middle of a sample.
    #[cfg(test)]
    pub(super) fn abandon(self) {
        self.words.get()[SEQUENCE].store(self.sequence | 1, Ordering::Relaxed);
    }
}

/// A shared mapping of the file's page.
#[derive(Debug)]
struct Mapping(NonNull<[AtomicU64; WORDS]>);

// The words that are used lie within the page.
const _: () = assert!(WORDS * size_of::<AtomicU64>() <= PAGE);

// SAFETY: the mapping belongs to no thread, and its words are atomics.
unsafe impl Send for Mapping {}
// SAFETY: as above; `&Mapping` gives only `&AtomicU64`.
unsafe impl Sync for Mapping {}

impl Mapping {
    fn new(file: &fs::File) -> io::Result<Self> {
        let access = ProtFlags::READ | ProtFlags::WRITE;
        // SAFETY: a new mapping where the kernel chooses, so no memory in use is replaced.
        let address = unsafe { mmap(null_mut(), PAGE, access, MapFlags::SHARED, file, 0) }?;
        NonNull::new(address.cast())
            .map(Self)
            .ok_or_else(|| io::Error::other("the kernel mapped a page at address 0"))
    }

    fn get(&self) -> &[AtomicU64; WORDS] {
        // SAFETY: the mapping is page-aligned, at least as long (asserted above) and lives until
        // `drop`. All bits are valid atomics, and other processes' reads are no Rust accesses.
        unsafe { self.0.as_ref() }
    }
}

impl Drop for Mapping {
    fn drop(&mut self) {
        // SAFETY: made by `new` with this length, and nothing borrows from it any more.
        let unmapped = unsafe { munmap(self.0.as_ptr().cast(), PAGE) };
        // It fails only for arguments that are not a mapping's.
        debug_assert!(unmapped.is_ok());
    }
}
