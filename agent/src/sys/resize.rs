//! Growing a mounted ext4 file system.

#![expect(unsafe_code, reason = "an ioctl that no safe wrapper covers")]

use std::os::fd::AsFd;

use rustix::io::Errno;
use rustix::ioctl::{Opcode, Setter, ioctl, opcode};

/// `EXT4_IOC_RESIZE_FS` (`linux/ext4.h`): `_IOW('f', 16, __u64)`.
const RESIZE: Opcode = opcode::write::<u64>(b'f', 16);

/// Has the ext4 file system that `within` is in grow to this many of its blocks. Returns when it has.
pub(crate) fn grow(within: impl AsFd, blocks: u64) -> Result<(), Errno> {
    // SAFETY: the number's argument is a pointer to a `u64`, which is only read.
    let request = unsafe { Setter::<RESIZE, u64>::new(blocks) };
    // SAFETY: the request passes the address of the `u64` that it holds, and it lives until the call
    // returns. A file system of another kind refuses the number, which is ext4's own.
    unsafe { ioctl(within, request) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_number_is_the_kernels_and_others_refuse_it() {
        assert_eq!(RESIZE, 0x4008_6610);
        let memory = rustix::fs::memfd_create("test", rustix::fs::MemfdFlags::CLOEXEC).unwrap();
        assert_eq!(grow(memory, 1), Err(Errno::NOTTY));
    }
}
