//! A mapped disk: a range of guest addresses whose bytes are those of files.
//!
//! Files are mapped one after the other into a range of the host's addresses, and the machine gives that range
//! to its guest as memory that can only be read. What the guest finds there are the pages of the host's
//! page cache, the same ones for every machine that maps these files: nothing is copied, and no machine has
//! any of it for itself.
//!
//! **Nobody here writes to it.** The pages are mapped for reading alone, so the guest cannot have a device do
//! what it may not do itself. They could be mapped so that what a device writes lands in private
//! copies; but then a guest could have the host make a copy of each page of a disk that is
//! many times as large as its own memory. A driver never has a reason: whoever writes to a private mapping of a
//! file has a page of ordinary memory by then. So for a device a buffer to write in a mapped disk is one
//! outside memory, as are rings; buffers to read are good (a file that is written elsewhere without
//! a copy in between).
//!
//! **Nobody here touches it either.** A page that a file has lost (somebody has cut it short) is a signal to whoever
//! touches it, which would be the end of the process. The kernel has no such trouble: a system call that is given
//! addresses in it fails (`EFAULT`), and so does the entry into the guest. Hence addresses in it go to system calls
//! alone, and what a device wants to look at itself is read from the file.
#![allow(unsafe_code)]

use std::ffi::c_void;
use std::io;
use std::marker::PhantomData;
use std::ptr::null_mut;

use rustix::mm::{MapFlags, ProtFlags, mmap, mmap_anonymous, munmap};

use crate::block::Backing;
use crate::iov::Iovecs;

/// What a window's place and length are multiples of, in the guest and on the host: guests describe memory of
/// this kind in pieces of 2 MiB, and pages as large as that can be used on both sides only where they lie alike.
pub const WINDOW_ALIGN: u64 = 2 << 20;

/// What its parts begin and end at, in their files.
pub const WINDOW_PAGE: u64 = 4096;

/// Files that are mapped, and where the guest has them.
#[derive(Debug)]
pub struct Window {
    /// First guest address.
    start: u64,
    /// Bytes: a multiple of [`WINDOW_ALIGN`]. Those beyond the files are zeros.
    len: u64,
    range: Range,
    files: Backing,
}

impl Window {
    /// Bytes of a window onto files of `bytes` bytes; `None` if no address space has room for it.
    pub fn len_for(bytes: u64) -> Option<u64> {
        bytes
            .checked_next_multiple_of(WINDOW_ALIGN)
            .filter(|len| i64::try_from(*len).is_ok())
    }

    /// Bytes of the process's addresses that such a window takes: it is put at an aligned one.
    pub fn addresses_for(bytes: u64) -> Option<u64> {
        Self::len_for(bytes)?.checked_add(WINDOW_ALIGN)
    }

    /// Maps the files. `start` is where the guest has them, a multiple of [`WINDOW_ALIGN`]; all parts of `files` begin
    /// and end at multiples of [`WINDOW_PAGE`].
    pub fn map(start: u64, files: Backing) -> io::Result<Self> {
        let invalid = || io::Error::from(io::ErrorKind::InvalidInput);
        let len = Self::len_for(files.bytes()).ok_or_else(invalid)?;
        if !start.is_multiple_of(WINDOW_ALIGN) || start.checked_add(len).is_none() {
            return Err(invalid());
        }
        let mut range = Range::reserve(len)?;
        for (at, part) in files.parts() {
            if !(at | part.offset | part.len).is_multiple_of(WINDOW_PAGE) {
                return Err(invalid());
            }
            range.place(at, &part.file, part.offset, part.len)?;
        }
        Ok(Self {
            start,
            len,
            range,
            files,
        })
    }

    /// First guest address.
    pub fn start(&self) -> u64 {
        self.start
    }

    /// Its length in bytes. It is never empty.
    #[expect(clippy::len_without_is_empty, reason = "it never is")]
    pub fn len(&self) -> u64 {
        self.len
    }

    /// First address on the host.
    pub fn host(&self) -> u64 {
        self.range.start().addr() as u64
    }

    /// How far into the window `len` bytes from a guest address are, if all of them are in it.
    pub(crate) fn offset(&self, addr: u64, len: u64) -> Option<u64> {
        let offset = addr.checked_sub(self.start)?;
        (len > 0 && offset.checked_add(len)? <= self.len).then_some(offset)
    }

    /// Host addresses of bytes of the window, for a system call that reads them. `None` if they are not all in it.
    pub(crate) fn piece(&self, offset: u64, len: usize) -> Option<Piece<'_>> {
        let end = offset.checked_add(u64::try_from(len).ok()?)?;
        (end <= self.len).then_some(())?;
        Some(Piece {
            // Within the range, which is as long as the window.
            address: self
                .range
                .start()
                .wrapping_add(usize::try_from(offset).ok()?),
            len,
            window: PhantomData,
        })
    }

    /// Copies bytes that are known to be in the window, from the files themselves.
    pub(crate) fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        let mut filled = 0;
        while let Some(rest) = out.get_mut(filled..).filter(|rest| !rest.is_empty()) {
            let at = offset.saturating_add(filled as u64);
            let here = self.files.contiguous(at, rest.len() as u64);
            let here = usize::try_from(here).unwrap_or_default();
            let Some(now) = rest.get_mut(..here).filter(|now| !now.is_empty()) else {
                // Behind the files.
                rest.fill(0);
                break;
            };
            let mut vector = Iovecs::new();
            vector.push_buffer(now);
            let done = self.files.read(at, &vector)?;
            filled += usize::try_from(done).unwrap_or(here).min(here);
        }
        Ok(())
    }
}

/// Some of a window's addresses, for one system call.
pub(crate) struct Piece<'w> {
    address: *mut u8,
    len: usize,
    window: PhantomData<&'w Window>,
}

impl Piece<'_> {
    pub(crate) fn address(&self) -> *mut u8 {
        self.address
    }

    pub(crate) fn len(&self) -> usize {
        self.len
    }
}

/// A range of the host's addresses of this process, nobody else's, until it is dropped.
#[derive(Debug)]
struct Range {
    /// All that was reserved: a little more, so that a part of it lies where it should.
    reserved: *mut c_void,
    reserved_len: usize,
    /// The part that is used.
    start: *mut u8,
    len: usize,
}

// SAFETY: the pointers are an address range that this owns alone. It is never dereferenced, and all that changes it
// takes it exclusively.
unsafe impl Send for Range {}
// SAFETY: as above; through a shared reference the addresses can be read, and no more.
unsafe impl Sync for Range {}

impl Range {
    /// Reserves addresses that read as zeros and cost nothing.
    fn reserve(len: u64) -> io::Result<Self> {
        let too_large = || io::Error::from(io::ErrorKind::OutOfMemory);
        let len = usize::try_from(len).map_err(|_| too_large())?;
        let align = usize::try_from(WINDOW_ALIGN).map_err(|_| too_large())?;
        let reserved_len = len.checked_add(align).ok_or_else(too_large)?;
        let flags = MapFlags::PRIVATE | MapFlags::NORESERVE;
        // SAFETY: the kernel chooses an address that is free, so nothing that exists is changed.
        let reserved = unsafe { mmap_anonymous(null_mut(), reserved_len, ProtFlags::READ, flags) }?;
        let reserved_start = reserved.cast::<u8>();
        // Less than `align`, so `len` bytes from there were reserved as well.
        let ahead = reserved.addr().next_multiple_of(align) - reserved.addr();
        Ok(Self {
            reserved,
            reserved_len,
            start: reserved_start.wrapping_add(ahead),
            len,
        })
    }

    fn start(&self) -> *mut u8 {
        self.start
    }

    /// Puts a part of a file in the place of what is at `at`.
    fn place(&mut self, at: u64, file: &std::fs::File, offset: u64, len: u64) -> io::Result<()> {
        let invalid = || io::Error::from(io::ErrorKind::InvalidInput);
        let at = usize::try_from(at).map_err(|_| invalid())?;
        let len = usize::try_from(len).map_err(|_| invalid())?;
        if at.checked_add(len).is_none_or(|end| end > self.len) {
            return Err(invalid());
        }
        let place = self.start.wrapping_add(at).cast::<c_void>();
        // Not shared: some file systems have no shared mappings, and for reading there is no difference.
        let flags = MapFlags::PRIVATE | MapFlags::FIXED | MapFlags::NORESERVE;
        // SAFETY: the pages from `place` are in the range that this owns, and nothing refers to them: a `Piece`
        // borrows the window, which is made after this.
        unsafe { mmap(place, len, ProtFlags::READ, flags, file, offset) }?;
        Ok(())
    }
}

impl Drop for Range {
    fn drop(&mut self) {
        // SAFETY: it was reserved by this, and no `Piece` of it lives, since each borrows it. The machine that has
        // been told of it is gone, for it keeps the window.
        let unmapped = unsafe { munmap(self.reserved, self.reserved_len) };
        debug_assert!(unmapped.is_ok(), "{unmapped:?}");
    }
}

#[cfg(test)]
mod tests;
