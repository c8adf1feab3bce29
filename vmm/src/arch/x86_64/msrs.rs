//! Model-specific registers that are not right at power-on. All others are as KVM sets them.

use kvm_bindings::{Msrs, kvm_msr_entry};

const MSR_IA32_MISC_ENABLE: u32 = 0x1a0;
/// `rep movs` is quick; a kernel that finds this off copies word by word on Intel processors.
const FAST_STRING: u64 = 1;
const MSR_MTRR_DEF_TYPE: u32 = 0x2ff;
const MTRR_ENABLE: u64 = 1 << 11;
const MTRR_WRITE_BACK: u64 = 6;

/// What every vCPU starts with.
pub fn at_power_on() -> Result<Msrs, vmm_sys_util::fam::Error> {
    let entry = |index, data| kvm_msr_entry {
        index,
        data,
        ..kvm_msr_entry::default()
    };
    Msrs::from_entries(&[
        entry(MSR_IA32_MISC_ENABLE, FAST_STRING),
        entry(MSR_MTRR_DEF_TYPE, MTRR_ENABLE | MTRR_WRITE_BACK),
    ])
}
