//! The restricted profile's part that is the kernel's and not a command's.
//!
//! A command that lost its capabilities could have them back in two ways that the kernel offers to
//! whoever is root by number: a user namespace, in which everyone has all of them, and a program
//! that the kernel starts itself, as it does for `core_pattern`. Both are closed for the whole guest.

use std::fs::write;
use std::io;

use msb_protocol::BootStage;

use super::BootError;
use crate::sys::restrict::GIVEN_UP;

/// How many user namespaces there may be.
const USER_NAMESPACES: &str = "/proc/sys/user/max_user_namespaces";

/// What programs may have at most that the kernel starts: two numbers of 32 bits, the lower first.
const KERNELS_PROGRAMS: &str = "/proc/sys/kernel/usermodehelper/bset";

/// Closes the ways back.
pub(super) fn kernel() -> Result<(), BootError> {
    say(USER_NAMESPACES, "0")?;
    say(KERNELS_PROGRAMS, &halves(!GIVEN_UP.bits()))
}

fn halves(set: u64) -> String {
    format!("{} {}", set & u64::from(u32::MAX), set >> 32)
}

fn say(path: &str, value: &str) -> Result<(), BootError> {
    match write(path, value) {
        // A kernel without the one has nothing to close.
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(error) => {
            let what = format!("restricting the guest by {path}");
            Err(BootError::new(BootStage::Settings, what, error))
        }
        Ok(()) => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_set_is_written_in_halves() {
        assert_eq!(halves(0x1_0000_0002), "2 1");
        assert_eq!(halves(u64::MAX), "4294967295 4294967295");
    }
}
