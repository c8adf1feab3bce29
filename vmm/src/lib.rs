//! A small virtual machine monitor for Linux and KVM.
//!
//! A machine is described by [`msb_vmapi::VmConfig`], becomes a [`Blueprint`] when every part of the
//! description has been checked and opened, and then a [`Machine`], which runs until the guest or
//! somebody else ends it.
//!
//! ```text
//! VmConfig + descriptors ── Blueprint ── Machine ── run() ── Outcome
//!
//! threads:  main     event loop: control, console, vsock, rng, signals
//!           blk0 ..  the same loop, one device each, whose system calls block
//!           vcpu0 .. the guest; memory-mapped and port accesses go over a bus to register files
//! ```
//!
//! A vCPU thread never calls a device. It changes a register file and posts what follows from it to
//! the loop that owns the device; only a reset does it wait for.
//!
//! A paused machine is one whose vCPU threads sleep outside the guest. Devices and the main loop go on.

pub mod arch;
#[cfg(feature = "attacker")]
pub mod attacker;
pub mod blueprint;
pub mod bus;
pub mod cli;
pub mod clock;
pub mod control;
pub mod cpu_time;
pub mod device_host;
pub mod ending;
pub mod event_loop;
pub mod inherited;
pub mod jail;
pub mod kvm;
pub mod legacy;
pub mod machine;
pub mod memory;
pub mod message;
pub mod porter;
pub mod probe;
pub mod program;
pub mod report;
pub mod signals;
pub mod terminal;
#[cfg(test)]
mod test_support;
pub mod transport;
pub mod vcpu;
pub mod worker;
