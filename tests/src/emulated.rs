//! What tests allow for where the processor is emulated.
//!
//! In the nested machine, guests with several processors sometimes die of a triple fault or hang at
//! a random moment of their boot, whatever VMM runs them: with QEMU 10.0 as the emulator, 2 of 105
//! starts with eight processors under msb-vmm, 3 of 40 with 24, and under QEMU itself with the same
//! kernel, too. Guests with one processor do not. So a test whose subject is the number of
//! processors tries again there, says so, and fails at once everywhere else.

use std::panic::AssertUnwindSafe;

use anyhow::Result;
use futures::FutureExt;

/// How often such a test is tried in an emulated machine.
const TRIES: u32 = 4;

/// Whether the processor is emulated: `cargo xtask kvm` says so.
pub fn emulated() -> bool {
    std::env::var_os("MSB_TEST_EMULATED").is_some()
}

/// Runs a test of a guest with several processors.
pub async fn many_cpus(mut test: impl AsyncFnMut() -> Result<()>) -> Result<()> {
    let tries = if emulated() { TRIES } else { 1 };
    for again in (1..tries).rev() {
        // Tests fail by errors and by panics alike; what they hold goes with them either way.
        match AssertUnwindSafe(test()).catch_unwind().await {
            Ok(Ok(())) => return Ok(()),
            Ok(Err(error)) => eprintln!("{error:#}"),
            Err(_panic) => {}
        }
        eprintln!("the emulator may be to blame: {again} more tries");
    }
    test().await
}
