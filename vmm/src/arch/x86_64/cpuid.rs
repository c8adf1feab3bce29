//! What the guest's processors say of themselves.
//!
//! The base is all that KVM can give this guest on this host. On top of it come the things that KVM
//! leaves to us: each processor's number, and the shape of the package: one socket, and every vCPU a
//! core of its own.

use std::arch::x86_64::__cpuid;

use kvm_bindings::{CpuId, kvm_cpuid_entry2};

/// First leaf of KVM's own.
const LEAF_KVM_SIGNATURE: u32 = 0x4000_0000;
/// Clock rates, as several hypervisors agree on them.
const LEAF_TIMING: u32 = 0x4000_0010;

const LEAF1_ECX_X2APIC: u32 = 1 << 21;
const LEAF1_ECX_TSC_DEADLINE: u32 = 1 << 24;
const LEAF1_ECX_HYPERVISOR: u32 = 1 << 31;
const LEAF1_EDX_HTT: u32 = 1 << 28;
/// AMD: `CmpLegacy`, meaning that the processors of a package are cores and not threads.
const EXT1_ECX_CMP_LEGACY: u32 = 1 << 1;

/// Widths of addresses; every 64-bit processor has this leaf.
const LEAF_ADDRESSES: u32 = 0x8000_0008;

/// Nanoseconds of one tick of KVM's local APIC timer are fixed: 1 GHz, in kHz here.
const APIC_KHZ: u32 = 1_000_000;

const LEVEL_THREAD: u32 = 1 << 8;
const LEVEL_CORE: u32 = 2 << 8;

/// What is the same for all processors of a machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Shape {
    /// Number of vCPUs, 1 to 64.
    pub cpus: u8,
    /// Whether the local APIC timer can be armed by an absolute time-stamp.
    pub tsc_deadline: bool,
}

impl Shape {
    /// Bits of an APIC id that number the cores.
    fn core_bits(self) -> u32 {
        u32::from(self.cpus).next_power_of_two().trailing_zeros()
    }
}

/// Bits of a physical address on this host, and in its guests.
pub fn address_bits() -> u32 {
    __cpuid(LEAF_ADDRESSES).eax & 0xff
}

/// Turns what KVM supports into what the machine has, but for each vCPU's own number.
pub fn for_machine(supported: &CpuId, shape: Shape) -> Result<CpuId, vmm_sys_util::fam::Error> {
    let mut entries: Vec<kvm_cpuid_entry2> = supported.as_slice().to_vec();
    // Topology leaves come in sub-leaves whose number we choose.
    entries.retain(|entry| !matches!(entry.function, 0xb | 0x1f | LEAF_TIMING));
    for entry in &mut entries {
        common(entry, shape);
    }
    let highest = entries
        .iter()
        .find(|entry| entry.function == 0)
        .map_or(0, |entry| entry.eax);
    for function in [0xb, 0x1f] {
        if function <= highest {
            entries.extend(topology(function, shape));
        }
    }
    // Filled in for each vCPU, which is asked for its rate.
    entries.push(kvm_cpuid_entry2 {
        function: LEAF_TIMING,
        ebx: APIC_KHZ,
        ..kvm_cpuid_entry2::default()
    });
    CpuId::from_entries(&entries)
}

/// Gives the machine's leaves the number of one vCPU, which is also its APIC id, and the rate of its
/// time-stamp counter (0: unknown).
pub fn number(cpuid: &mut CpuId, id: u8, tsc_khz: u32) {
    let apic_id = u32::from(id);
    for entry in cpuid.as_mut_slice() {
        match entry.function {
            1 => entry.ebx = (entry.ebx & 0x00ff_ffff) | apic_id << 24,
            0xb | 0x1f => entry.edx = apic_id,
            LEAF_TIMING => entry.eax = tsc_khz,
            0x8000_001e => {
                entry.eax = apic_id;
                // Core number in the low byte, one thread to the core.
                entry.ebx = apic_id;
                // One node.
                entry.ecx = 0;
            }
            _ => {}
        }
    }
}

fn common(entry: &mut kvm_cpuid_entry2, shape: Shape) {
    let cpus = u32::from(shape.cpus);
    match entry.function {
        1 => {
            entry.ebx = (entry.ebx & 0xff00_ffff) | cpus << 16;
            entry.ecx |= LEAF1_ECX_HYPERVISOR | LEAF1_ECX_X2APIC;
            set(&mut entry.ecx, LEAF1_ECX_TSC_DEADLINE, shape.tsc_deadline);
            set(&mut entry.edx, LEAF1_EDX_HTT, cpus > 1);
        }
        // Caches, Intel (4) and AMD (0x8000_001d): who shares this one, and cores in the package.
        4 | 0x8000_001d => {
            let level = entry.eax >> 5 & 7;
            let sharing = if level >= 3 { cpus - 1 } else { 0 };
            entry.eax = (entry.eax & 0x3fff) | sharing << 14;
            if entry.function == 4 {
                entry.eax |= (cpus - 1) << 26;
            }
        }
        // No performance counters: a guest that finds some spends its time and exits on them.
        0xa => (entry.eax, entry.ebx, entry.ecx, entry.edx) = (0, 0, 0, 0),
        LEAF_KVM_SIGNATURE => entry.eax = entry.eax.max(LEAF_TIMING),
        0x8000_0001 => set(&mut entry.ecx, EXT1_ECX_CMP_LEGACY, cpus > 1),
        LEAF_ADDRESSES => {
            entry.ecx = (entry.ecx & !0xf0ff) | shape.core_bits() << 12 | (cpus - 1);
        }
        _ => {}
    }
}

/// Extended topology: one thread to the core, `cpus` cores to the package, and the end.
fn topology(function: u32, shape: Shape) -> [kvm_cpuid_entry2; 3] {
    let level = |index, eax, ebx, kind| kvm_cpuid_entry2 {
        function,
        index,
        flags: kvm_bindings::KVM_CPUID_FLAG_SIGNIFCANT_INDEX,
        eax,
        ebx,
        ecx: kind | index,
        ..kvm_cpuid_entry2::default()
    };
    [
        level(0, 0, 1, LEVEL_THREAD),
        level(1, shape.core_bits(), u32::from(shape.cpus), LEVEL_CORE),
        level(2, 0, 0, 0),
    ]
}

fn set(register: &mut u32, bit: u32, on: bool) {
    if on {
        *register |= bit;
    } else {
        *register &= !bit;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn machine(cpus: u8) -> CpuId {
        let entry = |function, eax| kvm_cpuid_entry2 {
            function,
            eax,
            ..kvm_cpuid_entry2::default()
        };
        let supported = CpuId::from_entries(&[
            entry(0, 0x10),
            entry(1, 0),
            entry(4, 3 << 5),
            entry(0xb, 99),
            entry(LEAF_KVM_SIGNATURE, 0),
            entry(0x8000_001e, 0),
        ])
        .unwrap();
        let shape = Shape {
            cpus,
            tsc_deadline: true,
        };
        for_machine(&supported, shape).unwrap()
    }

    fn leaf(cpuid: &CpuId, function: u32, index: u32) -> kvm_cpuid_entry2 {
        let found = |e: &&kvm_cpuid_entry2| e.function == function && e.index == index;
        *cpuid.as_slice().iter().find(found).unwrap()
    }

    #[test]
    fn every_way_to_ask_gives_the_same_number() {
        let mut cpuid = machine(8);
        for id in [0, 5, 7] {
            number(&mut cpuid, id, 2_000_000);
            let apic_id = u32::from(id);
            assert_eq!(leaf(&cpuid, 1, 0).ebx >> 24, apic_id);
            assert_eq!(leaf(&cpuid, 0xb, 0).edx, apic_id);
            assert_eq!(leaf(&cpuid, 0xb, 1).edx, apic_id);
            assert_eq!(leaf(&cpuid, 0x8000_001e, 0).eax, apic_id);
        }
    }

    #[test]
    fn the_package_has_as_many_cores_as_vcpus() {
        for (cpus, bits) in [(1, 0), (2, 1), (3, 2), (32, 5), (64, 6)] {
            let cpuid = machine(cpus);
            let cores = leaf(&cpuid, 0xb, 1);
            assert_eq!((cores.eax, cores.ebx), (bits, u32::from(cpus)));
            assert_eq!(leaf(&cpuid, 1, 0).ebx >> 16 & 0xff, u32::from(cpus));
            assert_eq!(leaf(&cpuid, 4, 0).eax >> 26, u32::from(cpus) - 1);
            assert_eq!(leaf(&cpuid, 1, 0).edx & LEAF1_EDX_HTT != 0, cpus > 1);
        }
    }

    #[test]
    fn the_hypervisor_shows_itself() {
        let mut cpuid = machine(1);
        number(&mut cpuid, 0, 2_000_000);
        assert!(leaf(&cpuid, 1, 0).ecx & LEAF1_ECX_HYPERVISOR != 0);
        assert_eq!(leaf(&cpuid, LEAF_KVM_SIGNATURE, 0).eax, LEAF_TIMING);
        assert_eq!(leaf(&cpuid, LEAF_TIMING, 0).eax, 2_000_000);
    }
}
