//! System calls that move bytes straight between a descriptor and guest memory.
//!
//! A Rust slice over guest memory would be unsound, because the guest writes to it at any time. The
//! kernel has no such trouble: it is given addresses and copies. An [`Iovecs`] holds host addresses
//! that came from checked guest ranges and lives no longer than the memory behind them; the
//! functions here pass it to one call each. This module and `window`, where disks are mapped, are the only ones
//! of the crate with `unsafe`.
#![allow(unsafe_code)]

use std::io;
use std::marker::PhantomData;
use std::os::fd::{AsRawFd, BorrowedFd};

use vm_memory::VolatileSlice;
use vmm_sys_util::eventfd::EventFd;

use crate::GuestRam;
use crate::window::Piece;

/// Pieces in one call. Most requests have one or two; longer ones take several calls.
const MAX_PIECES: usize = 64;

/// Addresses and lengths, for one system call.
pub(crate) struct Iovecs<'m> {
    pieces: [libc::iovec; MAX_PIECES],
    count: usize,
    bytes: usize,
    memory: PhantomData<&'m GuestRam>,
}

impl<'m> Iovecs<'m> {
    /// No pieces.
    pub(crate) fn new() -> Self {
        let none = libc::iovec {
            iov_base: std::ptr::null_mut(),
            iov_len: 0,
        };
        Self {
            pieces: [none; MAX_PIECES],
            count: 0,
            bytes: 0,
            memory: PhantomData,
        }
    }

    /// Adds a piece of guest memory; `false` when there is no room for it.
    pub(crate) fn push(&mut self, slice: &VolatileSlice<'m, ()>) -> bool {
        self.push_raw(slice.ptr_guard_mut().as_ptr(), slice.len())
    }

    /// Adds bytes of the host, for a call that only reads them.
    pub(crate) fn push_bytes(&mut self, bytes: &'m [u8]) -> bool {
        self.push_raw(bytes.as_ptr().cast_mut(), bytes.len())
    }

    /// Adds a piece of a mapped disk, for a call that only reads it; `false` when there is no room for it.
    pub(crate) fn push_mapped(&mut self, piece: &Piece<'m>) -> bool {
        self.push_raw(piece.address(), piece.len())
    }

    /// Adds a buffer of the host, for a call that fills it.
    pub(crate) fn push_buffer(&mut self, bytes: &'m mut [u8]) -> bool {
        self.push_raw(bytes.as_mut_ptr(), bytes.len())
    }

    fn push_raw(&mut self, base: *mut u8, len: usize) -> bool {
        let Some(piece) = self.pieces.get_mut(self.count) else {
            return false;
        };
        *piece = libc::iovec {
            iov_base: base.cast(),
            iov_len: len,
        };
        self.count += 1;
        self.bytes += len;
        true
    }

    /// Bytes in all pieces together.
    pub(crate) fn bytes(&self) -> usize {
        self.bytes
    }

    /// Number of pieces.
    #[cfg(test)]
    pub(crate) fn pieces(&self) -> usize {
        self.count
    }

    fn count(&self) -> libc::c_int {
        libc::c_int::try_from(self.count).unwrap_or(0)
    }

    fn as_ptr(&self) -> *const libc::iovec {
        self.pieces.as_ptr()
    }

    /// A message that is these pieces and nothing else.
    fn message(&self) -> libc::msghdr {
        // SAFETY: all fields of a msghdr are integers or pointers, for which zero is a value, and a
        // zeroed one names no address, no pieces and no control data.
        let mut message: libc::msghdr = unsafe { std::mem::zeroed() };
        message.msg_iov = self.as_ptr().cast_mut();
        message.msg_iovlen = self.count;
        message
    }
}

/// An eventfd as the standard library's descriptor.
pub(crate) fn eventfd(event: &EventFd) -> BorrowedFd<'_> {
    // SAFETY: the descriptor is open for as long as `event`, which is borrowed for that long.
    unsafe { BorrowedFd::borrow_raw(event.as_raw_fd()) }
}

/// Receives from a socket, without waiting whatever the socket's own mode is. `0`: end of stream.
pub(crate) fn recv(fd: BorrowedFd<'_>, into: &Iovecs<'_>) -> io::Result<usize> {
    let mut message = into.message();
    // SAFETY: the message names `into`'s pieces, which are mapped and may be written for as long as
    // `into` is borrowed; it has no other buffers.
    retry(|| unsafe { libc::recvmsg(fd.as_raw_fd(), &raw mut message, libc::MSG_DONTWAIT) })
}

/// Sends to a socket, without waiting and without a signal when nobody is there to read.
pub(crate) fn send(fd: BorrowedFd<'_>, from: &Iovecs<'_>) -> io::Result<usize> {
    let message = from.message();
    let flags = libc::MSG_DONTWAIT | libc::MSG_NOSIGNAL;
    // SAFETY: the message names `from`'s pieces, which are mapped for as long as `from` is
    // borrowed, and the call only reads them.
    retry(|| unsafe { libc::sendmsg(fd.as_raw_fd(), &raw const message, flags) })
}

/// Reads from a descriptor that is not a socket.
pub(crate) fn read(fd: BorrowedFd<'_>, into: &Iovecs<'_>) -> io::Result<usize> {
    // SAFETY: the pieces are mapped and may be written for as long as `into` is borrowed.
    retry(|| unsafe { libc::readv(fd.as_raw_fd(), into.as_ptr(), into.count()) })
}

/// Reads from a file at `offset`.
pub(crate) fn read_at(fd: BorrowedFd<'_>, into: &Iovecs<'_>, offset: u64) -> io::Result<usize> {
    let offset = file_offset(offset)?;
    // SAFETY: the pieces are mapped and may be written for as long as `into` is borrowed.
    retry(|| unsafe { libc::preadv(fd.as_raw_fd(), into.as_ptr(), into.count(), offset) })
}

/// Writes to a file at `offset`.
pub(crate) fn write_at(fd: BorrowedFd<'_>, from: &Iovecs<'_>, offset: u64) -> io::Result<usize> {
    let offset = file_offset(offset)?;
    // SAFETY: the pieces are mapped for as long as `from` is borrowed; the call only reads them.
    retry(|| unsafe { libc::pwritev(fd.as_raw_fd(), from.as_ptr(), from.count(), offset) })
}

fn file_offset(offset: u64) -> io::Result<libc::off_t> {
    libc::off_t::try_from(offset).map_err(|_| io::ErrorKind::InvalidInput.into())
}

/// Makes a call until a signal does not interrupt it.
fn retry(mut call: impl FnMut() -> isize) -> io::Result<usize> {
    loop {
        match usize::try_from(call()) {
            Ok(bytes) => return Ok(bytes),
            Err(_) => {
                let error = io::Error::last_os_error();
                if error.kind() != io::ErrorKind::Interrupted {
                    return Err(error);
                }
            }
        }
    }
}
