//! What an ext4 superblock says of the disk that it is on.
//!
//! The guest wrote it, and nothing is decided by it but what the guest has to live with: a disk
//! that is no file system at all is not worth keeping, and one that was in use when its machine
//! died has its journal to be replayed before it is whole, which the next boot does.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;

/// Where the superblock is, and what of it is read.
const SUPERBLOCK: u64 = 1024;
const LENGTH: usize = 1024;

/// `s_magic`.
const MAGIC: u16 = 0xef53;

/// In `s_feature_incompat`: the journal has to be replayed.
const RECOVER: u32 = 0x4;

/// In `s_state`: the kernel found errors.
const ERRORS: u16 = 0x2;

/// What was found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Probe {
    /// It was not unmounted: the next mount replays its journal.
    pub needs_recovery: bool,
    /// The guest's kernel had found it damaged.
    pub has_errors: bool,
}

/// Looks at a disk; `None` when there is no ext4 on it.
pub fn probe(disk: &File) -> io::Result<Option<Probe>> {
    let mut block = [0; LENGTH];
    match disk.read_exact_at(&mut block, SUPERBLOCK) {
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(None),
        read => read?,
    }
    let u16_at = |at: usize| Some(u16::from_le_bytes(*block.get(at..)?.first_chunk()?));
    let u32_at = |at: usize| Some(u32::from_le_bytes(*block.get(at..)?.first_chunk()?));
    if u16_at(0x38) != Some(MAGIC) {
        return Ok(None);
    }
    Ok(Some(Probe {
        needs_recovery: u32_at(0x60).is_some_and(|features| features & RECOVER != 0),
        has_errors: u16_at(0x3a).is_some_and(|state| state & ERRORS != 0),
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_superblock_is_told_from_anything_else() {
        let disk = tempfile::tempfile().unwrap();
        assert_eq!(probe(&disk).unwrap(), None);
        disk.set_len(1 << 20).unwrap();
        assert_eq!(probe(&disk).unwrap(), None);
        disk.write_all_at(&[0x53, 0xef, 1, 0], 1024 + 0x38).unwrap();
        let clean = Probe {
            needs_recovery: false,
            has_errors: false,
        };
        assert_eq!(probe(&disk).unwrap(), Some(clean));
        disk.write_all_at(&[0x53, 0xef, 3, 0], 1024 + 0x38).unwrap();
        disk.write_all_at(&[0x46, 0, 0, 0], 1024 + 0x60).unwrap();
        let crashed = Probe {
            needs_recovery: true,
            has_errors: true,
        };
        assert_eq!(probe(&disk).unwrap(), Some(crashed));
    }
}
