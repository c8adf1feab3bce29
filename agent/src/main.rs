//! `/init` of the guest.
//!
//! The entry point is C's own and not Rust's, whose start-up wants `/dev/null` to open when a
//! standard stream is missing and aborts where there is none: on a machine with no console,
//! before the first mount, that is where PID 1 finds itself.

#![no_main]
#![expect(unsafe_code, reason = "the name that the C library calls")]

use std::ffi::{c_char, c_int};

use tokio::runtime::{Builder, LocalOptions};

/// Where the kernel's first process begins. It does not return in PID 1.
// SAFETY: the C library calls the one function of this name with these arguments.
#[unsafe(no_mangle)]
pub extern "C" fn main(_count: c_int, _arguments: *const *const c_char) -> c_int {
    let began = msb_agent::boot::clock_ns();
    if std::process::id() != 1 {
        msb_agent::log::error(
            "this is the first process of a sandbox's guest (/init of its initramfs) and does \
             nothing when started by hand",
        );
        return 2;
    }
    msb_agent::boot::first_steps();
    let runtime = Builder::new_current_thread()
        .enable_all()
        .build_local(LocalOptions::default());
    match runtime {
        Ok(runtime) => runtime.block_on(msb_agent::boot::init(began)),
        Err(error) => {
            msb_agent::log::error(&format!("no event loop: {error}"));
            msb_agent::shutdown::power_off()
        }
    }
}
