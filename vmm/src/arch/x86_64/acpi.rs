//! ACPI tables: what the guest finds its processors, devices, power and reset by.
//!
//! The machine is *hardware-reduced*: none of the PC's timers, interrupt controllers and power
//! registers exist, so that a kernel neither looks for them nor waits for them. What is there:
//!
//! - `MADT`: local APICs and the I/O APIC;
//! - `FADT`: the registers for reset and for sleep (S5 is "off");
//! - `DSDT`: the virtio-mmio slots in use, the serial port if there is one, and a *generic event
//!   device* whose interrupt means that the power button was pressed.
//!
//! Only what this machine has is described, since a kernel works through every line at boot.

use acpi_tables::aml::{
    self, Device, EISAName, IO, Interrupt, Memory32Fixed, Method, Name, Notify, Package, Path,
    ResourceTemplate,
};
use acpi_tables::fadt::{FADTBuilder, Flags};
use acpi_tables::gas::{AccessSize, AddressSpace, GAS};
use acpi_tables::madt::{
    EnabledStatus, IoApic, LocalInterruptController, MADT, ProcessorLocalApic,
};
use acpi_tables::rsdp::Rsdp;
use acpi_tables::sdt::Sdt;
use acpi_tables::xsdt::XSDT;
use acpi_tables::{Aml, AmlSink};

use super::layout::{self, Slot};

const OEM: [u8; 6] = *b"MSBVMM";
const TABLE: [u8; 8] = *b"MICROVM ";
const REVISION: u32 = 1;

/// ACPI 2.0 and later: 64-bit integers in AML.
const DSDT_REVISION: u8 = 2;
const TABLE_HEADER: u32 = 36;
/// Each table starts at a multiple of this.
const ALIGN: usize = 16;

/// Boot architecture flags: no VGA, no PC clock (ACPI 6.5, table 5.11). No legacy devices, no
/// keyboard controller: bits 0 and 1 stay clear.
const BOOT_ARCH: u16 = 1 << 2 | 1 << 5;

/// Written to the reset register by a guest that wants a reset.
pub const RESET_VALUE: u8 = 1;
/// Sleep type of S5, written to the sleep control register.
pub const SLEEP_TYPE_OFF: u8 = 5;

/// What the tables depend on.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Description {
    /// Number of vCPUs; each one's APIC id is its number.
    pub cpus: u8,
    /// Virtio slots in use, by rising address.
    pub slots: Vec<Slot>,
    /// Whether there is a serial port.
    pub serial: bool,
}

/// All tables, to be placed at this guest address. The RSDP comes first.
///
/// `None` if they do not fit in `room` bytes, which no machine within the limits causes.
pub fn tables(description: &Description, address: u64, room: u64) -> Option<Vec<u8>> {
    let mut image = vec![0; Rsdp::len().next_multiple_of(ALIGN)];
    let mut place = |table: &dyn Aml| {
        image.resize(image.len().next_multiple_of(ALIGN), 0);
        let at = address + u64::try_from(image.len()).ok()?;
        table.to_aml_bytes(&mut image);
        Some(at)
    };
    let dsdt = place(&dsdt(description))?;
    let fadt = place(&fadt(dsdt))?;
    let madt = place(&madt(description.cpus))?;
    let mut xsdt = XSDT::new(OEM, TABLE, REVISION);
    xsdt.add_entry(fadt);
    xsdt.add_entry(madt);
    let xsdt = place(&xsdt)?;
    let mut rsdp = Vec::new();
    Rsdp::new(OEM, xsdt).to_aml_bytes(&mut rsdp);
    for (to, from) in image.iter_mut().zip(rsdp) {
        *to = from;
    }
    (u64::try_from(image.len()).ok()? <= room).then_some(image)
}

fn power_register(number: u64) -> GAS {
    GAS::new(
        AddressSpace::SystemIo,
        8,
        0,
        AccessSize::ByteAccess,
        layout::POWER_PORT + number,
    )
}

fn fadt(dsdt: u64) -> impl Aml {
    let mut fadt = FADTBuilder::new(OEM, TABLE, REVISION)
        .dsdt_64(dsdt)
        .flag(Flags::HwReducedAcpi)
        .flag(Flags::Headless)
        .flag(Flags::Wbinvd)
        // These two mean that the fixed button is *not* there.
        .flag(Flags::PwrButton)
        .flag(Flags::SlpButton)
        .flag(Flags::ResetRegSup);
    fadt.iapc_boot_arch = BOOT_ARCH.into();
    fadt.sleep_control_reg = power_register(0);
    fadt.sleep_status_reg = power_register(1);
    fadt.reset_reg = power_register(2);
    fadt.reset_value = RESET_VALUE;
    fadt.finalize()
}

fn madt(cpus: u8) -> impl Aml {
    let address = LocalInterruptController::Address(layout::LOCAL_APIC);
    let mut madt = MADT::new(OEM, TABLE, REVISION, address);
    for id in 0..cpus {
        madt.add_structure(ProcessorLocalApic::new(id, id, EnabledStatus::Enabled));
    }
    madt.add_structure(IoApic::new(0, layout::IO_APIC, 0));
    madt
}

/// A finished table: its bytes, checksum and all.
struct Finished(Sdt);

impl Aml for Finished {
    fn to_aml_bytes(&self, sink: &mut dyn AmlSink) {
        sink.vec(self.0.as_slice());
    }
}

fn dsdt(description: &Description) -> impl Aml {
    let mut body = Vec::new();
    sleep_off(&mut body);
    power_button(&mut body);
    for (number, slot) in description.slots.iter().enumerate() {
        virtio(&mut body, number, *slot);
    }
    if description.serial {
        serial(&mut body);
    }
    let mut table = Sdt::new(*b"DSDT", TABLE_HEADER, DSDT_REVISION, OEM, TABLE, REVISION);
    table.append_slice(&body);
    Finished(table)
}

/// `\_S5_`: what to write to the sleep control register for "off".
fn sleep_off(body: &mut Vec<u8>) {
    Name::new("_S5_".into(), &Package::new(vec![&SLEEP_TYPE_OFF])).to_aml_bytes(body);
}

fn interrupt(gsi: u32) -> Interrupt {
    // Consumed here; edge-triggered, active high, not shared.
    Interrupt::new(true, true, false, false, gsi)
}

/// A button, and the device whose event says that it was pressed (ACPI 6.5, section 5.6.9).
fn power_button(body: &mut Vec<u8>) {
    let button = Path::new("\\_SB_.PWRB");
    Device::new(
        "_SB_.PWRB".into(),
        vec![&Name::new("_HID".into(), &EISAName::new("PNP0C0C"))],
    )
    .to_aml_bytes(body);
    Device::new(
        "_SB_.GED_".into(),
        vec![
            &Name::new("_HID".into(), &"ACPI0013"),
            &Name::new(
                "_CRS".into(),
                &ResourceTemplate::new(vec![&interrupt(layout::POWER_BUTTON_GSI)]),
            ),
            // One event, so its argument need not be looked at. 0x80: the button was pressed.
            &Method::new("_EVT".into(), 1, true, vec![&Notify::new(&button, &0x80u8)]),
        ],
    )
    .to_aml_bytes(body);
}

fn virtio(body: &mut Vec<u8>, number: usize, slot: Slot) {
    let (Ok(number), Ok(address), Ok(size)) = (
        u8::try_from(number),
        u32::try_from(slot.address),
        u32::try_from(layout::VIRTIO_MMIO_SIZE),
    ) else {
        return;
    };
    let name = format!("_SB_.V{number:03}");
    Device::new(
        name.as_str().into(),
        vec![
            &Name::new("_HID".into(), &"LNRO0005"),
            &Name::new("_UID".into(), &number),
            &Name::new("_CCA".into(), &aml::ONE),
            &Name::new(
                "_CRS".into(),
                &ResourceTemplate::new(vec![
                    &Memory32Fixed::new(true, address, size),
                    &interrupt(slot.gsi),
                ]),
            ),
        ],
    )
    .to_aml_bytes(body);
}

fn serial(body: &mut Vec<u8>) {
    let (Ok(port), Ok(ports)) = (
        u16::try_from(layout::SERIAL_PORT),
        u8::try_from(layout::SERIAL_PORTS),
    ) else {
        return;
    };
    Device::new(
        "_SB_.COM1".into(),
        vec![
            &Name::new("_HID".into(), &EISAName::new("PNP0501")),
            &Name::new("_UID".into(), &aml::ZERO),
            &Name::new(
                "_CRS".into(),
                &ResourceTemplate::new(vec![
                    &interrupt(layout::SERIAL_GSI),
                    &IO::new(port, port, 1, ports),
                ]),
            ),
        ],
    )
    .to_aml_bytes(body);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn u32_at(bytes: &[u8], at: usize) -> usize {
        u32::from_le_bytes(bytes[at..at + 4].try_into().unwrap()) as usize
    }

    fn u64_at(bytes: &[u8], at: usize) -> u64 {
        u64::from_le_bytes(bytes[at..at + 8].try_into().unwrap())
    }

    fn sum(bytes: &[u8]) -> u8 {
        bytes.iter().fold(0, |sum, byte| sum.wrapping_add(*byte))
    }

    fn machine(cpus: u8, slots: usize) -> Vec<u8> {
        let description = Description {
            cpus,
            slots: (0..slots).map(|n| Slot::new(n).unwrap()).collect(),
            serial: true,
        };
        tables(&description, layout::ACPI_TABLES, layout::ACPI_TABLES_SIZE).unwrap()
    }

    fn table(image: &[u8], address: u64) -> &[u8] {
        let at = usize::try_from(address - layout::ACPI_TABLES).unwrap();
        &image[at..at + u32_at(image, at + 4)]
    }

    #[test]
    fn every_table_is_reachable_and_sums_to_zero() {
        for (cpus, slots) in [(1, 0), (2, 3), (64, layout::SLOTS)] {
            let image = machine(cpus, slots);
            assert_eq!(&image[..8], b"RSD PTR ");
            assert_eq!((sum(&image[..20]), sum(&image[..36])), (0, 0));
            let xsdt = table(&image, u64_at(&image, 24));
            assert_eq!((&xsdt[..4], sum(xsdt)), (b"XSDT".as_slice(), 0));
            let fadt = table(&image, u64_at(xsdt, 36));
            assert_eq!((&fadt[..4], sum(fadt)), (b"FACP".as_slice(), 0));
            let madt = table(&image, u64_at(xsdt, 44));
            assert_eq!((&madt[..4], sum(madt)), (b"APIC".as_slice(), 0));
            assert_eq!(madt.len(), 44 + 8 * usize::from(cpus) + 12);
            let dsdt = table(&image, u64_at(fadt, 140));
            assert_eq!((&dsdt[..4], sum(dsdt)), (b"DSDT".as_slice(), 0));
            let devices = dsdt.windows(8).filter(|w| w == b"LNRO0005").count();
            assert_eq!(devices, slots);
        }
    }

    #[test]
    fn tables_that_do_not_fit_are_refused() {
        let description = Description {
            cpus: 64,
            ..Description::default()
        };
        assert_eq!(tables(&description, layout::ACPI_TABLES, 512), None);
    }
}
