//! All that depends on the processor: where things lie in guest memory, how a kernel is entered,
//! what the guest is told about its machine.

#[cfg(target_arch = "x86_64")]
pub mod x86_64;

#[cfg(not(target_arch = "x86_64"))]
compile_error!(
    "msb-vmm runs x86-64 guests on x86-64 Linux; other processors are not supported yet"
);
