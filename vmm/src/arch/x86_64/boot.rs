//! Filling guest memory for the PVH entry: kernel, initramfs, command line, start info.

use std::fs::File;
use std::io::{self, Seek, SeekFrom};

use linux_loader::configurator::pvh::PvhBootConfigurator;
use linux_loader::configurator::{BootConfigurator, BootParams};
use linux_loader::loader::elf::start_info::{
    hvm_memmap_table_entry, hvm_modlist_entry, hvm_start_info,
};
use linux_loader::start_info::{
    XEN_HVM_MEMMAP_TYPE_ACPI, XEN_HVM_MEMMAP_TYPE_RAM, XEN_HVM_START_MAGIC_VALUE,
};
use vm_memory::GuestAddress;
use vmm_virtio::{Fault, GuestRam};

use super::kernel::KernelImage;
use super::layout;
use crate::memory::{self, PAGE, RamLayout};

/// Version of `hvm_start_info` that has a memory map.
const START_INFO_VERSION: u32 = 1;

/// Guest memory could not be filled.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum BootError {
    /// The kernel's file could not be read to its end.
    #[error("cannot load the kernel")]
    Kernel(#[source] io::Error),
    /// The initramfs's file could not be read to its end.
    #[error("cannot load the initramfs")]
    Initrd(#[source] io::Error),
    /// Boot data fits nowhere.
    #[error("cannot write the boot data")]
    Memory(#[from] Fault),
    /// The start info could not be written.
    #[error("cannot write the start info")]
    StartInfo(#[source] linux_loader::configurator::Error),
}

/// Copies the kernel's segments to where they belong. Memory is zero already, so what a segment has
/// beyond its file bytes needs nothing.
pub fn load_kernel(ram: &GuestRam, file: &mut File, image: &KernelImage) -> Result<(), BootError> {
    for segment in image.segments() {
        file.seek(SeekFrom::Start(segment.file_offset))
            .map_err(BootError::Kernel)?;
        memory::read_file(ram, file, segment.address, segment.file_len)
            .map_err(BootError::Kernel)?;
    }
    Ok(())
}

/// Where an initramfs of this length goes: at the top of the memory below the hole, away from the
/// kernel. `None` if there is no room between the two.
pub fn place_initrd(layout: &RamLayout, kernel_end: u64, len: u64) -> Option<u64> {
    let start = layout.low().end().checked_sub(len)? & !(PAGE - 1);
    (start >= kernel_end).then_some(start)
}

/// Copies the initramfs to its place.
pub fn load_initrd(ram: &GuestRam, file: &mut File, place: Module) -> Result<(), BootError> {
    file.rewind().map_err(BootError::Initrd)?;
    memory::read_file(ram, file, place.address, place.len).map_err(BootError::Initrd)
}

/// A module: the initramfs's guest address and length.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Module {
    /// Guest address.
    pub address: u64,
    /// Length in bytes.
    pub len: u64,
}

/// Writes the command line and the start info that points to all else.
pub fn write_start_info(
    ram: &GuestRam,
    layout: &RamLayout,
    command_line: &str,
    initrd: Option<Module>,
) -> Result<(), BootError> {
    // Memory is zero already, which ends the string.
    ram.write(layout::COMMAND_LINE, command_line.as_bytes())?;
    let map = memory_map(layout);
    let start_info = hvm_start_info {
        magic: XEN_HVM_START_MAGIC_VALUE,
        version: START_INFO_VERSION,
        nr_modules: u32::from(initrd.is_some()),
        modlist_paddr: initrd.map_or(0, |_| layout::MODULE_LIST),
        cmdline_paddr: layout::COMMAND_LINE,
        rsdp_paddr: layout::ACPI_TABLES,
        memmap_paddr: layout::MEMORY_MAP,
        memmap_entries: u32::try_from(map.len()).unwrap_or_default(),
        ..hvm_start_info::default()
    };
    let mut parameters = BootParams::new(&start_info, GuestAddress(layout::START_INFO));
    parameters.set_sections(&map, GuestAddress(layout::MEMORY_MAP));
    if let Some(initrd) = initrd {
        let module = hvm_modlist_entry {
            paddr: initrd.address,
            size: initrd.len,
            ..hvm_modlist_entry::default()
        };
        parameters.set_modules(&[module], GuestAddress(layout::MODULE_LIST));
    }
    PvhBootConfigurator::write_bootparams(&parameters, ram.inner()).map_err(BootError::StartInfo)
}

/// Memory as the guest may use it: all of it but what lies between low memory and 1 MiB.
fn memory_map(layout: &RamLayout) -> Vec<hvm_memmap_table_entry> {
    let entry = |addr, end: u64, type_| hvm_memmap_table_entry {
        addr,
        size: end.saturating_sub(addr),
        type_,
        reserved: 0,
    };
    let acpi_end = layout::ACPI_TABLES + layout::ACPI_TABLES_SIZE;
    let mut map = vec![
        entry(0, layout::LOW_MEMORY_END, XEN_HVM_MEMMAP_TYPE_RAM),
        entry(layout::ACPI_TABLES, acpi_end, XEN_HVM_MEMMAP_TYPE_ACPI),
    ];
    for range in layout.ranges() {
        let start = range.start.max(layout::KERNEL_MIN);
        map.push(entry(start, range.end(), XEN_HVM_MEMMAP_TYPE_RAM));
    }
    map
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn the_memory_map_is_memory_and_nothing_else(bytes in memory::MIN_MEMORY..1u64 << 40) {
            let layout = RamLayout::new(bytes);
            let map = memory_map(&layout);
            let mut last = 0;
            let mut usable = 0;
            for entry in &map {
                prop_assert!(entry.addr >= last, "sorted, no overlap");
                last = entry.addr + entry.size;
                if entry.type_ == XEN_HVM_MEMMAP_TYPE_RAM {
                    usable += entry.size;
                    let inside = |r: &memory::RamRange| r.start <= entry.addr && last <= r.end();
                    prop_assert_eq!(layout.ranges().filter(inside).count(), 1);
                }
            }
            let legacy = layout::KERNEL_MIN - layout::LOW_MEMORY_END;
            prop_assert_eq!(usable, bytes - legacy);
        }

        #[test]
        fn an_initrd_never_meets_the_kernel(
            bytes in memory::MIN_MEMORY..1u64 << 34, end in 0u64..1 << 33, len in 1u64..1 << 33
        ) {
            let layout = RamLayout::new(bytes);
            if let Some(start) = place_initrd(&layout, end, len) {
                prop_assert!(start >= end && start + len <= layout.low().end());
                prop_assert_eq!(start % PAGE, 0);
            }
        }
    }
}
