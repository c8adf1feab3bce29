//! Where things lie in the guest's physical address space.
//!
//! ```text
//! 0x0000_0000  start info, memory map, command line        low memory, to 639 KiB
//! 0x000e_0000  ACPI tables                                 reserved, to 1 MiB
//! 0x0010_0000  kernel, then free memory, initramfs on top  to 3 GiB at most
//! 0xc000_0000  virtio-mmio slots, I/O APIC, local APIC     the hole
//! 0x1_0000_0000  the rest of memory, to its end
//! multiples of 1 GiB above that: mapped disks
//! ```
//!
//! Every device has a fixed slot: its address and its interrupt follow from the slot's number alone.

/// First byte of the hole in which devices are mapped.
pub const HOLE_START: u64 = 0xc000_0000;
/// First byte after the hole: memory goes on here.
pub const HOLE_END: u64 = 0x1_0000_0000;

/// End of conventional memory; above it real-mode firmware would keep its data.
pub const LOW_MEMORY_END: u64 = 0x9_fc00;
/// Where the kernel may be loaded: nothing of ours lies above.
pub const KERNEL_MIN: u64 = 0x10_0000;

/// Where `hvm_start_info` lies.
pub const START_INFO: u64 = 0x6000;
/// Where the list of modules (one: the initramfs) lies.
pub const MODULE_LIST: u64 = 0x6080;
/// Where the memory map lies.
pub const MEMORY_MAP: u64 = 0x6100;
/// Where the command line lies.
pub const COMMAND_LINE: u64 = 0x6800;
/// Bytes of command line that Linux keeps, the terminating zero included.
pub const COMMAND_LINE_MAX: usize = 2048;

/// Where the ACPI tables lie, the RSDP first.
pub const ACPI_TABLES: u64 = 0xe_0000;
/// Room for the ACPI tables.
pub const ACPI_TABLES_SIZE: u64 = 0x2_0000;

// Boot data lies between its neighbours.
const _: () =
    assert!(START_INFO < MODULE_LIST && MODULE_LIST < MEMORY_MAP && MEMORY_MAP < COMMAND_LINE);
const _: () = assert!(COMMAND_LINE + COMMAND_LINE_MAX as u64 <= LOW_MEMORY_END);
const _: () =
    assert!(ACPI_TABLES >= LOW_MEMORY_END && ACPI_TABLES + ACPI_TABLES_SIZE <= KERNEL_MIN);

/// Register page of the I/O APIC.
pub const IO_APIC: u32 = 0xfec0_0000;
/// Register page of each local APIC.
pub const LOCAL_APIC: u32 = 0xfee0_0000;
/// Three pages that KVM needs on Intel processors, in the hole.
pub const KVM_TSS: usize = 0xfffb_d000;

/// Register page of virtio-mmio slot 0.
const VIRTIO_MMIO: u64 = 0xd000_0000;
/// Bytes of a slot's register page.
pub const VIRTIO_MMIO_SIZE: u64 = 0x1000;

/// Interrupt of the power button.
pub const POWER_BUTTON_GSI: u32 = 9;
/// Interrupt of the serial port, where every kernel expects it.
pub const SERIAL_GSI: u32 = 4;
/// The first 16550's I/O ports.
pub const SERIAL_PORT: u64 = 0x3f8;
/// Number of I/O ports of a 16550.
pub const SERIAL_PORTS: u64 = 8;
/// The keyboard controller's ports, of which only the reset line is there.
pub const I8042_PORT: u64 = 0x60;
/// Number of ports from `I8042_PORT` to the command register.
pub const I8042_PORTS: u64 = 5;
/// ACPI sleep control, sleep status and reset registers, one byte each.
pub const POWER_PORT: u64 = 0x600;
/// Number of power ports.
pub const POWER_PORTS: u64 = 3;

/// Interrupts that a virtio-mmio slot may have: the I/O APIC's pins that are nobody else's.
const SLOT_GSIS: [u8; 18] = [
    5, 6, 7, 8, 10, 11, 12, 13, 14, 15, 16, 17, 18, 19, 20, 21, 22, 23,
];
/// Number of virtio-mmio slots.
pub const SLOTS: usize = SLOT_GSIS.len();

/// Most bits of an address that a guest can use: so many does Linux have with page tables of four levels, whatever the
/// processor offers.
pub const MAX_ADDRESS_BITS: u32 = 46;

/// Most vCPUs of a machine. Their local APIC ids are their numbers, and fit the MADT's 8-bit form.
pub const MAX_CPUS: u32 = 64;

/// A place for one virtio device.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Slot {
    /// Guest address of its register page.
    pub address: u64,
    /// Its interrupt.
    pub gsi: u32,
}

impl Slot {
    /// The slot of this number, if there is one.
    pub fn new(number: usize) -> Option<Self> {
        let gsi = u32::from(*SLOT_GSIS.get(number)?);
        let number = u64::try_from(number).ok()?;
        Some(Self {
            address: VIRTIO_MMIO + number * VIRTIO_MMIO_SIZE,
            gsi,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;

    #[test]
    fn slots_share_nothing_and_lie_in_the_hole() {
        let slots: Vec<Slot> = (0..SLOTS).map(|n| Slot::new(n).unwrap()).collect();
        let gsis: HashSet<u32> = slots.iter().map(|s| s.gsi).collect();
        let pages: HashSet<u64> = slots.iter().map(|s| s.address).collect();
        assert_eq!((gsis.len(), pages.len()), (SLOTS, SLOTS));
        assert!(!gsis.contains(&POWER_BUTTON_GSI) && !gsis.contains(&SERIAL_GSI));
        for slot in slots {
            assert!(slot.address >= HOLE_START);
            assert!(slot.address + VIRTIO_MMIO_SIZE <= u64::from(IO_APIC));
            assert!(slot.gsi < 24);
        }
        assert_eq!(Slot::new(SLOTS), None);
    }
}
