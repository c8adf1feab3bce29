//! The x86-64 machine.
//!
//! There is no firmware. The kernel is an ELF file that is entered by the PVH protocol, in 32-bit
//! protected mode with paging off, and finds everything else through one structure:
//!
//! ```text
//! hvm_start_info ── memory map
//!                ── command line
//!                ── module 0: the initramfs
//!                ── RSDP ── XSDT ── FADT ── DSDT   power, reset, devices
//!                                └─ MADT           processors, I/O APIC
//! ```

pub mod acpi;
pub mod boot;
pub mod cpuid;
pub mod kernel;
pub mod layout;
pub mod msrs;
pub mod regs;
