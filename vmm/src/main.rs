//! `msb-vmm`: runs one virtual machine, and ends with it.

use std::process::ExitCode;

fn main() -> ExitCode {
    msb_vmm::program::main()
}
