//! Disks that are mapped into the guest's memory: opened, and each given its place.
//!
//! All of them are read-only, so files are locked as what several machines read. Mapping itself is done when the
//! machine is built.

use msb_vmapi::PmemConfig;
use vmm_virtio::Window;

use super::files::Files;
use super::{BlueprintError, Host, disk};
use crate::arch::x86_64::layout::MAX_ADDRESS_BITS;
use crate::memory::{MappedDisk, RamLayout};

/// Most bytes of all mapped disks of a machine. A guest needs a sixty-fourth of it in memory to describe the pages.
pub const MAX_MAPPED: u64 = 1 << 40;

pub(super) fn open(
    files: &mut Files,
    disks: Vec<PmemConfig>,
    ram: &RamLayout,
    host: &Host,
) -> Result<Vec<MappedDisk>, BlueprintError> {
    let disks = disks
        .into_iter()
        .map(|disk| disk::open_mapped(files, disk.content))
        .collect::<Result<Vec<_>, _>>()?;
    let given = disks
        .iter()
        .map(|disk| disk.bytes())
        .fold(0, u64::saturating_add);
    let too_large = |max| BlueprintError::MappedTooLarge { given, max };
    if given > MAX_MAPPED {
        return Err(too_large(MAX_MAPPED));
    }
    let lens = disks.iter().map(|disk| Window::len_for(disk.bytes()));
    let placed = lens
        .collect::<Option<Vec<_>>>()
        .and_then(|lens| ram.above(lens));
    let addresses = 1u64 << host.address_bits.min(MAX_ADDRESS_BITS);
    match placed {
        Some((starts, end)) if end <= addresses || disks.is_empty() => Ok(starts
            .into_iter()
            .zip(disks)
            .map(|(start, files)| MappedDisk { start, files })
            .collect()),
        _ => {
            let above = ram.above([0]).map_or(addresses, |(_, start)| start);
            Err(too_large(addresses.saturating_sub(above)))
        }
    }
}
