//! The state in which the PVH protocol enters a kernel: 32-bit protected mode, flat segments, paging
//! off, interrupts off, `ebx` pointing to the start info. The kernel loads a descriptor table of its
//! own at once, so there is none in memory: what the processor has cached of each segment is enough.

use kvm_bindings::{kvm_regs, kvm_segment, kvm_sregs};

use super::layout;

/// Protection enabled.
const CR0_PE: u64 = 1;
/// Extension type: hard-wired to one on every processor that has 64-bit mode.
const CR0_ET: u64 = 1 << 4;
/// Bit 1 of the flags is always set.
const RFLAGS_FIXED: u64 = 2;

const TYPE_CODE: u8 = 0xb;
const TYPE_DATA: u8 = 0x3;
const TYPE_TSS_BUSY: u8 = 0xb;

fn flat(selector: u16, type_: u8) -> kvm_segment {
    kvm_segment {
        base: 0,
        limit: u32::MAX,
        selector,
        type_,
        present: 1,
        db: 1,
        s: 1,
        g: 1,
        ..kvm_segment::default()
    }
}

/// Sets the segments and control registers of the boot processor, given those it was made with.
pub fn enter_protected_mode(sregs: &mut kvm_sregs) {
    let data = flat(0x10, TYPE_DATA);
    sregs.cs = flat(0x08, TYPE_CODE);
    sregs.ds = data;
    sregs.es = data;
    sregs.fs = data;
    sregs.gs = data;
    sregs.ss = data;
    sregs.tr = kvm_segment {
        limit: 0x67,
        selector: 0x18,
        type_: TYPE_TSS_BUSY,
        present: 1,
        ..kvm_segment::default()
    };
    sregs.cr0 = CR0_PE | CR0_ET;
    sregs.cr4 = 0;
    sregs.efer = 0;
}

/// General registers at a kernel's entry.
pub fn at_entry(entry: u32) -> kvm_regs {
    kvm_regs {
        rip: u64::from(entry),
        rbx: layout::START_INFO,
        rflags: RFLAGS_FIXED,
        ..kvm_regs::default()
    }
}
