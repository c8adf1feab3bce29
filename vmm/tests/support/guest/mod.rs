//! Guests of a few instructions, in 32-bit machine code.

pub mod driver;
#[path = "../../../src/test_support.rs"]
mod test_support;

use test_support::TinyKernel;

/// `hlt` for ever, interrupts off.
pub const SLEEP: &[u8] = &[0xfa, 0xf4, 0xeb, 0xfc];

/// The file of a kernel of this code.
pub fn kernel(code: &[u8]) -> Vec<u8> {
    TinyKernel::new(code).build()
}

/// `mov dx, port; mov al, value; out dx, al`, then sleep.
pub fn out(port: u16, value: u8) -> Vec<u8> {
    let mut code = vec![0x66, 0xba];
    code.extend(port.to_le_bytes());
    code.extend([0xb0, value, 0xee]);
    code.extend(SLEEP);
    code
}

/// `mov eax, address; mov ebx, value; mov [eax], ebx`
pub fn store(address: u32, value: u32) -> Vec<u8> {
    let mut code = vec![0xb8];
    code.extend(address.to_le_bytes());
    code.push(0xbb);
    code.extend(value.to_le_bytes());
    code.extend([0x89, 0x18]);
    code
}
