#![no_main]
//! What a kernel says of itself: any bytes as a kernel.

use std::fs::File;
use std::os::unix::fs::FileExt;

use libfuzzer_sys::fuzz_target;
use msb_runtime::kernel_config;
use rustix::fs::{MemfdFlags, memfd_create};

fuzz_target!(|bytes: &[u8]| {
    let file = File::from(memfd_create("kernel", MemfdFlags::CLOEXEC).expect("memfd"));
    file.write_all_at(bytes, 0).expect("memory");
    let _ = kernel_config::has(&file, &["CONFIG_A", "CONFIG_FS_DAX"]);
});
