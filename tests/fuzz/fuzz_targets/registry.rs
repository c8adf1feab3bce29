#![no_main]
//! What registries, token services and programs that keep credentials say, and what is in files of credentials:
//! any bytes as all of it.

use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| msb_image::registry::testing::read_hostile(bytes));
