//! The disk that has what a machine changed: an ext4 file system that fills it.
//!
//! The host makes it from a small template and extends the file to what was asked for. The file system is grown
//! to that at the first boot, while it is mounted, which is the only way that needs no program. Whatever
//! was in the middle when a machine was killed is in the journal, and mounting puts it right.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::Path;

use msb_protocol::BootStage;
use rustix::fs::{Mode, OFlags, open};
use rustix::mount::{MountFlags, mount as mount_call};

use super::{BootError, disks};
use crate::sys::resize;

/// Freed space is given back to the host at once, where it becomes a hole in a file.
const OPTIONS: &std::ffi::CStr = c"discard";

/// Where a superblock begins on its disk, and its bytes.
const SUPERBLOCK: (u64, usize) = (1024, 1024);

/// Mounts `disk` at `place`, and has the file system fill it.
pub(super) fn mount(disk: &Path, place: &str) -> Result<(), BootError> {
    let fail = |what: &str, error: io::Error| {
        let what = format!("{what} the writable disk {}", disk.display());
        BootError::new(BootStage::Root, what, error)
    };
    let had = blocks(disk).map_err(|error| fail("reading", error))?;
    mount_call(disk, place, "ext4", MountFlags::empty(), OPTIONS)
        .map_err(|error| fail("mounting", error.into()))?;
    let bytes = disks::size(disk).map_err(|error| fail("measuring", error))?;
    if let Some(fills) = had.and_then(|had| had.short_of(bytes)) {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        open(place, flags, Mode::empty())
            .and_then(|within| resize::grow(within, fills))
            .map_err(|error| fail("growing the file system on", error.into()))?;
    }
    Ok(())
}

/// How large a file system is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Blocks {
    count: u64,
    /// Bytes of each.
    size: u64,
}

impl Blocks {
    /// How many blocks it would have if it filled a disk of `bytes`; `None` if it does.
    fn short_of(self, bytes: u64) -> Option<u64> {
        let fills = bytes / self.size;
        (fills > self.count).then_some(fills)
    }
}

/// What the superblock on the disk says. `None` if it is none that makes sense; mounting will say more.
fn blocks(disk: &Path) -> io::Result<Option<Blocks>> {
    let mut superblock = [0; SUPERBLOCK.1];
    File::open(disk)?.read_exact_at(&mut superblock, SUPERBLOCK.0)?;
    Ok(parse(&superblock))
}

/// Reads `struct ext4_super_block` (`fs/ext4/ext4.h`).
fn parse(superblock: &[u8; SUPERBLOCK.1]) -> Option<Blocks> {
    let number = |at: usize| {
        let bytes = superblock.get(at..at.checked_add(4)?)?;
        Some(u32::from_le_bytes(bytes.try_into().ok()?))
    };
    if superblock.get(0x38..0x3a)? != [0x53, 0xef] {
        return None;
    }
    // Blocks are of 1 to 64 KiB.
    let shift = number(0x18).filter(|shift| *shift <= 6)?;
    // Without the feature `64bit` (0x80) there is no upper half.
    let high = match number(0x60)? & 0x80 {
        0 => 0,
        _ => number(0x150)?,
    };
    Some(Blocks {
        count: u64::from(high) << 32 | u64::from(number(0x4)?),
        size: 1024 << shift,
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn superblock(low: u32, high: u32, shift: u32, features: u32) -> [u8; 1024] {
        let mut bytes = [0; 1024];
        for (at, value) in [(0x4, low), (0x18, shift), (0x60, features), (0x150, high)] {
            bytes[at..at + 4].copy_from_slice(&value.to_le_bytes());
        }
        bytes[0x38..0x3a].copy_from_slice(&[0x53, 0xef]);
        bytes
    }

    #[test]
    fn sizes_are_read_and_compared() {
        let small = parse(&superblock(8192, 7, 2, 0x42)).unwrap();
        assert_eq!(
            small,
            Blocks {
                count: 8192,
                size: 4096
            }
        );
        assert_eq!(small.short_of(32 << 20), None);
        assert_eq!(small.short_of((32 << 20) + 4095), None);
        assert_eq!(small.short_of(4 << 30), Some(1 << 20));
        // Never smaller.
        assert_eq!(small.short_of(0), None);
        let large = parse(&superblock(1, 1, 2, 0xc2)).unwrap();
        assert_eq!(large.count, (1 << 32) + 1);
        assert_eq!(parse(&superblock(1, 0, 7, 0)), None);
        assert_eq!(parse(&[0; 1024]), None);
    }

    proptest! {
        #[test]
        fn no_superblock_ends_the_agent(
            low in any::<u32>(), high in any::<u32>(), shift in any::<u32>(), features in any::<u32>(),
            bytes in any::<u64>(),
        ) {
            if let Some(blocks) = parse(&superblock(low, high, shift, features)) {
                let _ = blocks.short_of(bytes);
            }
        }
    }
}
