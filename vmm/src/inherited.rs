//! A descriptor that was left open for this process by whoever started it.
#![allow(unsafe_code)]

use std::io;
use std::os::fd::{BorrowedFd, FromRawFd, OwnedFd, RawFd};

/// Takes an inherited descriptor over, at a number above those of standard input, output and error.
pub fn take(number: RawFd) -> io::Result<OwnedFd> {
    if number < 0 {
        return Err(io::ErrorKind::InvalidInput.into());
    }
    // SAFETY: it is not -1; whether it is open is what the call below finds out, and nothing else is
    // done with it before.
    let inherited = unsafe { BorrowedFd::borrow_raw(number) };
    let kept = rustix::io::fcntl_dupfd_cloexec(inherited, 3)?;
    if number > 2 {
        // SAFETY: it is open, as the duplication showed, and was given to this process for this
        // purpose alone.
        drop(unsafe { OwnedFd::from_raw_fd(number) });
    } else if number == 0 {
        // Nobody shall read requests as a console's input.
        let (nothing, _) = rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC)?;
        rustix::stdio::dup2_stdin(&nothing)?;
    }
    Ok(kept)
}
