//! Whether virtualization is there, and real.
//!
//! The file /dev/kvm proves nothing: there are KVMs that interpret a guest's kernel code instead of
//! having the processor run it, a thousand times slower and with instructions missing. Two things
//! tell. The processor says whether it has virtualization, which costs nothing and is asked at every
//! start. And a guest that counts down in ring 0 shows what an iteration takes, which is what
//! `msb-vmm --check` runs.

use std::arch::x86_64::__cpuid;
use std::time::{Duration, Instant};

use vmm_virtio::GuestRam;

use crate::arch::x86_64::layout;
use crate::kvm::{Exit, KvmError, System, Vcpu, Vm};
use crate::memory::{self, RamLayout};

const VMX: u32 = 1 << 5;
const SVM: u32 = 1 << 2;

/// Slower than this is interpreted, not run.
const MAX_NANOSECONDS: f64 = 20.0;
/// Iterations: long enough to drown one entry and exit, short enough to end under an interpreter.
const ITERATIONS: u32 = 200_000;

/// Port that the measuring guest writes to when it is done.
const DONE_PORT: u16 = 0x2a;

/// Whether the processor has VMX (Intel) or SVM (AMD).
pub fn processor_has_virtualization() -> bool {
    let svm = __cpuid(0x8000_0000).eax > 0x8000_0000 && __cpuid(0x8000_0001).ecx & SVM != 0;
    svm || __cpuid(1).ecx & VMX != 0
}

/// What the timed guest showed.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Verdict {
    /// Whether the processor says that it has virtualization.
    pub flags: bool,
    /// Time of one iteration of the guest's loop, in nanoseconds.
    pub iteration_ns: f64,
}

impl Verdict {
    /// Whether sandboxes will run well.
    pub fn is_good(&self) -> bool {
        self.flags && self.iteration_ns <= MAX_NANOSECONDS
    }
}

impl std::fmt::Display for Verdict {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self {
            flags,
            iteration_ns,
        } = self;
        if !flags {
            return write!(f, "not usable: {}", KvmError::NotHardware);
        }
        if !self.is_good() {
            return write!(
                f,
                "not usable: a guest's loop takes {iteration_ns:.0} ns an iteration, so its kernel is \
                 interpreted; use a host whose KVM has the processor's virtualization"
            );
        }
        write!(
            f,
            "good: KVM with hardware virtualization, {iteration_ns:.1} ns an iteration of a guest's loop"
        )
    }
}

/// The probing guest did not do as it was told.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ProbeError {
    /// KVM cannot be used.
    #[error("KVM cannot be used")]
    Kvm(#[from] KvmError),
    /// No memory for the guest.
    #[error("the probing guest has no memory")]
    Memory(#[from] memory::MapError),
    /// No code in its memory.
    #[error("the probing guest could not be written")]
    Write(#[from] vmm_virtio::Fault),
    /// The guest ended in another way than by its last instruction.
    #[error("the probing guest ended unexpectedly: {0}")]
    Guest(String),
}

/// Runs the loop in ring 0 and times it.
pub fn measure() -> Result<Verdict, ProbeError> {
    let system = System::open_any()?;
    let ram = memory::map(&RamLayout::new(memory::MIN_MEMORY), Vec::new())?;
    write_loop(&ram)?;
    let vm = Vm::new(&system, ram)?;
    let mut vcpu = Vcpu::new(&vm, 0, &system.supported_cpuid()?)?;
    let entry = u32::try_from(layout::KERNEL_MIN).unwrap_or_default();
    vcpu.enter_at(entry)?;
    // The first exit is at the loop's start, the second at its end: set-up is not measured.
    to_port(&mut vcpu)?;
    let start = Instant::now();
    to_port(&mut vcpu)?;
    Ok(Verdict {
        flags: processor_has_virtualization(),
        iteration_ns: nanoseconds_each(start.elapsed()),
    })
}

fn nanoseconds_each(elapsed: Duration) -> f64 {
    elapsed.as_secs_f64() * 1e9 / f64::from(ITERATIONS)
}

/// `out 0x2a, al; mov ecx, N; 1: dec ecx; jnz 1b; out 0x2a, al; hlt`
fn write_loop(ram: &GuestRam) -> Result<(), vmm_virtio::Fault> {
    let out = [0xe6, DONE_PORT.to_le_bytes()[0]];
    let mut code = Vec::new();
    code.extend(out);
    code.push(0xb9);
    code.extend(ITERATIONS.to_le_bytes());
    code.extend([0x49, 0x75, 0xfd]);
    code.extend(out);
    code.push(0xf4);
    ram.write(layout::KERNEL_MIN, &code)
}

fn to_port(vcpu: &mut Vcpu) -> Result<(), ProbeError> {
    loop {
        match vcpu.run() {
            Exit::PortWrite(port, _) if port == u64::from(DONE_PORT) => return Ok(()),
            Exit::Interrupted => {}
            exit => return Err(ProbeError::Guest(format!("{exit:?}"))),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_loop_ends_and_took_time() {
        if let Err(error) = System::open_any() {
            println!("skipped: {error}");
            return;
        }
        let verdict = measure().unwrap();
        assert!(verdict.iteration_ns > 0.0);
        assert_eq!(verdict.flags, processor_has_virtualization());
    }
}
