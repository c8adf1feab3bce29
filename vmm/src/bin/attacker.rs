//! `msb-vmm-attacker`: a VMM that a guest has broken into. For tests alone; see `msb_vmm::attacker`.

use std::process::ExitCode;

fn main() -> ExitCode {
    msb_vmm::attacker::arm();
    msb_vmm::program::main()
}
